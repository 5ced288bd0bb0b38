#include "core/model/architectures.h"

#include <array>

namespace nibble {

std::span<const Architecture* const> architectures() {
    static constexpr std::array kAll{
        &kLlama,  &kMistral, &kMixtral, &kQwen2, &kQwen2Moe, &kQwen3, &kQwen3Moe, &kGemma, &kGemma2,
        &kGemma3, &kPhi3,    &kGranite, &kOlmo2, &kSmollm3,  &kGpt2,  &kGptOss,   &kLfm2,
    };
    return kAll;
}

const Architecture* findArchitecture(std::string_view name) {
    for (const Architecture* a : architectures())
        if (name == a->name)
            return a;
    return nullptr;
}

bool readLayerTypes(const Metadata& metadata, ModelConfig& config, int32_t window) {
    const auto* types = metadata.findStrings("layer_types");
    if (!types || types->size() != config.perLayer.size())
        return false;
    for (size_t i = 0; i < types->size(); ++i)
        config.perLayer[i].window = (*types)[i] == "sliding_attention" ? window : 0;
    return true;
}

} // namespace nibble
