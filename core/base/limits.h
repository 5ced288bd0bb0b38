#pragma once

#include <cstdint>

/// Every bound on what a file may ask for, in one place. A file beyond a limit is refused with a
/// sentence that names it.
namespace nibble::limits {

inline constexpr uint64_t kMetadataEntries = 65'536;
inline constexpr uint64_t kTensors = 262'144;
inline constexpr uint64_t kNameBytes = 255;
inline constexpr uint64_t kKeyBytes = 65'535;
inline constexpr uint64_t kStringBytes = 64ull << 20;
inline constexpr uint64_t kArrayElements = 16ull << 20;
inline constexpr uint64_t kTensorElements = 1ull << 48;
inline constexpr uint64_t kMinAlignment = 8, kMaxAlignment = 65'536;
inline constexpr uint64_t kSafetensorsHeaderBytes = 100'000'000;
inline constexpr uint64_t kJsonBytes = 256ull << 20;
inline constexpr int kJsonDepth = 64;
inline constexpr uint64_t kShards = 4'096;
inline constexpr uint64_t kVocabulary = 4ull << 20;
inline constexpr uint64_t kTokenBytes = 65'536;
inline constexpr uint64_t kMerges = 8ull << 20;
inline constexpr uint64_t kTextBytes = 1ull << 30;
inline constexpr int kLayers = 4'096;
inline constexpr int64_t kWidth = 1 << 20;
inline constexpr int64_t kExperts = 1'024;
inline constexpr int64_t kConvolutionTaps = 32;
inline constexpr uint64_t kTemplateBytes = 1 << 20;
inline constexpr int kTemplateParseDepth = 100;
inline constexpr int kTemplateChain = 400;      ///< operations in a row, as in a + b + c…
inline constexpr int kTemplateCallDepth = 64;   ///< macros and recursive loops
inline constexpr int kTemplateRunDepth = 1'000; ///< of everything inside each other
inline constexpr int kTemplateValueDepth = 100; ///< lists in lists
inline constexpr int64_t kTemplateRange = 100'000;
inline constexpr int64_t kTemplateSteps = 10'000'000;
inline constexpr double kTemplateSeconds = 2;
inline constexpr uint64_t kTemplateOutput = 16 << 20;
inline constexpr int64_t kTemplateMemory = 256 << 20;
inline constexpr uint32_t kRegexMatchLimit = 10'000'000;
inline constexpr uint32_t kRegexDepthLimit = 10'000'000;

} // namespace nibble::limits
