#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/base/parallel.h"
#include "core/files/checkpoint.h"

#include <algorithm>
#include <cstring>

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

} // namespace

Tensor loadTensor(const TensorInfo& info) {
    const BlockType& type = *info.type;
    if (!type.format)
        fail(ErrorKind::BadInput,
             "Tensor \"{}\" is stored as {}, which can be listed but not run or converted yet; "
             "choose a "
             "file with another quantization.",
             printable(info.name), type.name);
    const int64_t rows = info.rows(), cols = info.cols();
    if (type.format->isFloat()) {
        Tensor tensor;
        tensor.name = info.name;
        tensor.format = type.format;
        tensor.rows = rows;
        tensor.cols = cols;
        tensor.experts = info.experts();
        tensor.codes = alignedView(info.bytes, type.blockBytes);
        return tensor;
    }
    TensorBuilder builder(info.name, *type.format, rows, cols, info.experts());
    const int64_t rowBlocks = cols / type.blockValues;
    const int64_t rowBytes = rowBlocks * type.blockBytes;
    const int64_t grain = std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, rowBytes));
    const auto chunks = static_cast<size_t>((rows + grain - 1) / grain);
    parallelFor(chunks, 1, [&](size_t first, size_t last) {
        for (size_t chunk = first; chunk < last; ++chunk) {
            const int64_t begin = static_cast<int64_t>(chunk) * grain,
                          end = std::min(rows, begin + grain);
            for (int64_t row = begin; row < end; ++row)
                type.toPlanes(info.bytes.data() + row * rowBytes, row, rowBlocks, builder);
            if (info.mapped)
                releasePages(
                    info.bytes.view().subspan(static_cast<size_t>(begin * rowBytes),
                                              static_cast<size_t>((end - begin) * rowBytes)));
        }
    });
    return builder.finish();
}

Bytes toStoredBytes(const Tensor& tensor, const BlockType& type) {
    if (!type.format || std::string_view(type.format->name) != tensor.format->name)
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
