#pragma once

#include "core/files/packings.h"

/// The readers of packings(), each in the file of its packing.
namespace nibble {

PackedWeight readGptq(PackedParts& parts);
PackedWeight readAwq(PackedParts& parts);
PackedWeight readPackQuantized(PackedParts& parts);
PackedWeight readIntQuantized(PackedParts& parts);
PackedWeight readNf4(PackedParts& parts);
PackedWeight readFp4(PackedParts& parts);
PackedWeight readLlmInt8(PackedParts& parts);
PackedWeight readMxfp4(PackedParts& parts);

} // namespace nibble
