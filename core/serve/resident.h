#pragma once

#include <cstdint>

namespace nibble {

/// Resident bytes of this process now, from the operating system; 0 where it does not tell.
uint64_t residentBytes();
/// The most that has been resident since the process began, or since resetPeakResident().
uint64_t peakResidentBytes();
/// Starts peakResidentBytes() again from what is resident now, where the system allows it.
void resetPeakResident();

} // namespace nibble
