#pragma once

#include "tests/support/vulkan_layer/vulkan_layer.h"

#include <QByteArray>
#include <QTest>

#include <filesystem>

namespace nibble::test {

/// Makes the loader put the layer into every instance of this process and of those it starts, on
/// the software device; false where there is none. To be called before a device is opened.
inline bool useVulkanLayer() {
    constexpr const char* kIcd = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
    if (!std::filesystem::exists(kIcd))
        return false;
    qputenv("VK_ICD_FILENAMES", kIcd);
    qputenv("VK_ADD_LAYER_PATH", NIBBLE_LAYER_FOLDER);
    qputenv("VK_INSTANCE_LAYERS", "VK_LAYER_NIBBLE_test");
    vulkanLayer().reset();
    return true;
}

} // namespace nibble::test

/// Skips visibly where there is no software Vulkan device.
#define NIBBLE_NEED_LAYER()                                                                        \
    if (!nibble::test::useVulkanLayer())                                                           \
    QSKIP("no lavapipe driver (package mesa-vulkan-drivers)")
