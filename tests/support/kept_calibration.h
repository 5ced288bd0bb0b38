#pragma once

#include <QTemporaryDir>

namespace nibble::test {

/// A cache folder for this process and its children, while it lives, with the sample's calibration
/// in it, as a second run of the program finds it. Making it takes half a minute: ctest makes it
/// once for all tests that say FIXTURES_REQUIRED=calibration; elsewhere it is made when needed.
class KeptCalibration {
public:
    KeptCalibration();
    ~KeptCalibration();
    KeptCalibration(const KeptCalibration&) = delete;
    KeptCalibration& operator=(const KeptCalibration&) = delete;

    QString filePath(const QString& name) const { return m_folder.filePath(name); }

private:
    QTemporaryDir m_folder;
    QByteArray m_before; ///< of XDG_CACHE_HOME
};

} // namespace nibble::test
