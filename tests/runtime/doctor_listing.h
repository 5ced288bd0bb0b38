#pragma once

#include "core/runtime/doctor.h"

#include <QByteArray>

namespace nibble::test {

/// What failed, a line each.
inline QByteArray listing(const DoctorReport& report) {
    QByteArray text;
    for (const DoctorCheck& check : report.checks)
        if (!check.passed)
            text += QByteArray::fromStdString(check.path) + " " + QByteArray::number(check.error) +
                    " > " + QByteArray::number(check.bound) + " " +
                    QByteArray::fromStdString(check.note) + "\n";
    return text;
}

} // namespace nibble::test
