#include "tests/support/shared_data.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace nibble::test {

std::filesystem::path sharedPath(const char* relative) {
    if (const char* folder = std::getenv("NIBBLE_SHARED_DIR"))
        return std::filesystem::path(folder) / relative;
    return std::filesystem::path(NIBBLE_SOURCE_DIR) / ".." / "shared" / relative;
}

std::filesystem::path sourcePath(const char* relative) {
    return std::filesystem::path(NIBBLE_SOURCE_DIR) / relative;
}

Npy readNpy(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    const std::string file = text.str();
    if (file.size() < 10 || file.compare(0, 6, "\x93NUMPY") != 0)
        throw std::runtime_error("not a .npy file: " + path.string());
    const size_t header =
        static_cast<unsigned char>(file[8]) + 256u * static_cast<unsigned char>(file[9]);
    const std::string description = file.substr(10, header);
    if (description.find("<f4") == std::string::npos)
        throw std::runtime_error("not float32: " + path.string());
    Npy npy;
    size_t at = description.find("'shape'");
    at = description.find('(', at) + 1;
    std::stringstream shape(description.substr(at, description.find(')', at) - at));
    for (std::string part; std::getline(shape, part, ',');)
        if (part.find_first_of("0123456789") != std::string::npos)
            npy.shape.push_back(std::stoll(part));
    npy.values.resize((file.size() - 10 - header) / 4);
    std::memcpy(npy.values.data(), file.data() + 10 + header, npy.values.size() * 4);
    return npy;
}

double relativeError(const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size())
        return std::numeric_limits<double>::infinity();
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
        norm += double(b[i]) * b[i];
    }
    return std::sqrt(difference / norm);
}

} // namespace nibble::test
