#include "core/runtime/doctor_checks.h"

#include "core/base/half.h"
#include "core/base/random.h"
#include "core/runtime/input_form.h"
#include "core/runtime/random_tensor.h"
#include "core/tensor/planes.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace nibble {
namespace {

/// One layer, small enough for seconds on a software device.
ModelConfig smallConfig(int32_t width, int32_t outputs) {
    ModelConfig c;
    c.layers = 1;
    c.width = c.feedForward = width;
    c.heads = 8;
    c.kvHeads = 2;
    c.headSize = c.ropeDimensions = 32;
    c.vocabulary = outputs;
    c.contextLength = 128;
    c.normEpsilon = 0;
    c.ropeStyle = RopeStyle::Halves;
    return c;
}

StageOptions smallOptions(int32_t rows, KvFormat k, KvFormat v) {
    StageOptions o;
    o.layers = {0, 1};
    o.kFormat = k;
    o.vFormat = v;
    o.pages = 4;
    o.maxRows = rows;
    return o;
}

Batch batchOf(int32_t rows) {
    Batch batch;
    for (int32_t i = 0; i < rows; ++i) {
        batch.rows.push_back({i, i, 0});
        batch.logitRows.push_back(i);
    }
    batch.sequences = {{2, 0, 1, 3}};
    batch.layers = {0, 1};
    return batch;
}

/// A row of small integers whose mean square is exactly 128²: sums of squares are exact in float32
/// and the norm divides by a power of two, so that every backend quantizes the same numbers.
std::vector<float> exactRow(int32_t width, Random& random) {
    std::vector<int64_t> row(static_cast<size_t>(width));
    int64_t left = int64_t(width) << 14;
    const int32_t searched = std::min(width, 64);
    for (int32_t i = 0; i < width - searched; ++i) {
        row[size_t(i)] = static_cast<int64_t>(random.next() % 255) - 127;
        left -= row[size_t(i)] * row[size_t(i)];
    }
    // The last 16 greedily take the largest square that is left: each step leaves less than twice
    // its root, so that nothing remains.
    for (int32_t i = width - searched; i < width; ++i) {
        const bool greedy = i >= width - 16;
        const auto root =
            static_cast<int64_t>(std::sqrt(double(greedy ? left : left / (width - i))));
        const auto value =
            greedy ? root : root - static_cast<int64_t>(random.next() % uint64_t(root / 2 + 1));
        row[size_t(i)] = random.next() % 2 ? value : -value;
        left -= value * value;
    }
    return {row.begin(), row.end()};
}

std::vector<float> exactRows(int32_t rows, int32_t width, Random& random) {
    std::vector<float> all;
    for (int32_t i = 0; i < rows; ++i) {
        const auto row = exactRow(width, random);
        all.insert(all.end(), row.begin(), row.end());
    }
    return all;
}

Tensor ones(int32_t width) {
    return makeFloatTensor("doctor", getFormat("f32"), 1, width,
                           std::vector<float>(static_cast<size_t>(width), 1.0f));
}

/// Empty when the backend converts this format first: that is not a path of its own.
std::vector<float> runProduct(Backend& backend, const Tensor& weight,
                              const Activations& activations, const std::vector<float>& hidden,
                              int32_t rows) {
    const auto width = static_cast<int32_t>(weight.cols);
    const auto outputs = static_cast<int32_t>(weight.rows);
    const auto stage = backend.makeStage(smallConfig(width, outputs),
                                         smallOptions(rows, KvFormat::F32, KvFormat::F32));
    stage->setTensor({Role::OutputNorm, -1}, ones(width), ActivationFormat::Float);
    stage->setTensor({Role::Output, -1}, weight, activations);
    const auto paths = stage->paths();
    if (paths.empty() || !paths.front().path.starts_with(std::string(weight.format->name) + " × "))
        return {};
    const Batch batch = batchOf(rows);
    stage->setHidden(hidden);
    if (stage->begin(batch, nullptr))
        stage->logits();
    stage->end();
    std::vector<float> out(static_cast<size_t>(rows) * static_cast<size_t>(outputs));
    stage->readLogits(out);
    return out;
}

/// Puts `count` columns beside the codes, spread evenly, the last column among them.
void addOutlierColumns(Tensor& tensor, int32_t count, Random& random) {
    std::vector<int32_t> columns;
    for (int32_t k = 1; k <= count; ++k)
        columns.push_back(static_cast<int32_t>(tensor.cols * k / count) - 1);
    std::vector<uint16_t> halves;
    TensorBuilder cleared(tensor.name, *tensor.format, tensor.rows, tensor.cols);
    std::vector<uint8_t> codes(static_cast<size_t>(tensor.cols));
    for (int64_t row = 0; row < tensor.rows; ++row) {
        unpackCodes(tensor, row, codes.data());
        for (const int32_t column : columns) {
            codes[static_cast<size_t>(column)] = 0;
            halves.push_back(floatToHalf(static_cast<float>(random.normal())));
        }
        cleared.setCodes(row, codes.data());
    }
    tensor.codes = cleared.finish().codes;
    tensor.outliers = Bytes::of(std::move(halves));
    tensor.outlierColumns = std::make_shared<const std::vector<int32_t>>(std::move(columns));
}

/// Largest difference relative to (K/128 + N/4 + 16) · 2⁻²⁴ · Σ |x| (|w| + 2 |o|): four partial
/// sums of K/32 blocks and the row's N outliers each, a few roundings a block, and as much again
/// for the reference.
double worstRatio(const std::vector<float>& got, const std::vector<float>& expected,
                  const std::vector<float>& hidden, const Tensor& weight, const InputForm& form) {
    const std::vector<float> values = decode(weight);
    const auto width = static_cast<size_t>(weight.cols), outputs = static_cast<size_t>(weight.rows);
    double worst = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        const size_t row = i / outputs, out = i % outputs;
        double sum = 0, beside = static_cast<double>(weight.outlierCount());
        for (size_t k = 0; k < width; ++k) {
            double offset = 0;
            beside +=
                form.threshold > 0 && std::fabs(hidden[row * width + k]) >= 128 * form.threshold;
            if (!weight.format->isFloat())
                offset = std::fabs(
                    double(groupValues(weight, int64_t(out),
                                       int64_t(k) / weight.format->groupLength(weight.cols))
                               .offset));
            sum += std::fabs(double(hidden[row * width + k])) / 128 *
                   (std::fabs(double(values[out * width + k])) + 2 * offset);
        }
        const double unit = 2 * (double(width) / 128 + beside / 4 + 16) * 0x1p-24;
        const double error = std::fabs(double(got[i]) - double(expected[i]));
        worst = std::max(worst, std::isfinite(error) ? error / (unit * sum) : HUGE_VAL);
    }
    return worst;
}

