#include "core/tensor/tensor.h"

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/parallel.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

namespace nibble {
namespace {

/// Rows handed to one thread at a time hold about this many values.
constexpr int64_t kChunkValues = 1 << 16;

size_t rowGrain(int64_t cols) {
    return static_cast<size_t>(std::max<int64_t>(1, kChunkValues / std::max<int64_t>(1, cols)));
}

/// The 32 codes of one record, planes joined; values beyond the row's end included (zero).
void unpackBlock(const Tensor& t, int64_t record, uint8_t* codes) {
    const int low = t.format->lowBits(), high = t.format->highBits();
    const auto* bytes = reinterpret_cast<const uint8_t*>(t.codes.data());
    std::memset(codes, 0, 32);
    unpackRecord(low, bytes + record * low * 4, 0, codes);
    if (high != 0)
        unpackRecord(high, bytes + lowPlaneWords(t) * 4 + record * high * 4, low, codes);
}

void decodeFloats(const Tensor& t, int64_t first, int64_t count, float* out) {
    if (t.format->code == CodeKind::Float32) {
        std::memcpy(out, t.codes.data() + first * 4, static_cast<size_t>(count) * 4);
        return;
    }
    const auto* bits = t.codes.as<uint16_t>().data() + first;
    if (t.format->code == CodeKind::Float16)
        std::transform(bits, bits + count, out, halfToFloat);
    else
        std::transform(bits, bits + count, out, bfloatToFloat);
}

void scaleUniform(bool isSigned, const uint8_t* codes, int64_t count, float scale, int zero,
                  float* out) {
    if (isSigned)
        for (int64_t i = 0; i < count; ++i)
            out[i] = scale * static_cast<float>(static_cast<int8_t>(codes[i]) - zero);
    else
        for (int64_t i = 0; i < count; ++i)
            out[i] = scale * static_cast<float>(static_cast<int>(codes[i]) - zero);
}

/// One row of a quantized tensor. Products of scale and code are exact in float32 for every format
/// with narrow scales; double is needed only where a scale alone exceeds float32 (E8M0 of 255).
void decodeRow(const Tensor& t, int64_t row, float* out) {
    const Format& f = *t.format;
    const int64_t groupLength = f.groupLength(t.cols);
    const bool hasOffset = f.offset == OffsetKind::Value || f.offset == OffsetKind::Code;
    uint8_t codes[32];
    float table[16];
    GroupValues group;
    int64_t groupEnd = 0;
    for (int64_t block = 0; block < t.blocks(); ++block) {
        unpackBlock(t, row * t.blocks() + block, codes);
        const int64_t end = std::min(t.cols, block * 32 + 32);
        for (int64_t at = block * 32; at < end;) {
            if (at == groupEnd) {
                group = groupValues(t, row, at / groupLength);
                groupEnd += groupLength;
                if (f.table)
                    for (size_t c = 0; c < 16; ++c)
                        table[c] = static_cast<float>(group.scale * f.table->exact[c]);
            }
            const int64_t runEnd = std::min(end, groupEnd);
            const uint8_t* run = codes + (at - block * 32);
            if (f.table)
                for (int64_t i = 0; i < runEnd - at; ++i)
                    out[at + i] = table[run[i] & 15];
            else
                scaleUniform(f.bits == 8, run, runEnd - at,
                             static_cast<float>(f.unit * group.scale), group.zero, out + at);
            // Adding zero where there is no offset would turn −0 into +0.
            if (hasOffset)
                for (int64_t i = at; i < runEnd; ++i)
                    out[i] += group.offset;
            at = runEnd;
        }
    }
}

[[noreturn]] void outOfMemory(const std::string& name, uint64_t bytes) {
    fail(ErrorKind::OutOfMemory, "Tensor \"{}\" needs {:.1f} GB of memory, which is not there.",
         printable(name), static_cast<double>(bytes) * 1e-9);
}

} // namespace

uint64_t Tensor::planeBytes() const {
    return codes.size() + scales.size() + superScales.size() + offsets.size() + superOffsets.size();
}

uint64_t Tensor::storedBytes() const {
    const double rowBits = format->bitsPerWeight(cols) * static_cast<double>(cols);
    return (static_cast<uint64_t>(std::llround(rowBits)) * static_cast<uint64_t>(rows) + 7) / 8;
}

void decodeRows(const Tensor& tensor, int64_t begin, int64_t end, float* out) {
    if (tensor.format->isFloat()) {
        decodeFloats(tensor, begin * tensor.cols, (end - begin) * tensor.cols, out);
        return;
    }
    for (int64_t row = begin; row < end; ++row)
        decodeRow(tensor, row, out + (row - begin) * tensor.cols);
}

std::vector<float> decode(const Tensor& tensor) {
    std::vector<float> out;
    try {
        out.resize(static_cast<size_t>(tensor.values()));
    } catch (const std::bad_alloc&) {
        outOfMemory(tensor.name, static_cast<uint64_t>(tensor.values()) * 4);
    }
    parallelFor(static_cast<size_t>(tensor.rows), rowGrain(tensor.cols),
                [&](size_t begin, size_t end) {
                    decodeRows(tensor, static_cast<int64_t>(begin), static_cast<int64_t>(end),
                               out.data() + static_cast<int64_t>(begin) * tensor.cols);
                });
    return out;
}

void unpackCodes(const Tensor& tensor, int64_t row, uint8_t* out) {
    uint8_t codes[32];
    for (int64_t block = 0; block < tensor.blocks(); ++block) {
        unpackBlock(tensor, row * tensor.blocks() + block, codes);
        std::memcpy(out + block * 32, codes,
                    static_cast<size_t>(std::min<int64_t>(32, tensor.cols - block * 32)));
    }
}

TensorBuilder::TensorBuilder(std::string name, const Format& format, int64_t rows, int64_t cols,
                             int64_t experts) {
    m_tensor.name = std::move(name);
    m_tensor.format = &format;
    m_tensor.rows = rows;
    m_tensor.cols = cols;
    m_tensor.experts = experts;
    const auto groups = static_cast<size_t>(rows * (cols == 0 ? 0 : format.groupCount(cols)));
    const auto supers = static_cast<size_t>(rows * format.superCount(cols));
    const auto words = static_cast<size_t>(lowPlaneWords(m_tensor) + highPlaneWords(m_tensor));
    try {
        m_codes.resize(words);
        m_scales.resize(groups * static_cast<size_t>(scaleBytes(format)));
        m_offsets.resize(groups * static_cast<size_t>(offsetBytes(format)));
        m_superScales.resize(format.scale == ScaleKind::Code ? supers : 0);
        m_superOffsets.resize(format.offset == OffsetKind::Code ? supers : 0);
    } catch (const std::bad_alloc&) {
        outOfMemory(m_tensor.name, words * 4);
    }
}

void TensorBuilder::setCodes(int64_t row, const uint8_t* codes) {
    const int low = m_tensor.format->lowBits(), high = m_tensor.format->highBits();
    auto* bytes = reinterpret_cast<uint8_t*>(m_codes.data());
    uint8_t padded[32] = {};
    for (int64_t block = 0; block < m_tensor.blocks(); ++block) {
        const int64_t record = row * m_tensor.blocks() + block, left = m_tensor.cols - block * 32;
        const uint8_t* from = codes + block * 32;
        if (left < 32) {
            std::memcpy(padded, from, static_cast<size_t>(left));
            from = padded;
        }
        packRecord(low, from, 0, bytes + record * low * 4);
        if (high != 0)
            packRecord(high, from, low, bytes + lowPlaneWords(m_tensor) * 4 + record * high * 4);
    }
}

void TensorBuilder::setScale(int64_t row, int64_t group, uint32_t bits) {
    const auto width = static_cast<size_t>(scaleBytes(*m_tensor.format));
    const auto at = static_cast<size_t>(row * m_tensor.format->groupCount(m_tensor.cols) + group);
    std::memcpy(m_scales.data() + at * width, &bits, width);
}

void TensorBuilder::setSuperScale(int64_t row, int64_t super, uint16_t half) {
    m_superScales[static_cast<size_t>(row * m_tensor.format->superCount(m_tensor.cols) + super)] =
        half;
}

void TensorBuilder::setOffset(int64_t row, int64_t group, uint16_t bits) {
    const auto width = static_cast<size_t>(offsetBytes(*m_tensor.format));
    const auto at = static_cast<size_t>(row * m_tensor.format->groupCount(m_tensor.cols) + group);
    std::memcpy(m_offsets.data() + at * width, &bits, width);
}

void TensorBuilder::setSuperOffset(int64_t row, int64_t super, uint16_t half) {
    m_superOffsets[static_cast<size_t>(row * m_tensor.format->superCount(m_tensor.cols) + super)] =
        half;
}

Tensor TensorBuilder::finish() {
    m_tensor.codes = Bytes::of(std::move(m_codes));
    m_tensor.scales = Bytes::of(std::move(m_scales));
    m_tensor.superScales = Bytes::of(std::move(m_superScales));
    m_tensor.offsets = Bytes::of(std::move(m_offsets));
    m_tensor.superOffsets = Bytes::of(std::move(m_superOffsets));
    return std::move(m_tensor);
}

Tensor makeFloatTensor(std::string name, const Format& format, int64_t rows, int64_t cols,
                       std::span<const float> values) {
    Tensor tensor;
    tensor.name = std::move(name);
    tensor.format = &format;
    tensor.rows = rows;
    tensor.cols = cols;
    if (format.code == CodeKind::Float32) {
        tensor.codes = Bytes::of(std::vector<float>(values.begin(), values.end()));
        return tensor;
    }
    std::vector<uint16_t> bits(values.size());
    const auto convert = format.code == CodeKind::Float16 ? floatToHalf : floatToBfloat;
    parallelFor(values.size(), static_cast<size_t>(kChunkValues), [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i)
            bits[i] = convert(values[i]);
    });
    tensor.codes = Bytes::of(std::move(bits));
    return tensor;
}

} // namespace nibble
