#include "core/tensor/tensor.h"

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/parallel.h"
#include "core/base/vector_width.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <bit>
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

/// Without a branch, so that compilers vectorise the loop; as halfToFloat.
NIBBLE_EVERY_VECTOR_WIDTH
void decodeHalves(const uint16_t* __restrict halves, int64_t count, float* __restrict out) {
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t magnitude = halves[i] & 0x7fffu, sign = (halves[i] & 0x8000u) << 16;
        const float subnormal = static_cast<float>(static_cast<int>(magnitude)) * 0x1p-24f;
        const uint32_t normal = (magnitude << 13) + (112u << 23);
        const uint32_t finite = magnitude < 0x400u ? std::bit_cast<uint32_t>(subnormal) : normal;
        // Infinities and NaN have the largest exponent of either kind.
        const uint32_t bits = magnitude >= 0x7c00u ? normal + (112u << 23) : finite;
        out[i] = std::bit_cast<float>(bits | sign);
    }
}

void decodeFloats(const Tensor& t, int64_t first, int64_t count, float* out) {
    if (t.format->code == CodeKind::Float32) {
        std::memcpy(out, t.codes.data() + first * 4, static_cast<size_t>(count) * 4);
        return;
    }
    const auto* bits = t.codes.as<uint16_t>().data() + first;
    if (t.format->code == CodeKind::Float16)
        decodeHalves(bits, count, out);
    else
        std::transform(bits, bits + count, out, bfloatToFloat);
}

/// n values of one group; the loops have constant lengths so that compilers unroll and vectorise.
template <int n>
void scaleUniform(bool isSigned, const uint8_t* __restrict codes, float scale, int zero,
                  float* __restrict out) {
    if (isSigned)
        for (int i = 0; i < n; ++i)
            out[i] = scale * static_cast<float>(static_cast<int8_t>(codes[i]) - zero);
    else
        for (int i = 0; i < n; ++i)
            out[i] = scale * static_cast<float>(static_cast<int>(codes[i]) - zero);
}

/// A group's numbers ready for its values. Products of scale and code are exact in float32 for
/// every format with narrow scales; the double is needed where a scale alone exceeds float32 (E8M0
/// of 255).
struct GroupDecoder {
    float scale = 0, offset = 0, table[16] = {};
    int zero = 0;
    bool isSigned = false, hasTable = false, hasOffset = false;

    GroupDecoder(const Format& f, const GroupValues& values)
        : scale(static_cast<float>(f.unit * values.scale)), offset(values.offset),
          zero(values.zero), isSigned(f.bits == 8), hasTable(f.table != nullptr),
          hasOffset(f.offset == OffsetKind::Value || f.offset == OffsetKind::Code) {
        if (hasTable)
            for (size_t c = 0; c < 16; ++c)
                table[c] = static_cast<float>(values.scale * f.table->exact[c]);
    }

    template <int n>
    void decode(const uint8_t* __restrict codes, float* __restrict out) const {
        if (hasTable)
            for (int i = 0; i < n; ++i)
                out[i] = table[codes[i] & 15];
        else
            scaleUniform<n>(isSigned, codes, scale, zero, out);
        // Adding zero where there is no offset would turn −0 into +0.
        if (hasOffset)
            for (int i = 0; i < n; ++i)
                out[i] += offset;
    }
};

/// One row of a quantized tensor, in runs of 16 or 32 values: every group is a multiple of one.
void decodeRow(const Tensor& t, int64_t row, float* out) {
    const Format& f = *t.format;
    const int64_t groupLength = f.groupLength(t.cols);
    const int run = f.group % 32 == 0 ? 32 : 16;
    uint8_t codes[32];
    float padded[32];
    for (int64_t group = 0; group < f.groupCount(t.cols); ++group) {
        const GroupDecoder decoder(f, groupValues(t, row, group));
        const int64_t end = std::min(t.cols, (group + 1) * groupLength);
        for (int64_t at = group * groupLength; at < end; at += run) {
            if (at % 32 == 0)
                unpackBlock(t, row * t.blocks() + at / 32, codes);
            const int64_t left = end - at;
            float* to = left < run ? padded : out + at;
            if (run == 32)
                decoder.decode<32>(codes, to);
            else
                decoder.decode<16>(codes + at % 32, to);
            if (left < run)
                std::copy(padded, padded + left, out + at);
        }
    }
}

/// The columns that are kept beside the codes, into a row of values.
void decodeOutliers(const Tensor& t, int64_t row, float* out) {
    const auto halves = t.outliers.as<uint16_t>();
    const auto count = static_cast<size_t>(t.outlierCount());
    for (size_t k = 0; k < count; ++k)
        out[(*t.outlierColumns)[k]] = halfToFloat(halves[static_cast<size_t>(row) * count + k]);
}

