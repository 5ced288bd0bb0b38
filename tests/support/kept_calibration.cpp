#include "tests/support/kept_calibration.h"

#include "core/base/cache_folder.h"

#include <filesystem>

namespace nibble::test {

KeptCalibration::KeptCalibration() : m_before(qgetenv("XDG_CACHE_HOME")) {
    if (!m_folder.isValid())
        qFatal("no temporary folder can be made");
    qputenv("XDG_CACHE_HOME", m_folder.path().toUtf8());
    const auto from = std::filesystem::path(qgetenv("NIBBLE_TEST_CACHE").toStdString()) / "nibble" /
                      "calibrations";
    if (from.is_absolute() && std::filesystem::is_directory(from))
        std::filesystem::copy(from, cacheFolder() / "calibrations",
                              std::filesystem::copy_options::recursive);
}

KeptCalibration::~KeptCalibration() {
    qputenv("XDG_CACHE_HOME", m_before);
}

} // namespace nibble::test
