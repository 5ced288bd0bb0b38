#pragma once

#include "tests/support/vulkan_layer/vulkan_layer.h"

/// Between the files of the layer.
namespace nibble::test {

/// Counts a call; VK_SUCCESS, or what it must return instead of being made.
int nextCall(VulkanCall call);
/// Takes faults and limits from the environment, once.
void readLayerEnvironment();
void writeLayerReport();
void forgetExecuted();

} // namespace nibble::test
