#pragma once

#include "tests/support/shared_data.h"

#include <fstream>
#include <iterator>
#include <string>

namespace nibble::test {

inline std::string readWhole(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

} // namespace nibble::test
