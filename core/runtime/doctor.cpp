#include "core/runtime/doctor.h"

#include "core/base/half.h"
#include "core/base/random.h"
#include "core/runtime/vulkan/paths.h"
#include "core/tensor/planes.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>

namespace nibble {
namespace {

constexpr int32_t kWidth = 256, kOutputs = 40;

/// One layer, small enough for seconds on a software device, with partly filled tiles.
ModelConfig smallConfig() {
    ModelConfig c;
    c.layers = 1;
    c.width = c.feedForward = kWidth;
    c.heads = 8;
    c.kvHeads = 2;
    c.headSize = c.ropeDimensions = 32;
    c.vocabulary = kOutputs;
    c.contextLength = 128;
    c.normEpsilon = 0;
    c.ropeStyle = RopeStyle::Halves;
    return c;
}

StageOptions smallOptions(int32_t rows, KvFormat kv) {
    StageOptions o;
    o.layers = {0, 1};
    o.kFormat = o.vFormat = kv;
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

/// Random codes with scales of ordinary size.
Tensor randomTensor(const Format& format, int64_t rows, int64_t cols, Random& random) {
    if (format.isFloat()) {
        std::vector<float> values(static_cast<size_t>(rows * cols));
        for (float& value : values)
            value = static_cast<float>(random.normal() / std::sqrt(double(cols)));
        return makeFloatTensor("doctor", format, rows, cols, values);
    }
    TensorBuilder builder("doctor", format, rows, cols);
    std::vector<uint8_t> codes(static_cast<size_t>(cols));
    const auto scale = [&] { return static_cast<float>(0.005 + 0.01 * random.uniform()); };
    const auto bits = [&](int count) {
        return static_cast<uint32_t>(random.next() & ((1u << count) - 1));
    };
    for (int64_t row = 0; row < rows; ++row) {
        for (uint8_t& code : codes)
            code = static_cast<uint8_t>(bits(format.bits));
        builder.setCodes(row, codes.data());
        for (int64_t g = 0; g < format.groupCount(cols); ++g) {
            uint32_t raw = floatToHalf(scale());
            if (format.scale == ScaleKind::F32)
                raw = std::bit_cast<uint32_t>(scale());
            else if (format.scale == ScaleKind::BF16)
                raw = floatToBfloat(scale());
            else if (format.scale == ScaleKind::E8M0)
                raw = 118 + bits(3);
            else if (format.scale == ScaleKind::E4M3)
                raw = bits(6);
            else if (format.scale == ScaleKind::Code)
                raw = bits(format.scaleBits);
            builder.setScale(row, g, raw);
            if (format.offset == OffsetKind::Value)
                builder.setOffset(row, g, floatToHalf(scale()));
            else if (format.offset != OffsetKind::None)
                builder.setOffset(row, g, static_cast<uint16_t>(bits(format.offsetBits)));
        }
        for (int64_t s = 0; s < format.superCount(cols); ++s) {
            if (format.scale == ScaleKind::Code)
                builder.setSuperScale(row, s, floatToHalf(scale()));
            if (format.offset == OffsetKind::Code)
                builder.setSuperOffset(row, s, floatToHalf(scale()));
        }
    }
    return builder.finish();
}

/// A row of small integers whose mean square is exactly 128²: sums of squares are exact in float32
/// and the norm divides by a power of two, so that every backend quantizes the same numbers.
std::vector<float> exactRow(Random& random) {
    constexpr int64_t kTarget = int64_t(kWidth) << 14;
    std::vector<int64_t> row(kWidth);
    int64_t left = kTarget;
    for (int32_t i = 0; i < kWidth - 64; ++i) {
        row[size_t(i)] = static_cast<int64_t>(random.next() % 255) - 127;
        left -= row[size_t(i)] * row[size_t(i)];
    }
    // Greedily taking the largest square leaves a remainder that shrinks to nothing: each step
    // leaves less than twice the root.
    for (int32_t i = kWidth - 64; i < kWidth; ++i) {
        const int64_t most = i < kWidth - 16 ? left / (kWidth - i) : left;
        row[size_t(i)] = static_cast<int64_t>(std::sqrt(double(most)));
        left -= row[size_t(i)] * row[size_t(i)];
    }
    return {row.begin(), row.end()};
}

std::vector<float> exactRows(int32_t rows, Random& random) {
    std::vector<float> all;
    for (int32_t i = 0; i < rows; ++i) {
        const auto row = exactRow(random);
        all.insert(all.end(), row.begin(), row.end());
    }
    return all;
}

Tensor ones() {
    return makeFloatTensor("doctor", getFormat("f32"), 1, kWidth, std::vector<float>(kWidth, 1.0f));
}

/// Empty when the backend converts this format first: that is not a path of its own.
std::vector<float> runProduct(Backend& backend, const Tensor& weight, ActivationFormat activations,
                              const std::vector<float>& hidden, int32_t rows) {
    const auto stage = backend.makeStage(smallConfig(), smallOptions(rows, KvFormat::F32));
    stage->setTensor({Role::OutputNorm, -1}, ones(), ActivationFormat::Float);
    stage->setTensor({Role::Output, -1}, weight, activations);
    const auto paths = stage->paths();
    if (paths.empty() || !paths.front().path.starts_with(std::string(weight.format->name) + " × "))
        return {};
    const Batch batch = batchOf(rows);
    stage->setHidden(hidden);
    if (stage->begin(batch, nullptr))
        stage->logits();
    stage->end();
    std::vector<float> out(static_cast<size_t>(rows) * kOutputs);
    stage->readLogits(out);
    return out;
}

/// Largest difference relative to (K/128 + 16) · 2⁻²⁴ · Σ |x| (|w| + 2 |o|): four partial sums of
/// K/32 blocks each, a few roundings a block, and as much again for the reference.
double worstRatio(const std::vector<float>& got, const std::vector<float>& expected,
                  const std::vector<float>& hidden, const Tensor& weight) {
    const std::vector<float> values = decode(weight);
    const double unit = 2 * (kWidth / 128.0 + 16) * 0x1p-24;
    double worst = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        const size_t row = i / kOutputs, out = i % kOutputs;
        double sum = 0;
        for (size_t k = 0; k < kWidth; ++k) {
            double offset = 0;
            if (!weight.format->isFloat())
                offset =
                    std::fabs(double(groupValues(weight, int64_t(out),
                                                 int64_t(k) / weight.format->groupLength(kWidth))
                                         .offset));
            sum += std::fabs(double(hidden[row * kWidth + k])) / 128 *
                   (std::fabs(double(values[out * kWidth + k])) + 2 * offset);
        }
        const double error = std::fabs(double(got[i]) - double(expected[i]));
        worst = std::max(worst, std::isfinite(error) ? error / (unit * sum) : HUGE_VAL);
    }
    return worst;
}

/// The hidden rows after a whole layer: a prompt, then single tokens.
std::vector<float> runLayer(Backend& backend, int32_t rows, KvFormat kv,
                            ActivationFormat activations) {
    Random random(7);
    const ModelConfig config = smallConfig();
    const auto stage = backend.makeStage(config, smallOptions(rows, kv));
    const auto set = [&](Role role, int64_t outputs) {
        stage->setTensor({role, 0}, randomTensor(getFormat("f16"), outputs, kWidth, random),
                         activations);
    };
    stage->setTensor({Role::AttentionNorm, 0}, ones(), ActivationFormat::Float);
    stage->setTensor({Role::FeedForwardNorm, 0}, ones(), ActivationFormat::Float);
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

class Doctor {
public:
    Doctor(Backend& backend, const Progress& progress)
        : m_backend(backend), m_paths(vulkanPaths(backend)), m_progress(progress) {}

    DoctorReport run() {
        const auto start = std::chrono::steady_clock::now();
        m_report.device = m_backend.info();
        checkLayers();
        checkProducts();
        m_report.seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return std::move(m_report);
    }

private:
    template <typename Measure>
    DoctorCheck& check(std::string path, double bound, const Measure& measure) {
        m_progress.check();
        m_progress.report(double(m_report.checks.size()), 80, path);
        const auto start = std::chrono::steady_clock::now();
        DoctorCheck made;
        made.path = std::move(path);
        made.bound = bound;
        try {
            made.error = measure();
            made.passed = made.error <= bound;
        } catch (const Error& error) {
            if (error.kind() == ErrorKind::DeviceLost || error.kind() == ErrorKind::OutOfMemory)
                throw;
            made.error = HUGE_VAL;
            made.note = error.what();
        }
        made.milliseconds =
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                .count();
        m_report.checks.push_back(std::move(made));
        return m_report.checks.back();
    }

    void checkLayers() {
        // One layer of seven products over 256 terms and a softmax; condition number below 100.
        // Keys and values in f16 may round to a neighbour: half a unit of 2⁻¹¹ in each.
        const double rounding = 100.0 * 7 * kWidth * 0x1p-24;
        for (const KvFormat kv : {KvFormat::F32, KvFormat::F16})
            for (const int32_t rows : {1, 5, 40}) {
                const double bound = rounding + (kv == KvFormat::F16 ? 0x1p-11 : 0);
                const auto path = [&] {
                    return fmt::format("norm, rope, attention, residual, SiLU: rows {}, KV {}{}",
                                       rows, name(kv), m_paths && m_paths->tails ? ", tails" : "");
                };
                const auto measure = [&] {
                    return relativeDifference(
                        runLayer(m_backend, rows, kv, ActivationFormat::Float),
                        runLayer(*m_reference, rows, kv, ActivationFormat::Float));
                };
                DoctorCheck& made = check(path(), bound, measure);
                if (!made.passed && m_paths && m_paths->tails) {
                    made.note += "Differs from the reference; preparing rows in tails is off.";
                    m_paths->tails = false;
                    check(path(), bound, measure);
                }
            }
    }

    /// Whether the product was right.
    bool checkProduct(const Format& format, ActivationFormat activations, int32_t rows) {
        Random random(1 + static_cast<uint64_t>(rows));
        const Tensor weight = randomTensor(format, kOutputs, kWidth, random);
        const std::vector<float> hidden = exactRows(rows, random);
        const bool isFloat = activations == ActivationFormat::Float;
        const std::string path =
            fmt::format("matmul {} × {}, M {}{}", format.name, name(activations), rows,
                        !m_paths || isFloat ? ""
                        : m_paths->dot      ? ", dot"
                                            : ", no dot");
        return check(path, 1,
                     [&] {
                         return worstRatio(
                             runProduct(m_backend, weight, activations, hidden, rows),
                             runProduct(*m_reference, weight, activations, hidden, rows), hidden,
                             weight);
                     })
            .passed;
    }

    void judge(const Format& format, ActivationFormat activations, int32_t rows) {
        if (m_paths && m_paths->avoids(format.name))
            return;
        if (checkProduct(format, activations, rows) || !m_paths)
            return;
        m_report.checks.back().note += "Differs from the reference; ";
        if (m_paths->dot && activations != ActivationFormat::Float) {
            m_report.checks.back().note += "the dot-product instruction is off.";
            m_paths->dot = false;
            if (checkProduct(format, activations, rows))
                return;
            m_report.checks.back().note += "Differs from the reference; ";
        }
        if (format.code != CodeKind::Float32) {
            m_report.checks.back().note +=
                fmt::format("{} is converted before it is used.", format.name);
            m_paths->wrongFormats.emplace_back(format.name);
        } else {
            m_report.checks.back().note += "nothing can replace it: do not use this device.";
        }
    }

    void checkProducts() {
        // Pairs of (format, M), not the product: M walks while formats do.
        constexpr int32_t kRows[] = {1, 2, 4, 8, 16, 20};
        size_t next = 0;
        for (const Format& format : formats()) {
            judge(format, ActivationFormat::Float, kRows[next++ % 6]);
            if (!format.isFloat())
                judge(format, ActivationFormat::Int8Block32, kRows[next++ % 6]);
        }
        for (const auto activations : {ActivationFormat::Int8Block64,
                                       ActivationFormat::Int8Block128, ActivationFormat::Int8Token})
            for (const char* format : {"int8", "int4_g128"})
                judge(getFormat(format), activations, kRows[next++ % 6]);
        if (!m_paths || !m_paths->dot)
            return;
        m_paths->dot = false;
        for (const char* format : {"int8_g32", "int4_g32z"})
            judge(getFormat(format), ActivationFormat::Int8Block32, kRows[next++ % 6]);
        m_paths->dot = true;
    }

    Backend& m_backend;
    VulkanPaths* m_paths;
    const Progress& m_progress;
    std::shared_ptr<Backend> m_reference = openCpu(CpuMode::Scalar);
    DoctorReport m_report;
};

} // namespace

int DoctorReport::failed() const {
    return static_cast<int>(std::count_if(checks.begin(), checks.end(),
                                          [](const DoctorCheck& c) { return !c.passed; }));
}

DoctorReport runDoctor(Backend& backend, const Progress& progress) {
    return Doctor(backend, progress).run();
}

} // namespace nibble
