#include "core/model/tensor_parts.h"

#include "core/files/packings.h"

#include <numeric>

namespace nibble {

TensorInfo rowsOf(const TensorInfo& stored, int64_t first, Shape shape) {
    TensorInfo part;
    part.name = stored.name;
    part.dims = shape.rows == 1 ? std::vector{shape.cols} : std::vector{shape.rows, shape.cols};
    part.type = stored.type;
    part.mapped = stored.mapped;
    const bool plain = !stored.packed && stored.factors.empty();
    if (plain) {
        const auto rowBytes = stored.storedBytes() / static_cast<uint64_t>(stored.rows());
        if (!stored.bytes.empty())
            part.bytes = stored.bytes.slice(static_cast<uint64_t>(first) * rowBytes,
                                            static_cast<uint64_t>(shape.rows) * rowBytes);
        return part;
    }
    PackedWeight cut = stored.packed ? *stored.packed : PackedWeight{};
    cut.format = stored.format();
    cut.rows = shape.rows;
    cut.cols = shape.cols;
    cut.experts = 1;
    cut.loadRows = nullptr;
    cut.bytes = stored.storedBytes() / static_cast<uint64_t>(stored.rows()) *
                static_cast<uint64_t>(shape.rows);
    cut.load = [stored, first, shape](const std::string& name) {
        if (stored.packed && stored.packed->loadRows)
            return stored.packed->loadRows(name, first, shape.rows, 1);
        std::vector<int64_t> order(static_cast<size_t>(shape.rows));
        std::iota(order.begin(), order.end(), first);
        return gatherRows(loadTensor(stored), order);
    };
    part.packed = std::make_shared<const PackedWeight>(std::move(cut));
    return part;
}

TensorInfo derived(const TensorInfo& stored, std::vector<int64_t> dims,
                   std::function<std::vector<float>(const std::vector<float>&)> change) {
    TensorInfo info;
    info.name = stored.name;
    info.dims = std::move(dims);
    info.type = stored.type;
    PackedWeight made;
    const Format* own = stored.format();
    made.format = own && own->isFloat() && own->code != CodeKind::Float32 ? own : &getFormat("f32");
    made.rows = info.rows();
    made.cols = info.cols();
    made.bytes = stored.storedBytes() / static_cast<uint64_t>(stored.values()) *
                 static_cast<uint64_t>(info.values());
    made.codes = stored.bytes;
    made.load = [stored, rows = made.rows, cols = made.cols, format = made.format,
                 change = std::move(change)](const std::string& name) {
        return makeFloatTensor(name, *format, rows, cols, change(decode(loadTensor(stored))));
    };
    info.packed = std::make_shared<const PackedWeight>(std::move(made));
    return info;
}

namespace {

/// Rows of one turn of a packed stack.
TensorInfo packedTurn(const TensorInfo& stored, int64_t first, Shape shape, int64_t step) {
    TensorInfo part;
    part.name = stored.name;
    part.dims = {shape.rows, shape.cols};
    PackedWeight rows = *stored.packed;
    // What blocks of a GGUF file hold as well can be written there as it is.
    const BlockType* block = blockTypeOf(*rows.format);
    part.type = block ? block : stored.type;
    rows.experts = 1;
    rows.rows = shape.rows;
    rows.bytes = stored.storedBytes() / static_cast<uint64_t>(stored.rows()) *
                 static_cast<uint64_t>(shape.rows);
    rows.load = [stored, first, shape, step](const std::string& name) {
        if (stored.packed->loadRows)
            return stored.packed->loadRows(name, first, shape.rows, step);
        std::vector<int64_t> order;
        for (int64_t i = 0; i < shape.rows; ++i)
            order.push_back(first + i * step);
        return gatherRows(loadTensor(stored), order);
    };
    rows.loadRows = nullptr;
    part.packed = std::make_shared<const PackedWeight>(std::move(rows));
    return part;
}

} // namespace

std::vector<int64_t> stackDims(const TensorInfo& stored, int64_t experts, Shape shape,
                               int64_t turns) {
    if (shape.rows == 1)
        return {experts, turns * shape.cols};
    if (stored.packed)
        return {experts, turns * shape.rows, shape.cols};
    return {experts, shape.cols, turns * shape.rows};
}

TensorInfo stackPart(const TensorInfo& stored, int64_t expert, Shape shape, int64_t turn,
                     int64_t turns) {
    if (stored.packed)
        return packedTurn(stored, expert * turns * shape.rows + turn, shape, turns);
    // A vector is one column of outputs.
    const bool vector = shape.rows == 1;
    const int64_t outputs = vector ? shape.cols : shape.rows, inputs = vector ? 1 : shape.cols;
    const TensorInfo own = rowsOf(stored, expert * inputs, {inputs, turns * outputs});
    return derived(own, vector ? std::vector{outputs} : std::vector{outputs, inputs},
                   [=](const std::vector<float>& values) {
                       std::vector<float> out(static_cast<size_t>(outputs * inputs));
                       for (int64_t o = 0; o < outputs; ++o)
                           for (int64_t i = 0; i < inputs; ++i)
                               out[static_cast<size_t>(o * inputs + i)] =
                                   values[static_cast<size_t>((i * outputs + o) * turns + turn)];
                       return out;
                   });
}

} // namespace nibble
