#pragma once

#include "core/files/metadata.h"
#include "core/tensor/statistics.h"
#include "core/tensor/tensor.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace nibble {

/// How a file stores a tensor: one row per GGUF type or safetensors dtype (block_types.cpp). Its
/// values become planes of `format` on one of three routes: as they lie (floats), by `toPlanes` and
/// back, or decoded at load (`decode`: lattices, which no Format describes; they run as a float
/// format and are not written). `format` is null for types that can only be listed.
struct BlockType {
    const char* name;     ///< "q4_k", "f16", "iq3_xxs", …
    int ggufType;         ///< ggml_type number, or -1
    const char* dtype;    ///< safetensors dtype ("F16", "BF16", …), or null
    const Format* format; ///< what its tensors run as, or null
    uint32_t blockValues; ///< values a block
    uint32_t blockBytes;  ///< bytes a block
    /// One row of `count` blocks into row `row` of the builder, and back, both bit-exact.
    void (*toPlanes)(const std::byte* blocks, int64_t row, int64_t count,
                     TensorBuilder& out) = nullptr;
    void (*toBlocks)(const Tensor& tensor, int64_t row, std::byte* blocks) = nullptr;
    /// The exact values of `count` blocks.
    void (*decode)(const std::byte* blocks, int64_t count, float* values) = nullptr;
    /// What they run as when the file has factors beside them (TensorInfo::factors).
    const Format* factoredFormat = nullptr;
};
std::span<const BlockType> blockTypes();
const BlockType* findBlockType(int ggufType);
/// The block type that holds exactly `format` in a GGUF file, or null when no engine's type does.
const BlockType* blockTypeOf(const Format& format);
/// The block type of a GGUF file whose values are those of `format`, be its name another (int4_g32
/// is q4_0): the same codes, scales and offsets; or null.
const BlockType* blockTypeHolding(const Format& format);

struct PackedWeight;

/// A tensor in a file, or several that stand for one (`packed`). dims are outermost first
/// ([experts,] rows, cols; a vector has one).
struct TensorInfo {
    std::string name;
    std::vector<int64_t> dims;
    const BlockType* type = nullptr;
    Bytes bytes;         ///< the stored bytes
    bool mapped = false; ///< they are a file's mapping, so that loading may release their pages

    /// Stored beside it, one or one for each expert, and multiplied with its values (NVFP4).
    std::vector<float> factors = {};
    /// Of such factors and of what only other engines use: the tensor that they belong to.
    std::string owner = {};
    /// Set for a weight that other quantizers keep as packed codes, scales and zero points
    /// (packings.h); `bytes` is empty then.
    std::shared_ptr<const PackedWeight> packed = {};

    /// What loadTensor gives; null when it refuses.
    const Format* format() const;
    /// "q4_k"; where it runs as something else, both: "iq3_s, runs as f16"; "int4_g128 (gptq)".
    std::string storedText() const;
    uint64_t storedBytes() const;
    int64_t cols() const { return dims.empty() ? 1 : dims.back(); }
    int64_t experts() const { return dims.size() > 2 ? dims[0] : 1; }
    int64_t values() const;
    int64_t rows() const { return cols() == 0 ? 0 : values() / cols(); }
};

/// An opened model on disk: metadata and named tensors, memory-mapped and immutable. Opening
/// reads only the headers.
struct Checkpoint {
    enum class Container { Gguf, Safetensors, Memory };

    std::filesystem::path path;
    Container container = Container::Gguf;
    Metadata metadata;
    std::vector<TensorInfo> tensors;     ///< in file order
    std::filesystem::path tokenizerFile; ///< findTokenizerFile of a folder; may be empty
    uint64_t fileBytes = 0;
    /// Why the weights of a folder cannot be run although they are whole: a sentence, or empty.
    std::string unsupported;

    const TensorInfo* find(std::string_view name) const;
    /// Throws Error{BadInput} naming the file and the tensor.
    const TensorInfo& get(std::string_view name) const;
    /// One sentence on the tensors that run as something else than they are stored as, or on what
    /// of the file is not used; empty when there are none.
    std::string conversionNote() const;
    /// Built by the opener: name → index; also the other names of tensors that safetensors store
    /// once.
    std::map<std::string, size_t, std::less<>> byName;
};

/// The file that holds a folder's tokenizer: tokenizer.json, else tokenizer.model (SentencePiece),
/// else vocab.json or encoder.json where the merges lie beside it. Empty where there is none.
std::filesystem::path findTokenizerFile(const std::filesystem::path& folder);

/// Opens a GGUF file (v2, v3; all its shards when it is one of several) or a folder with
/// config.json and safetensors. Every size is checked against the file first. Error{BadInput}
/// otherwise.
std::shared_ptr<const Checkpoint> openCheckpoint(const std::filesystem::path& path);

/// The tensor in canonical planes: floats are views of the mapping, block types are transcoded or
/// decoded (in parallel) and the source pages released. Types without a Format: Error{BadInput}.
Tensor loadTensor(const TensorInfo& info);
/// The same values some rows at a time, for looking at tensors of any size: what is decoded stays
/// small, and the file's pages are let go. Packed weights are loaded whole. Keeps the file open.
RowSource storedRows(const TensorInfo& info);

/// A tensor to be written, in GGUF dimension order given by `dims` as in TensorInfo.
struct GgufTensor {
    std::string name;
    std::vector<int64_t> dims;
    const BlockType* type;
    uint64_t bytes;
};

/// Writes a GGUF v3 file: metadata, tensor table, then each tensor's stored bytes in order as
/// `produce(index)` gives them, so that only one is in memory at a time. Atomic (AtomicFile).
void writeGguf(const std::filesystem::path& path, const Metadata& metadata,
               std::span<const GgufTensor> tensors,
               const std::function<Bytes(size_t index)>& produce);
/// Puts some of a tensor's stored bytes into the file; called from any thread.
using PutBytes = std::function<void(uint64_t offset, std::span<const std::byte> bytes)>;
/// The same where `produce(index, put)` may also put all of a tensor's bytes itself, and give none.
void writeGgufInParts(const std::filesystem::path& path, const Metadata& metadata,
                      std::span<const GgufTensor> tensors,
                      const std::function<Bytes(size_t index, const PutBytes& put)>& produce);

/// A tensor to be written to a safetensors file.
struct SafetensorsTensor {
    std::string name;
    std::string dtype; ///< "F16", "I32", …
    std::vector<int64_t> dims;
    uint64_t bytes;
};

/// Writes a safetensors file, likewise one tensor at a time and atomic. Readers that map the file
/// want each tensor's offset to be a multiple of its value's size: the caller orders them so.
void writeSafetensors(const std::filesystem::path& path,
                      const std::map<std::string, std::string>& metadata,
                      std::span<const SafetensorsTensor> tensors,
                      const std::function<Bytes(size_t index)>& produce);

/// The stored bytes of a tensor as block type `type` (its format must be type.format).
Bytes toStoredBytes(const Tensor& tensor, const BlockType& type);

} // namespace nibble
