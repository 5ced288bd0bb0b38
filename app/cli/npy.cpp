#include "app/cli/npy.h"

#include "core/base/atomic_file.h"

#include <fmt/format.h>
#include <string>

namespace nibble::cli {

void writeNpy(const std::filesystem::path& path, int64_t rows, int64_t cols,
              std::span<const float> values) {
    constexpr size_t kPreamble = 10, kAlignment = 64;
    std::string header =
        fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, cols);
    const size_t used = kPreamble + header.size() + 1;
    header.append((kAlignment - used % kAlignment) % kAlignment, ' ');
    header += '\n';
    std::string preamble("\x93NUMPY\x01", 7);
    preamble += '\0';
    preamble += static_cast<char>(header.size() & 0xff);
    preamble += static_cast<char>(header.size() >> 8);

    AtomicFile file(path);
    file.write(preamble + header);
    file.write(std::as_bytes(values));
    file.commit();
}

} // namespace nibble::cli
