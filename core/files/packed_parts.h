#pragma once

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/files/packings.h"

#include <fmt/format.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

/// What the packings share.
namespace nibble {

/// Thrown for a kind of quantized weight that is understood but not read: the folder then opens
/// for inspection only.
class UnreadPacking : public Error {
public:
    explicit UnreadPacking(const std::string& sentence) : Error(ErrorKind::BadInput, sentence) {}
};

/// The tensors of one packed weight and the folder's quantizer configuration. Every refusal names
/// the file, the tensor, what was found, what was expected, and what to do.
class PackedParts {
public:
    PackedParts(const Checkpoint& checkpoint, std::string stem)
        : m_checkpoint(checkpoint), m_stem(std::move(stem)) {}

    const std::string& stem() const { return m_stem; }
    const Metadata& metadata() const { return m_checkpoint.metadata; }
    std::string key(const char* name) const { return fmt::format("{}{}", kQuantizerConfig, name); }

    /// The tensor stem + suffix, which becomes a part of the weight, or null.
    const TensorInfo* find(const std::string& suffix);
    /// The same; it must be there, with values, and of one of these types.
    const TensorInfo& get(const std::string& suffix, std::initializer_list<const char*> types);
    /// A tensor of exactly this shape.
    void require(const TensorInfo& part, std::initializer_list<int64_t> dims) const;

    /// "model.safetensors folder: tensor "P.scales" has …, where … is expected. …"
    [[noreturn]] void damaged(const std::string& tensor, const std::string& found,
                              const std::string& expected) const;
    /// The same of a key of the configuration.
    [[noreturn]] void badConfig(const std::string& key, const std::string& expected) const;
    [[noreturn]] void unread(const std::string& what) const;

    const std::vector<std::string>& used() const { return m_used; }
    uint64_t bytes() const { return m_bytes; }
    std::string source() const;

private:
    const Checkpoint& m_checkpoint;
    std::string m_stem;
    std::vector<std::string> m_used;
    uint64_t m_bytes = 0;
};

/// The integer format of a file's groups: `group` values share a scale of type `scales`; 0 = the
/// whole row. Groups of more than 256 become several with the same scale. Null when none fits.
const Format* packedFormat(int bits, int64_t group, bool zeros, const BlockType& scales);

/// Scale number `index` of a tensor of f16, bf16 or f32 as the bits that `format` stores: exact.
uint32_t packedScale(const TensorInfo& scales, int64_t index, const Format& format);
/// The other way: a format's raw scale as f16 bits (exact from f16, rounded from f32).
uint16_t halfScale(const Format& format, uint32_t raw);

/// Stored code of `format` from a number that counts from 0, and back.
inline uint8_t storedCode(const Format& format, uint32_t code) {
    return static_cast<uint8_t>(format.bits == 8 ? code ^ 0x80u : code);
}

template <typename T>
T loadAt(const Bytes& bytes, int64_t index) {
    T value;
    std::memcpy(&value, bytes.data() + static_cast<size_t>(index) * sizeof(T), sizeof(T));
    return value;
}

/// Field number `index` of `bits` bits in 32-bit words that lie `stride` words apart from word
/// `first` on, low bits first; fields of 3 bits reach over the ends of words.
inline uint32_t loadField(const Bytes& words, int64_t first, int64_t stride, int64_t index,
                          int bits) {
    const int64_t bit = index * bits, word = bit / 32;
    const int shift = static_cast<int>(bit % 32);
    uint32_t value = loadAt<uint32_t>(words, first + word * stride) >> shift;
    if (shift + bits > 32)
        value |= loadAt<uint32_t>(words, first + (word + 1) * stride) << (32 - shift);
    return value & ((1u << bits) - 1);
}
inline void storeField(uint32_t* words, int64_t stride, int64_t index, int bits, uint32_t value) {
    const int64_t bit = index * bits, word = bit / 32;
    const int shift = static_cast<int>(bit % 32);
    words[word * stride] |= value << shift;
    if (shift + bits > 32)
        words[(word + 1) * stride] |= value >> (32 - shift);
}

/// Columns sorted by their group, as Tensor::columnOrder; null when they already are. `groups[i]`
/// is the group of column i. Error through `parts` unless every group has `size` columns (the last
/// may have fewer).
std::shared_ptr<const std::vector<int32_t>> orderOfGroups(const std::vector<int32_t>& groups,
                                                          int64_t size, int64_t count,
                                                          const std::string& source,
                                                          const std::string& tensor);

/// Integer planes as packings see them: the code of every value counted from 0, in the order of the
/// values' columns, and a group's zero point in the same count.
void plainCodes(const Tensor& tensor, int64_t row, uint8_t* out);
uint32_t plainZero(const Tensor& tensor, int64_t row, int64_t group);

/// Why no packing of integers in groups holds this, or empty. `widths` in bits.
std::string refuseGroups(const Format& format, std::initializer_list<int> widths, int64_t cols);

} // namespace nibble
