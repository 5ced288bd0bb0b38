#pragma once

#include "core/base/progress.h"
#include "core/runtime/backend.h"

#include <string>
#include <vector>

namespace nibble {

/// One kernel path checked against the scalar reference.
struct DoctorCheck {
    std::string path; ///< "matmul int4_g32 × int8 block 32, M 1, dot"
    bool passed = false;
    double error = 0, bound = 0; ///< largest error relative to its derived bound's scale
    double milliseconds = 0;
    std::string note; ///< what differs, and that the path is switched off
};

struct DoctorReport {
    DeviceInfo device;
    std::vector<DoctorCheck> checks;
    double seconds = 0;
    int failed() const;
};

/// Known-answer test of every kernel path of a device, in seconds; failed paths are switched off on
/// this backend object, so that a slower correct one takes their place.
DoctorReport runDoctor(Backend& backend, const Progress& progress = {});

} // namespace nibble
