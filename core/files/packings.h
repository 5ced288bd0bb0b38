#pragma once

#include "core/files/checkpoint.h"

#include <functional>
#include <span>
#include <string>
#include <vector>

/// Folders of other quantizers keep the weight "P.weight" of a linear layer as several tensors
/// ("P.qweight", "P.scales", …): packed codes, scales, zero points. A packing says which, turns
/// them into canonical planes with the same codes and scales, and writes planes as such tensors.
namespace nibble {

/// Where the metadata of a folder has what config.json says of its quantizer.
inline constexpr char kQuantizerConfig[] = "quantization_config.";

/// A weight that a folder keeps in several tensors. Its shapes are checked when the folder is
/// opened; `load` checks what only the values tell (zero points, order of columns).
struct PackedWeight {
    const Format* format = nullptr;
    int64_t rows = 0, cols = 0; ///< of all experts
    int64_t experts = 1;
    uint64_t bytes = 0; ///< of all its tensors
    Bytes codes;        ///< as they are stored, for what tells files apart
    /// The folder was made for activations of 8 bits with one scale a token, or with one scale that
    /// `load` puts into Tensor::inputScale.
    bool tokenActivations = false, staticActivations = false;
    /// A sentence on what of the folder is not used; empty as a rule.
    std::string note;
    std::function<Tensor(const std::string& name)> load;
    /// Rows first, first + step, … (`count` of them) alone, where that spares loading all; or null.
    std::function<Tensor(const std::string& name, int64_t first, int64_t count, int64_t step)>
        loadRows = {};
};

class PackedParts;

/// One way to keep a weight: a row in packings() and a file of its own.
struct Packing {
    const char* method; ///< quantization_config.quant_method
    const char* marker; ///< what the name of a tensor ends with that only such weights have
    BlockType type;     ///< what lists call the stored form
    /// Shape and planes of one weight; Error{BadInput} naming file, tensor and field.
    PackedWeight (*read)(PackedParts& parts);
    const char* suffix = ".weight"; ///< of the weight's name
};
std::span<const Packing> packings();

/// Puts one tensor ("P.weight" as a rule) in the place of each packed weight's tensors. What cannot
/// be run is left as it is, and Checkpoint::unsupported says why.
void unpackWeights(Checkpoint& checkpoint);

/// A tensor of a packed weight to be written: "P" + suffix.
struct PackedPart {
    const char* suffix;
    const char* dtype; ///< of safetensors
    std::vector<int64_t> dims;
};

/// How planes are written as a packing's tensors. `ordered`: the tensor has a column order.
struct PackingWriter {
    const char* name;
    /// Why a tensor cannot be written so, as the end of a sentence, or empty.
    std::string (*refuses)(const Format& format, int64_t rows, int64_t cols, bool ordered);
    std::vector<PackedPart> (*parts)(const Format& format, int64_t rows, int64_t cols,
                                     bool ordered);
    /// The parts' bytes in the same order; Error{Usage} for values that the packing cannot hold.
    std::vector<Bytes> (*pack)(const Tensor& tensor);
};
extern const PackingWriter kGptqWriter, kAwqWriter, kPackQuantizedWriter, kIntQuantizedWriter,
    kStaticIntQuantizedWriter;

} // namespace nibble
