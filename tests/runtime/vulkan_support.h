#pragma once

#include "core/runtime/vulkan/vulkan_backend.h"
#include "tests/runtime/run_support.h"

#include <QByteArray>
#include <QTest>

#include <filesystem>

namespace nibble::test {

/// The software device that tests run on, chosen before the loader looks; null when it is absent.
/// NIBBLE_TEST_ICD names another driver than lavapipe.
inline std::shared_ptr<Backend> openLavapipe() {
    const QByteArray icd = qEnvironmentVariableIsSet("NIBBLE_TEST_ICD")
                               ? qgetenv("NIBBLE_TEST_ICD")
                               : "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
    if (!std::filesystem::exists(icd.toStdString()))
        return nullptr;
    qputenv("VK_ICD_FILENAMES", icd);
    return listVulkanDevices().empty() ? nullptr : openVulkan(0);
}

} // namespace nibble::test

/// Skips visibly where there is no software Vulkan device.
#define NIBBLE_NEED_LAVAPIPE(backend)                                                              \
    const auto backend = nibble::test::openLavapipe();                                             \
    if (!backend)                                                                                  \
    QSKIP("no lavapipe driver (package mesa-vulkan-drivers)")
