#include "core/quant/folder_tensors.h"

#include "core/base/error.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <cstring>

namespace nibble {
namespace {

/// Rows of q and k from neighbours that rotate together, as GGUF files of the llama family have
/// them, to halves; empty where they lie so already.
std::vector<int64_t> headOrder(const ModelConfig& config, TensorKey key, const Tensor& tensor) {
    const bool isQuery = key.role == Role::Query || key.role == Role::QueryBias;
    const bool isKey = key.role == Role::Key || key.role == Role::KeyBias;
    if (config.ropeStyle != RopeStyle::Interleaved || (!isQuery && !isKey))
        return {};
    const int64_t heads = isQuery ? config.heads : config.kvHeads;
    const int64_t count = tensor.rows == 1 ? tensor.cols : tensor.rows;
    const int64_t headRows = count / heads, half = headRows / 2;
    std::vector<int64_t> order(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
        const int64_t at = i % headRows;
        order[static_cast<size_t>(i)] = i - at + (at < half ? 2 * at : 2 * (at - half) + 1);
    }
    return order;
}

Tensor permutedVector(const Tensor& tensor, const std::vector<int64_t>& order) {
    const std::vector<float> values = decode(tensor);
    std::vector<float> out(values.size());
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = values[static_cast<size_t>(order[i])];
    return makeFloatTensor(tensor.name, *tensor.format, 1, tensor.cols, out);
}

/// `pick` of every part, one behind the other.
template <typename Pick>
Bytes behindEachOther(std::span<const Tensor> parts, Pick pick) {
    std::vector<std::byte> out;
    for (const Tensor& part : parts) {
        const Bytes bytes = pick(part);
        out.insert(out.end(), bytes.view().begin(), bytes.view().end());
    }
    return Bytes::of(std::move(out));
}

bool sameOrder(const Tensor& a, const Tensor& b) {
    return a.columnOrder && b.columnOrder ? *a.columnOrder == *b.columnOrder
                                          : !a.columnOrder && !b.columnOrder;
}

} // namespace

Tensor asInFolder(const Model& model, TensorKey key, Tensor tensor) {
    const Architecture* architecture = findArchitecture(model.config.architecture);
    if (architecture && architecture->folderNormOffset != 0 && isNorm(key.role)) {
        std::vector<float> values = decode(tensor);
        for (float& value : values)
            value -= architecture->folderNormOffset;
        tensor = makeFloatTensor(tensor.name, *tensor.format, 1, tensor.cols, values);
    }
    if (const auto order = headOrder(model.config, key, tensor); !order.empty())
        return tensor.rows == 1 ? permutedVector(tensor, order) : gatherRows(tensor, order);
    return tensor;
}

Tensor joined(std::span<const Tensor> parts) {
    Tensor out = parts.front();
    if (parts.size() == 1)
        return out;
    const auto low = [](const Tensor& t) {
        return t.codes.slice(0, static_cast<size_t>(lowPlaneWords(t)) * 4);
    };
    const auto high = [](const Tensor& t) {
        const auto at = static_cast<size_t>(lowPlaneWords(t)) * 4;
        return t.codes.slice(at, t.codes.size() - at);
    };
    const bool vectors =
        std::ranges::all_of(parts, [](const Tensor& part) { return part.rows == 1; });
    for (const Tensor& part : parts.subspan(1)) {
        if (part.format != out.format || (!vectors && part.cols != out.cols) ||
            part.outlierColumns || out.outlierColumns || (vectors && !out.format->isFloat()))
            fail(ErrorKind::Internal, "Tensor \"{}\" cannot be joined.", printable(part.name));
        if (!sameOrder(part, out))
            fail(ErrorKind::Usage,
                 "The parts of \"{}\" have different orders of columns (act-order), but lie in one "
                 "tensor of the folder; choose another format for them, so that they are "
                 "quantized again.",
                 printable(part.name));
        (vectors ? out.cols : out.rows) += vectors ? part.cols : part.rows;
        out.inputScale = std::max(out.inputScale, part.inputScale);
    }
    if (out.format->isFloat()) {
        out.codes = behindEachOther(parts, [](const Tensor& t) { return t.codes; });
        return out;
    }
    const Bytes planes[] = {behindEachOther(parts, low), behindEachOther(parts, high)};
    std::vector<uint32_t> codes((planes[0].size() + planes[1].size()) / 4);
    auto* to = reinterpret_cast<std::byte*>(codes.data());
    for (const Bytes& plane : planes)
        to = std::copy(plane.view().begin(), plane.view().end(), to);
    out.codes = Bytes::of(std::move(codes));
    out.scales = behindEachOther(parts, [](const Tensor& t) { return t.scales; });
    out.superScales = behindEachOther(parts, [](const Tensor& t) { return t.superScales; });
    out.offsets = behindEachOther(parts, [](const Tensor& t) { return t.offsets; });
    out.superOffsets = behindEachOther(parts, [](const Tensor& t) { return t.superOffsets; });
    return out;
}

} // namespace nibble
