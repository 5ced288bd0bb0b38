#include "core/base/error.h"
#include "core/files/openers.h"
#include "core/tensor/planes.h"

#include <bit>
#include <cmath>
#include <cstring>

/// NVFP4's second scale: beside "NAME.weight" a GGUF file holds "NAME.scale" (some converters:
/// "NAME.weight.scale"), one f32 or one for each expert, that multiplies the weights (llama.cpp
/// multiplies the product instead). "NAME.input_scale" is a calibrated scale of 4-bit activations,
/// which are not used here.
namespace nibble {
namespace {

std::vector<float> readFactors(const Checkpoint& checkpoint, const TensorInfo& scale,
                               const TensorInfo& weight) {
    const auto refuse = [&](const std::string& why) {
        fail(ErrorKind::BadInput,
             "{}: \"{}\" {}, where the scale of \"{}\" is expected: one 32-bit float, or one for "
             "each expert. The file is damaged or hostile.",
             printable(checkpoint.path.filename().string()), printable(scale.name), why,
             printable(weight.name));
    };
    if (std::string_view(scale.type->name) != "f32")
        refuse(fmt::format("is of type {}", scale.type->name));
    if (scale.values() != 1 && scale.values() != weight.experts())
        refuse(fmt::format("holds {} values", scale.values()));
    std::vector<float> factors(static_cast<size_t>(scale.values()));
    std::memcpy(factors.data(), scale.bytes.data(), factors.size() * sizeof(float));
    for (const float factor : factors)
        if (!std::isfinite(factor))
            refuse(fmt::format("holds {}", factor));
    return factors;
}

} // namespace

void pairFactors(Checkpoint& checkpoint) {
    constexpr std::string_view kWeight = ".weight";
    for (TensorInfo& weight : checkpoint.tensors) {
        if (!weight.type->factoredFormat || !weight.name.ends_with(kWeight))
            continue;
        const std::string stem = weight.name.substr(0, weight.name.size() - kWeight.size());
        const auto sidecar = [&](const std::string& name) -> TensorInfo* {
            const auto at = checkpoint.byName.find(name);
            return at == checkpoint.byName.end() ? nullptr : &checkpoint.tensors[at->second];
        };
        for (const std::string& base : {stem, weight.name}) {
            if (TensorInfo* scale = sidecar(base + ".scale"); scale && weight.factors.empty()) {
                weight.factors = readFactors(checkpoint, *scale, weight);
                scale->owner = weight.name;
            }
            if (TensorInfo* unused = sidecar(base + ".input_scale"))
                unused->owner = weight.name;
        }
    }
}

Tensor withFactors(Tensor tensor, const TensorInfo& info) {
    const int64_t groups = tensor.format->groupCount(tensor.cols);
    const int64_t expertRows = tensor.rows / static_cast<int64_t>(info.factors.size());
    std::vector<uint32_t> scales(static_cast<size_t>(tensor.rows * groups));
    for (int64_t row = 0; row < tensor.rows; ++row) {
        const float factor = info.factors[static_cast<size_t>(row / expertRows)];
        for (int64_t group = 0; group < groups; ++group)
            scales[static_cast<size_t>(row * groups + group)] = std::bit_cast<uint32_t>(
                factor * e4m3ToFloat(static_cast<uint8_t>(rawScale(tensor, row, group))));
    }
    tensor.scales = Bytes::of(std::move(scales));
    tensor.format = info.type->factoredFormat;
    return tensor;
}

} // namespace nibble
