#include "core/runtime/cpu/cpu_kernel_bench.h"

#include "core/base/parallel.h"
#include "core/runtime/cpu/cpu_matrix.h"
#include "core/runtime/random_tensor.h"
#include "core/tensor/format.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <numeric>

namespace nibble {
namespace {

using Clock = std::chrono::steady_clock;

/// More than the last-level cache of a desktop's processor.
constexpr size_t kMostCopies = 64; ///< of a small matrix, which a cache may then hold
constexpr uint64_t kBytes = uint64_t(128) << 20;
/// Of measuring one kernel with a number of rows, and the most runs in it.
constexpr double kSeconds = 0.3;
constexpr size_t kRuns = 64;

double secondsOf(const std::function<void()>& work) {
    const auto begun = Clock::now();
    work();
    return std::chrono::duration<double>(Clock::now() - begun).count();
}

class CpuKernelBench {
public:
    CpuKernelBench(const DeviceInfo& device, const KernelBenchOptions& options,
                   const Progress& progress)
        : m_kernels(device.id == "cpu:scalar" ? kScalarKernels : bestKernels()), m_options(options),
          m_progress(progress) {
        m_report.device = device;
    }

    KernelReport run() {
        m_report.readBandwidth = cpuReadBandwidth();
        m_report.dotRate = dotRate();
        double done = 0;
        const auto all = double(m_options.formats.size() * m_options.shapes.size());
        for (const std::string& format : m_options.formats)
            for (const KernelBenchOptions::Shape& shape : m_options.shapes) {
                m_progress.check();
                m_progress.report(done++, all, format);
                products(getFormat(format), shape);
            }
        // The bandwidth drifts on a shared machine.
        m_report.readBandwidth = std::max(m_report.readBandwidth, cpuReadBandwidth());
        return std::move(m_report);
    }

private:
    /// The best of a few runs of all threads.
    double dotRate() const {
        const auto threads = static_cast<size_t>(threadCount());
        double best = 0;
        for (int64_t times = 1 << 12;; times *= 2) {
            std::atomic<uint64_t> operations{0};
            const double seconds = secondsOf([&] {
                parallelFor(threads, 1, [&](size_t begin, size_t end) {
                    for (size_t i = begin; i < end; ++i)
                        operations += static_cast<uint64_t>(m_kernels.spin(times));
                });
            });
            best = std::max(best, double(operations) / seconds);
            if (seconds > 0.05)
                return best;
        }
    }

    void products(const Format& format, KernelBenchOptions::Shape shape) {
        Random random(1);
        const Tensor tensor = randomTensor(format, shape.rows, shape.cols, random);
        const Activations activations{format.isFloat() ? ActivationFormat::Float
                                                       : ActivationFormat::Int8Block32};
        // Tiles are a copy each time; planes are shared, and copied here.
        std::vector<int64_t> order(static_cast<size_t>(shape.rows));
        std::iota(order.begin(), order.end(), 0);
        std::deque<CpuMatrix> copies;
        uint64_t bytes = 0;
        while ((bytes < kBytes && copies.size() < kMostCopies) || copies.size() < 3) {
            m_progress.check();
            const bool shares = !copies.empty() && !copies.front().path().ends_with("tiles");
            copies.emplace_back(shares ? gatherRows(tensor, order) : tensor, activations,
                                m_kernels);
            bytes += copies.back().bytes();
        }
        for (const int32_t rows : m_options.rows) {
            m_progress.check();
            ActivationRows input(rows, shape.cols);
            input.begin(rows, shape.cols);
            for (int32_t row = 0; row < rows; ++row)
                std::fill_n(input.row(row), shape.cols, 1.0f);
            input.quantize(copies.front().form(), m_kernels);
            std::vector<float> out(static_cast<size_t>(rows) * static_cast<size_t>(shape.rows));
            std::vector<double> seconds;
            double all = 0;
            for (size_t i = 0; i < kRuns && (all < kSeconds || i < 3); ++i) {
                const CpuMatrix& matrix = copies[i % copies.size()];
                seconds.push_back(secondsOf([&] {
                    parallelFor(static_cast<size_t>(matrix.units()), 1,
                                [&](size_t begin, size_t end) {
                                    matrix.multiply(input, int64_t(begin), int64_t(end), out.data(),
                                                    shape.rows);
                                });
                }));
                all += seconds.back();
            }
            const auto blocks = static_cast<double>((shape.cols + 31) / 32);
            m_report.kernels.push_back(
                {.format = std::string(format.name),
                 .rows = shape.rows,
                 .cols = shape.cols,
                 .activationRows = rows,
                 .kernel = pathOf(copies.front()),
                 .tiling = {},
                 .microseconds = medianOf(seconds) * 1e6,
                 .bytes = double(copies.front().bytes()) +
                          double(rows) * (blocks * 48 + double(shape.rows) * 4),
                 .operations = 2.0 * rows * double(shape.rows) * double(shape.cols)});
        }
    }

    /// Behind the formats that CpuMatrix::path() begins with: "avx512-vnni, tiles".
    static std::string pathOf(const CpuMatrix& matrix) {
        const std::string& path = matrix.path();
        const size_t comma = path.find(", ");
        return comma == path.npos ? path : path.substr(comma + 2);
    }

    const CpuKernels& m_kernels;
    const KernelBenchOptions& m_options;
    const Progress& m_progress;
    KernelReport m_report;
};

} // namespace

KernelReport benchCpuKernels(const DeviceInfo& device, const KernelBenchOptions& options,
                             const Progress& progress) {
    return CpuKernelBench(device, options, progress).run();
}

} // namespace nibble
