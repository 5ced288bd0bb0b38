#include "core/serve/resident.h"

#include <fstream>
#include <string>
#include <unistd.h>

namespace nibble {

uint64_t residentBytes() {
    std::ifstream statm("/proc/self/statm");
    uint64_t size = 0, resident = 0;
    statm >> size >> resident;
    return statm ? resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

uint64_t peakResidentBytes() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (word == "VmHWM:") {
            uint64_t kibibytes = 0;
            status >> kibibytes;
            return kibibytes << 10;
        }
    return residentBytes();
}

void resetPeakResident() {
    std::ofstream("/proc/self/clear_refs") << 5;
}

} // namespace nibble
