#pragma once

#include "core/files/checkpoint.h"

/// The containers behind openCheckpoint, one source file each.
namespace nibble {

using CheckpointPointer = std::shared_ptr<const Checkpoint>;

/// A GGUF file whose bytes are already mapped; its other shards are found beside it.
CheckpointPointer openGguf(const std::filesystem::path& path, const Bytes& file);

/// A folder with *.safetensors, config.json and tokenizer.json.
CheckpointPointer openSafetensorsFolder(const std::filesystem::path& folder);

/// One .safetensors file; config.json and tokenizer.json are taken from its folder when present.
CheckpointPointer openSafetensorsFile(const std::filesystem::path& path);

/// One safetensors file, checked: its tensors in the order of their data, and the names of shared
/// tensors that were stored once ("__metadata__": {"model.embed_tokens.weight": "lm_head.weight"}).
struct SafetensorsContents {
    std::vector<TensorInfo> tensors;
    std::map<std::string, std::string> metadata;
};
SafetensorsContents readSafetensors(const std::filesystem::path& path, const Bytes& file);

/// Adds a tensor, or Error{BadInput} when the checkpoint already has one of that name.
void addTensor(Checkpoint& checkpoint, TensorInfo info, const std::filesystem::path& file);

/// Gives each tensor the factors that the file stores beside it, and those tensors their owner.
/// Error{BadInput} for factors of another type, count or value than expected.
void pairFactors(Checkpoint& checkpoint);

/// A tensor whose type can have factors, its scales multiplied by them: each group's product is
/// rounded once to f32, all else is exact.
Tensor withFactors(Tensor tensor, const TensorInfo& info);

/// Why a file that is neither GGUF nor safetensors is refused: what it looks like and what is
/// accepted instead.
[[noreturn]] void refuseForeign(const std::filesystem::path& path, std::span<const std::byte> head);

/// Whether the name belongs to Python pickles (.bin, .pt, .pth, .ckpt, .pkl), which are never
/// opened.
bool isPickleName(const std::filesystem::path& path);

/// Product of sizes, at most limits::kTensorElements; Error{BadInput} naming file and tensor.
int64_t checkedValues(std::span<const int64_t> dims, const std::filesystem::path& file,
                      std::string_view tensor);

} // namespace nibble
