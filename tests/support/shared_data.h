#pragma once

#include <QString>
#include <filesystem>
#include <vector>

namespace nibble::test {

/// A path under the folder of other engines' answers and small models, which lies beside a
/// developer's checkout and never ships (NIBBLE_SHARED_DIR overrides where).
std::filesystem::path sharedPath(const char* relative);

/// A path under the source tree.
std::filesystem::path sourcePath(const char* relative);

/// float32 .npy as values and shape.
struct Npy {
    std::vector<int64_t> shape;
    std::vector<float> values;
};
Npy readNpy(const std::filesystem::path& path);

/// ‖a − b‖ / ‖b‖ over all values; infinite when sizes differ.
double relativeError(const std::vector<float>& a, const std::vector<float>& b);

} // namespace nibble::test

/// Skips the running test, visibly, where the shared folder is absent.
#define NIBBLE_NEED_SHARED(relative)                                                               \
    if (!std::filesystem::exists(nibble::test::sharedPath(relative)))                              \
    QSKIP(qPrintable(QStringLiteral("shared data absent: ") + relative))