/// One plane's rows in another order.
Bytes gather(const Bytes& plane, int64_t rows, std::span<const int64_t> order) {
    if (plane.empty())
        return {};
    const size_t each = plane.size() / static_cast<size_t>(rows);
    std::vector<uint32_t> words((order.size() * each + 3) / 4);
    auto* out = reinterpret_cast<std::byte*>(words.data());
    for (size_t i = 0; i < order.size(); ++i)
        std::memcpy(out + i * each, plane.data() + static_cast<size_t>(order[i]) * each, each);
    return Bytes::of(std::move(words)).slice(0, order.size() * each);
}

[[noreturn]] void outOfMemory(const std::string& name, uint64_t bytes) {
    fail(ErrorKind::OutOfMemory, "Tensor \"{}\" needs {:.1f} GB of memory, which is not there.",
         printable(name), static_cast<double>(bytes) * 1e-9);
}

} // namespace

uint64_t Tensor::planeBytes() const {
    return codes.size() + scales.size() + superScales.size() + offsets.size() +
           superOffsets.size() + outliers.size() + static_cast<uint64_t>(outlierCount()) * 4;
}

uint64_t Tensor::storedBytes() const {
    const double rowBits = format->bitsPerWeight(cols) * static_cast<double>(cols);
    return (static_cast<uint64_t>(std::llround(rowBits)) * static_cast<uint64_t>(rows) + 7) / 8 +
           outliers.size() + static_cast<uint64_t>(outlierCount()) * 4;
}

void decodeRows(const Tensor& tensor, int64_t begin, int64_t end, float* out) {
    if (tensor.format->isFloat() && !tensor.columnOrder) {
        decodeFloats(tensor, begin * tensor.cols, (end - begin) * tensor.cols, out);
        return;
    }
    std::vector<float> planeOrder(tensor.columnOrder ? static_cast<size_t>(tensor.cols) : 0);
    for (int64_t row = begin; row < end; ++row) {
        float* const values = out + (row - begin) * tensor.cols;
        if (!tensor.columnOrder) {
            decodeRow(tensor, row, values);
            if (tensor.outlierColumns)
                decodeOutliers(tensor, row, values);
            continue;
        }
        if (tensor.format->isFloat())
            decodeFloats(tensor, row * tensor.cols, tensor.cols, planeOrder.data());
        else
            decodeRow(tensor, row, planeOrder.data());
        for (size_t j = 0; j < planeOrder.size(); ++j)
            values[(*tensor.columnOrder)[j]] = planeOrder[j];
    }
}

float decodeCode(const Format& format, const GroupValues& group, uint8_t code) {
    float value = 0;
    GroupDecoder(format, group).decode<1>(&code, &value);
    return value;
}

float decodeValue(const Tensor& tensor, int64_t row, int64_t col) {
    if (tensor.outlierColumns) {
        const auto& columns = *tensor.outlierColumns;
        const auto at = std::lower_bound(columns.begin(), columns.end(), col);
        if (at != columns.end() && *at == col)
            return halfToFloat(tensor.outliers.as<uint16_t>()[static_cast<size_t>(
                row * tensor.outlierCount() + (at - columns.begin()))]);
    }
    if (tensor.columnOrder)
        col = std::find(tensor.columnOrder->begin(), tensor.columnOrder->end(), col) -
              tensor.columnOrder->begin();
    uint8_t codes[32];
    unpackBlock(tensor, row * tensor.blocks() + col / 32, codes);
    return decodeCode(*tensor.format,
                      groupValues(tensor, row, col / tensor.format->groupLength(tensor.cols)),
                      codes[col % 32]);
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

Tensor gatherRows(const Tensor& t, std::span<const int64_t> order) {
    Tensor out = t;
    out.rows = static_cast<int64_t>(order.size());
    if (t.format->isFloat()) {
        out.codes = gather(t.codes, t.rows, order);
        return out;
    }
    const auto lowBytes = static_cast<size_t>(lowPlaneWords(t)) * 4;
    const Bytes low = gather(t.codes.slice(0, lowBytes), t.rows, order);
    const Bytes high = gather(t.codes.slice(lowBytes, t.codes.size() - lowBytes), t.rows, order);
    std::vector<uint32_t> codes((low.size() + high.size()) / 4);
    std::memcpy(codes.data(), low.data(), low.size());
    if (!high.empty())
        std::memcpy(codes.data() + low.size() / 4, high.data(), high.size());
    out.codes = Bytes::of(std::move(codes));
    out.scales = gather(t.scales, t.rows, order);
    out.superScales = gather(t.superScales, t.rows, order);
    out.offsets = gather(t.offsets, t.rows, order);
    out.superOffsets = gather(t.superOffsets, t.rows, order);
    out.outliers = gather(t.outliers, t.rows, order);
    return out;
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
