#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/mapped_file.h"
#include "core/base/parallel.h"
#include "core/files/openers.h"
#include "core/files/packings.h"

#include <algorithm>
#include <new>

namespace nibble {
namespace {

/// Source bytes transcoded by one thread before their pages are released.
constexpr int64_t kChunkBytes = 1 << 20;

/// A view of the file where its address suits the element type, else a copy (safetensors promises
/// no alignment).
Bytes alignedView(const Bytes& bytes, size_t element) {
    if (reinterpret_cast<uintptr_t>(bytes.data()) % element == 0)
        return bytes;
    return Bytes::of(std::vector<std::byte>(bytes.view().begin(), bytes.view().end()));
}

/// Runs `take(row, blocks)` for every row, in parallel, and releases the pages of rows that are
/// done.
template <typename Take>
void eachRow(const TensorInfo& info, Take take) {
    const BlockType& type = *info.type;
    const int64_t rows = info.rows(), rowBytes = info.cols() / type.blockValues * type.blockBytes;
    const int64_t grain = std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, rowBytes));
    const auto chunks = static_cast<size_t>((rows + grain - 1) / grain);
    parallelFor(chunks, 1, [&](size_t first, size_t last) {
        for (size_t chunk = first; chunk < last; ++chunk) {
            const int64_t begin = static_cast<int64_t>(chunk) * grain,
                          end = std::min(rows, begin + grain);
            for (int64_t row = begin; row < end; ++row)
                take(row, info.bytes.data() + row * rowBytes);
            if (info.mapped)
                releasePages(
                    info.bytes.view().subspan(static_cast<size_t>(begin * rowBytes),
                                              static_cast<size_t>((end - begin) * rowBytes)));
        }
    });
}

Tensor floatTensor(const TensorInfo& info, Bytes codes) {
    Tensor tensor;
    tensor.name = info.name;
    tensor.format = info.type->format;
    tensor.rows = info.rows();
    tensor.cols = info.cols();
    tensor.experts = info.experts();
    tensor.codes = std::move(codes);
    return tensor;
}

Tensor transcode(const TensorInfo& info) {
    const BlockType& type = *info.type;
    TensorBuilder builder(info.name, *type.format, info.rows(), info.cols(), info.experts());
    const int64_t rowBlocks = info.cols() / type.blockValues;
    eachRow(info, [&](int64_t row, const std::byte* blocks) {
        type.toPlanes(blocks, row, rowBlocks, builder);
    });
    return builder.finish();
}

/// The values of a type that no planes describe, each rounded once to f16.
Tensor decodeAtLoad(const TensorInfo& info) {
    const int64_t cols = info.cols(), rowBlocks = cols / info.type->blockValues;
    std::vector<uint16_t> halves;
    try {
        halves.resize(static_cast<size_t>(info.values()));
    } catch (const std::bad_alloc&) {
        fail(
            ErrorKind::OutOfMemory,
            "Tensor \"{}\" is stored as {} and runs as {}, which needs {:.1f} GB of memory that is "
            "not there.",
            printable(info.name), info.type->name, info.type->format->name,
            static_cast<double>(info.values()) * 2e-9);
    }
    eachRow(info, [&](int64_t row, const std::byte* blocks) {
        thread_local std::vector<float> values;
        values.resize(static_cast<size_t>(cols));
        info.type->decode(blocks, rowBlocks, values.data());
        std::transform(values.begin(), values.end(), halves.begin() + row * cols, floatToHalf);
    });
    return floatTensor(info, Bytes::of(std::move(halves)));
}

/// Some rows as a tensor of their own. Its pages are not its to release: neighbours share them.
TensorInfo someRows(const TensorInfo& info, int64_t begin, int64_t end) {
    const int64_t rowBytes = info.cols() / info.type->blockValues * info.type->blockBytes;
    TensorInfo part;
    part.name = info.name;
    part.type = info.type;
    part.dims = {end - begin, info.cols()};
    part.bytes = info.bytes.slice(static_cast<size_t>(begin * rowBytes),
                                  static_cast<size_t>((end - begin) * rowBytes));
    return part;
}

} // namespace

RowSource storedRows(const TensorInfo& info) {
    RowSource source{info.rows(), info.cols(), {}};
    if (info.packed || !info.factors.empty() || !info.format()) {
        const auto whole = std::make_shared<const Tensor>(loadTensor(info));
        source.decode = [whole](int64_t begin, int64_t end, float* values) {
            decodeRows(*whole, begin, end, values);
        };
        return source;
    }
    source.decode = [info](int64_t begin, int64_t end, float* values) {
        const Tensor part = loadTensor(someRows(info, begin, end));
        decodeRows(part, 0, part.rows, values);
        if (!info.mapped)
            return;
        // From the page before on, so that the one that two parts share goes with the second.
        constexpr size_t kPage = 4096;
        const auto rowBytes =
            static_cast<size_t>(info.cols() / info.type->blockValues * info.type->blockBytes);
        const size_t from = static_cast<size_t>(begin) * rowBytes;
        const size_t first = from - std::min(from, kPage);
        releasePages(info.bytes.view().subspan(first, static_cast<size_t>(end) * rowBytes - first));
    };
    return source;
}

Tensor loadTensor(const TensorInfo& info) {
    if (info.packed)
        return info.packed->load(info.name);
    const BlockType& type = *info.type;
    if (!type.format)
        fail(ErrorKind::BadInput,
             "Tensor \"{}\" is stored as {}, which can be listed but not run or converted yet; "
             "choose a "
             "file with another quantization.",
             printable(info.name), type.name);
    if (type.decode)
        return decodeAtLoad(info);
    if (type.format->isFloat())
        return floatTensor(info, alignedView(info.bytes, type.blockBytes));
    return info.factors.empty() ? transcode(info) : withFactors(transcode(info), info);
}

Bytes toStoredBytes(const Tensor& tensor, const BlockType& type) {
    if (tensor.columnOrder)
        fail(ErrorKind::Usage,
             "Tensor \"{}\" has its columns in another order (act-order), which {} cannot say; "
             "choose another format for it, so that it is quantized again.",
             printable(tensor.name), type.name);
    if (tensor.outlierColumns)
        fail(
            ErrorKind::Usage,
            "Tensor \"{}\" has {} outlier columns, which {} cannot hold; choose another method for "
            "it than LLM.int8().",
            printable(tensor.name), tensor.outlierCount(), type.name);
    if (!type.format || type.decode || blockTypeHolding(*tensor.format) != &type)
        fail(ErrorKind::Internal, "Tensor \"{}\" has format {} and cannot be stored as {}.",
             printable(tensor.name), tensor.format->name, type.name);
    if (type.format->isFloat())
        return tensor.codes;
    if (tensor.cols % type.blockValues != 0)
        fail(ErrorKind::Usage, "Tensor \"{}\" has rows of {} values; {} needs a multiple of {}.",
             printable(tensor.name), tensor.cols, type.name, type.blockValues);
    const int64_t rowBytes = tensor.cols / type.blockValues * type.blockBytes;
    std::vector<std::byte> out(static_cast<size_t>(tensor.rows * rowBytes));
    const auto grain =
        static_cast<size_t>(std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, rowBytes)));
    parallelFor(static_cast<size_t>(tensor.rows), grain, [&](size_t begin, size_t end) {
        for (size_t row = begin; row < end; ++row)
            type.toBlocks(tensor, static_cast<int64_t>(row),
                          out.data() + static_cast<int64_t>(row) * rowBytes);
    });
    return Bytes::of(std::move(out));
}

} // namespace nibble
