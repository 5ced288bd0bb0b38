#include "core/runtime/doctor.h"

#include "core/runtime/doctor_checks.h"
#include "core/runtime/vulkan/paths.h"
#include "core/tensor/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace nibble {
namespace {

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
        constexpr std::pair<KvFormat, KvFormat> kCaches[] = {{KvFormat::F32, KvFormat::F32},
                                                             {KvFormat::F16, KvFormat::F16},
                                                             {KvFormat::Int8, KvFormat::Int8},
                                                             {KvFormat::Int4, KvFormat::Int4},
                                                             {KvFormat::Int8, KvFormat::F16}};
        for (const auto& [k, v] : kCaches)
            for (const int32_t rows : {1, 5, 40})
                checkLayer(rows, k, v);
    }

    void checkLayer(int32_t rows, KvFormat k, KvFormat v) {
        const auto path = [&] {
            return fmt::format("norm, rope, attention, residual, SiLU: rows {}, K {}, V {}{}", rows,
                               name(k), name(v), m_paths && m_paths->tails ? ", tails" : "");
        };
        const auto measure = [&] { return layerError(m_backend, *m_reference, rows, k, v); };
        DoctorCheck& made = check(path(), layerBound(k, v), measure);
        if (!made.passed && m_paths && m_paths->tails) {
            made.note += "Differs from the reference; preparing rows in tails is off.";
            m_paths->tails = false;
            check(path(), layerBound(k, v), measure);
        }
    }

    /// Whether the product was right.
    bool checkProduct(const Format& format, const Activations& activations, ProductShape shape) {
        const bool isFloat = activations.format == ActivationFormat::Float;
        const std::string beside = shape.outlierColumns > 0
                                       ? fmt::format(", {} outlier columns", shape.outlierColumns)
                                       : "";
        const std::string path = fmt::format(
            "matmul {} × {}{}, M {}{}", format.name, name(activations.format), beside, shape.rows,
            !m_paths || isFloat                         ? ""
            : m_paths->matrix && shape.rows > kManyRows ? ", matrix units"
                                                        : variant());
        return check(path, 1,
                     [&] {
                         return productError(m_backend, *m_reference, format, activations, shape)
                             .value_or(0);
                     })
            .passed;
    }

    std::string variant() const {
        return fmt::format("{}, {}", m_paths->broadcast ? ", broadcast" : "",
                           m_paths->dot ? "dot" : "no dot");
    }

    /// Products of codes with outliers beside them, from a threshold that many values reach.
    void checkOutliers() {
        constexpr ActivationFormat kFormats[] = {
            ActivationFormat::Int8Outliers, ActivationFormat::Int8Static,
            ActivationFormat::Int8Block32, ActivationFormat::Float};
        constexpr int32_t kRows[] = {1, 4, 16, 20};
        size_t next = 0;
        for (const char* format : {"int8", "int8_g32"})
            for (const ActivationFormat activations : kFormats)
                for (const int32_t columns : {0, 7}) {
                    if (columns == 0 && activations != ActivationFormat::Int8Outliers)
                        continue;
                    if (m_paths && !m_paths->outliers)
                        return;
                    ProductShape shape{.rows = kRows[next++ % 4]};
                    shape.outlierColumns = columns;
                    if (checkProduct(getFormat(format), {activations, 1.5f}, shape) || !m_paths)
                        continue;
                    m_report.checks.back().note +=
                        "Differs from the reference; tensors with outliers are converted before "
                        "they are used.";
                    m_paths->outliers = false;
                }
    }

    void judge(const Format& format, ActivationFormat activations, int32_t rows) {
        if (m_paths && m_paths->avoids(format.name))
            return;
        if (checkProduct(format, activations, {.rows = rows}) || !m_paths)
            return;
        m_report.checks.back().note += "Differs from the reference; ";
        const auto isRightWithout = [&](bool& path, const char* what) {
            m_report.checks.back().note += fmt::format("{} off.", what);
            path = false;
            if (checkProduct(format, activations, {.rows = rows}))
                return true;
            m_report.checks.back().note += "Differs from the reference; ";
            return false;
        };
        if (m_paths->matrix && rows > kManyRows &&
            isRightWithout(m_paths->matrix, "the matrix units are"))
            return;
        const bool isInteger = activations != ActivationFormat::Float;
        if (m_paths->broadcast && isInteger &&
            isRightWithout(m_paths->broadcast, "reading activations for each other is"))
            return;
        if (m_paths->dot && isInteger &&
            isRightWithout(m_paths->dot, "the dot-product instruction is"))
            return;
        if (format.code != CodeKind::Float32) {
            m_report.checks.back().note +=
                fmt::format("{} is converted before it is used.", format.name);
            m_paths->wrongFormats.emplace_back(format.name);
        } else {
            m_report.checks.back().note += "nothing can replace it: do not use this device.";
        }
    }

    /// Every way to code weights that the matrix units take, on rows that fill a workgroup of
    /// theirs and part of another.
    void checkMatrixUnits() {
        for (const Format* format : coveringFormats())
            if (m_paths && m_paths->matrix && !format->isFloat() && format->group != 16)
                judge(*format, ActivationFormat::Int8Block32, 80);
    }

    void checkProducts() {
        // Pairs of (format, M), not the product: M walks while formats do.
        constexpr int32_t kRows[] = {1, 2, 4, 8, 16, 20};
        size_t next = 0;
        for (const Format* covering : coveringFormats()) {
            const Format& format = *covering;
            judge(format, ActivationFormat::Float, kRows[next++ % 6]);
            if (!format.isFloat())
                judge(format, ActivationFormat::Int8Block32, kRows[next++ % 6]);
        }
        for (const auto activations :
             {ActivationFormat::Int8Block64, ActivationFormat::Int8Block128,
              ActivationFormat::Int8Token, ActivationFormat::Int8Static})
            for (const char* format : {"int8", "int4_g128"})
                judge(getFormat(format), activations, kRows[next++ % 6]);
        checkMatrixUnits();
        checkOutliers();
        if (!m_paths)
            return;
        // Each path that has been right so far has one that may have to take its place.
        for (bool* path : {&m_paths->broadcast, &m_paths->dot}) {
            if (!*path)
                continue;
            *path = false;
            for (const char* format : {"int8_g32", "int4_g32z"})
                judge(getFormat(format), ActivationFormat::Int8Block32, kRows[next++ % 6]);
            *path = true;
        }
    }

    static constexpr int32_t kManyRows = 16; ///< more than these may run on matrix units

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