constexpr int32_t kWidth = 256; // of the layer

/// The hidden rows after a whole layer: a prompt, then single tokens.
std::vector<float> runLayer(Backend& backend, int32_t rows, KvFormat k, KvFormat v) {
    Random random(7);
    const ModelConfig config = smallConfig(kWidth, 1);
    const auto stage = backend.makeStage(config, smallOptions(rows, k, v));
    const auto set = [&](Role role, int64_t outputs) {
        stage->setTensor({role, 0}, randomTensor(getFormat("f16"), outputs, kWidth, random),
                         ActivationFormat::Float);
    };
    stage->setTensor({Role::AttentionNorm, 0}, ones(kWidth), ActivationFormat::Float);
    stage->setTensor({Role::FeedForwardNorm, 0}, ones(kWidth), ActivationFormat::Float);
    set(Role::Query, kWidth);
    set(Role::Key, config.kvWidth());
    set(Role::Value, config.kvWidth());
    set(Role::AttentionOutput, kWidth);
    set(Role::Gate, kWidth);
    set(Role::Up, kWidth);
    set(Role::Down, kWidth);
    std::vector<float> hidden(static_cast<size_t>(rows) * kWidth), all;
    for (const int32_t start : {0, rows}) {
        const int32_t count = start == 0 ? rows : 1;
        Batch batch = batchOf(count);
        batch.logitRows.clear();
        batch.rows[0].position = start;
        for (float& value : hidden)
            value = static_cast<float>(random.normal());
        stage->setHidden(std::span(hidden).first(static_cast<size_t>(count) * kWidth));
        if (stage->begin(batch, nullptr)) {
            stage->qkv(0);
            stage->attention(0);
            stage->attentionOutput(0);
            stage->gateUp(0);
            stage->down(0);
        }
        stage->end();
        all.resize(all.size() + static_cast<size_t>(count) * kWidth);
        stage->readHidden(std::span(all).last(static_cast<size_t>(count) * kWidth));
    }
    return all;
}

double relativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        difference += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
        norm += double(b[i]) * double(b[i]);
    }
    const double ratio = std::sqrt(difference / norm);
    return std::isfinite(ratio) ? ratio : HUGE_VAL;
}

/// What storing keys or values may add: their floats differ in the last bits, so that a value may
/// be rounded to a neighbour.
double stepOf(KvFormat format) {
    switch (format) {
    case KvFormat::F32:
        return 0;
    case KvFormat::F16:
        return 0x1p-11;
    case KvFormat::Int8:
        return 1 / 127.0;
    case KvFormat::Int4:
        return 1 / 7.0;
    }
    return 0;
}

} // namespace

std::optional<double> productError(Backend& backend, Backend& reference, const Format& format,
                                   const Activations& activations, ProductShape shape) {
    Random random(1 + static_cast<uint64_t>(shape.rows));
    Tensor weight = randomTensor(format, shape.outputs, shape.inputs, random);
    if (shape.outlierColumns > 0)
        addOutlierColumns(weight, shape.outlierColumns, random);
    weight.inputScale = 0.017f; // some inputs are beyond 127 steps
    const std::vector<float> hidden = exactRows(shape.rows, shape.inputs, random);
    const auto got = runProduct(backend, weight, activations, hidden, shape.rows);
    if (got.empty())
        return std::nullopt;
    const auto expected = runProduct(reference, weight, activations, hidden, shape.rows);
    return worstRatio(got, expected, hidden, weight, inputForm(weight, activations));
}

double layerError(Backend& backend, Backend& reference, int32_t rows, KvFormat k, KvFormat v) {
    return relativeDifference(runLayer(backend, rows, k, v), runLayer(reference, rows, k, v));
}

double layerBound(KvFormat k, KvFormat v) {
    // One layer of seven products over 256 terms and a softmax; condition number below 100.
    return 100.0 * 7 * kWidth * 0x1p-24 + std::max(stepOf(k), stepOf(v));
}

} // namespace nibble
