#include "core/runtime/kernel_bench.h"

#include "core/base/error.h"
#include "core/runtime/cpu/cpu_kernel_bench.h"
#include "core/runtime/random_tensor.h"
#include "core/runtime/vulkan/open.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace nibble {

double medianOf(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

namespace {

/// More than the last-level cache of any GPU today; software devices share a CPU's.
constexpr uint64_t kGpuBytes = uint64_t(256) << 20, kSoftwareBytes = uint64_t(96) << 20;
constexpr size_t kMostCopies = 64;    ///< of a small matrix, which a cache may then hold
constexpr int kWarmingDispatches = 8; ///< of at least 2 ms
constexpr uint64_t kBinding = uint64_t(96) << 20; ///< of the read probe

class KernelBench {
public:
    KernelBench(VulkanBackend& backend, const KernelBenchOptions& options, const Progress& progress)
        : m_context(backend.context()), m_uploader(m_context.uploader), m_options(options),
          m_progress(progress) {
        if (!m_uploader.device->hasClock())
            fail(ErrorKind::Usage, "{} has no clock to time kernels with.", backend.info().name);
        m_report.device = backend.info();
        m_unused = m_uploader.memory->allocate(Recording::kUnusedBytes, "Scratch memory");
        m_result = m_uploader.memory->allocate(16, "Scratch memory");
        m_bytes = m_report.device.kind == "software" ? kSoftwareBytes : kGpuBytes;
    }

    double onlyBandwidth() {
        dotRate(); // it says how to warm the device up
        readBandwidth();
        return m_report.readBandwidth;
    }

    KernelReport run() {
        dotRate();
        readBandwidth();
        allProducts();
        return std::move(m_report);
    }

    std::vector<KernelTime> onlyProducts(double seconds) {
        m_end = Clock::now() +
                std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
        dotRate(1000); // it says how to warm the device up
        allProducts();
        return std::move(m_report.kernels);
    }

private:
    using Clock = std::chrono::steady_clock;

    void allProducts() {
        double done = 0;
        const auto all = double(m_options.formats.size() * m_options.shapes.size());
        for (const std::string& format : m_options.formats)
            for (const KernelBenchOptions::Shape& shape : m_options.shapes) {
                m_progress.check();
                m_progress.report(done++, all, format);
                products(getFormat(format), shape);
            }
    }

    /// A GPU that has idled runs slowly for a while.
    void warmUp() {
        if (m_report.device.kind == "software")
            return;
        Recording recording(m_uploader.device, m_uploader.pipelines, m_unused);
        for (int i = 0; i < kWarmingDispatches; ++i)
            recording.dispatch(m_warming);
        recording.finish();
        recording.run();
    }

    /// Microseconds of each dispatch with the barrier after it, in the second of two runs.
    std::vector<double> time(const std::vector<Dispatch>& dispatches) {
        warmUp();
        Recording recording(m_uploader.device, m_uploader.pipelines, m_unused);
        recording.stamp();
        for (const Dispatch& d : dispatches) {
            recording.dispatch(d);
            recording.barrier();
            recording.stamp();
        }
        recording.finish();
        recording.run();
        recording.run();
        return recording.stampedMicroseconds();
    }

    void readBandwidth() {
        std::vector<Allocation> parts;
        std::vector<Dispatch> dispatches;
        for (uint64_t at = 0; at < m_bytes; at += kBinding) {
            parts.push_back(m_uploader.memory->allocate(kBinding, "Scratch memory"));
            Dispatch d;
            d.module = "probe_read";
            d.buffers[0] = parts.back();
            d.buffers[1] = m_result;
            d.setArguments(
                kernels::ProbeArguments{static_cast<uint32_t>(kBinding / 16), 0x9e3779b9});
            d.x = static_cast<uint32_t>(kBinding / 16 / PROBE_WORKGROUP / PROBE_READS);
            for (int i = 0; i < 3; ++i)
                dispatches.push_back(d);
        }
        // One after the other, so that none finds its part in a cache.
        std::vector<Dispatch> order;
        for (size_t i = 0; i < 3; ++i)
            for (size_t part = 0; part < parts.size(); ++part)
                order.push_back(dispatches[part * 3 + i]);
        m_report.readBandwidth = double(kBinding) / (medianOf(time(order)) * 1e-6);
    }

    /// Until one dispatch takes so many microseconds.
    void dotRate(double longest = 2000) {
        Dispatch d;
        d.module = m_context.paths.dot ? "probe_rate_dot" : "probe_rate";
        d.buffers[1] = m_result;
        d.x = m_report.device.kind == "software" ? 16 : 4096;
        d.setArguments(kernels::ProbeArguments{16, 0x9e3779b9});
        m_warming = d;
        for (uint32_t links = 16;; links *= 2) {
            d.setArguments(kernels::ProbeArguments{links, 0x9e3779b9});
            const double best = medianOf(time({d, d, d}));
            const double operations = 8.0 * PROBE_CHAINS * links * PROBE_WORKGROUP * d.x;
            m_report.dotRate = std::max(m_report.dotRate, operations / (best * 1e-6));
            m_warming = d;
            if (best > longest)
                break;
        }
        d.setArguments(kernels::ProbeArguments{1, 0x9e3779b9});
        d.x = 1;
        m_report.barrierMicroseconds = medianOf(time(std::vector<Dispatch>(32, d)));
    }

    std::vector<ProductTiling> tilings(int32_t m, bool units) const {
        using Tilings = KernelBenchOptions::Tilings;
        const ProductTiling& given = m_context.tiling.product(m);
        std::vector<ProductTiling> all{given};
        if (m_options.tilings == Tilings::Given || units)
            return all;
        const bool every = m_options.tilings == Tilings::Every;
        for (const uint32_t workgroup : {64u, 128u, 256u, 512u})
            for (const uint32_t tiles : {1u, 2u, 4u})
                for (const uint32_t ahead : {1u, 2u, 4u})
                    if (const ProductTiling t{workgroup, tiles, ahead, given.spread};
                        isKernel(t, static_cast<uint32_t>(m), m_uploader.device->limits()) &&
                        t != given && (every || (ahead == given.ahead && tiles <= 2)))
                        all.push_back(t);
        return all;
    }

    /// The same on the device, in memory of its own.
    DeviceMatrix copyOf(const DeviceMatrix& matrix) const {
        DeviceMatrix copy;
        copy.format = matrix.format;
        copy.rows = matrix.rows;
        copy.cols = matrix.cols;
        copy.constants = matrix.constants;
        Recording recording(m_uploader.device, m_uploader.pipelines, m_unused);
        for (const DeviceMatrix::Part& part : matrix.parts) {
            copy.parts.push_back(
                {m_uploader.memory->allocate(part.memory.size(), "Scratch memory"), part.planes});
            recording.copy(part.memory, copy.parts.back().memory, part.memory.size());
        }
        recording.finish();
        recording.run();
        return copy;
    }

    void products(const Format& format, KernelBenchOptions::Shape shape) {
        Random random(1);
        const Tensor tensor = randomTensor(format, shape.rows, shape.cols, random);
        const Activations activations{format.isFloat() ? ActivationFormat::Float
                                                       : ActivationFormat::Int8Block32};
        const auto form = m_uploader.uploadForm(inputForm(tensor, activations), shape.cols);
        std::vector<DeviceMatrix> copies;
        uint64_t bytes = 0;
        while ((bytes < m_bytes && copies.size() < kMostCopies) || copies.size() < 3) {
            copies.push_back(copies.empty() ? m_uploader.uploadMatrix(tensor, {})
                                            : copyOf(copies.front()));
            copies.back().stored = tensor.format;
            copies.back().form = form;
            bytes += copies.back().bytes();
        }
        const int32_t most = *std::max_element(m_options.rows.begin(), m_options.rows.end());
        const auto blocks = static_cast<uint64_t>(blocksOf(static_cast<int32_t>(shape.cols)));
        // Codes of 1, factors of 1: the time does not depend on them.
        const std::vector<uint32_t> words(blocks * uint64_t(most) * (format.isFloat() ? 32 : 8),
                                          0x01010101u),
            numbers(blocks * uint64_t(most) * 4, 0x3f800000u);
        const Allocation codes =
                             m_uploader.upload(std::as_bytes(std::span(words)), "Scratch memory"),
                         info =
                             m_uploader.upload(std::as_bytes(std::span(numbers)), "Scratch memory"),
                         result = m_uploader.memory->allocate(
                             uint64_t(most) * uint64_t(shape.rows) * 4, "Scratch memory");
        for (const int32_t rows : m_options.rows) {
            const bool units = onMatrixUnits(copies.front(), rows, m_context.paths);
            const bool dot = m_context.paths.dot && !format.isFloat() && !units;
            for (const ProductTiling& tiling : tilings(std::min(rows, kWidestRows), units)) {
                m_progress.check();
                if (Clock::now() > m_end)
                    return;
                std::vector<Dispatch> dispatches;
                for (const DeviceMatrix& copy : copies)
                    for (const DeviceMatrix::Part& part : copy.parts) {
                        Dispatch d = productDispatch(copy, part, rows, tiling, m_context.paths);
                        d.buffers[1] = codes;
                        d.buffers[2] = info;
                        d.buffers[3] = result;
                        kernels::ProductArguments a{};
                        a.planes = part.planes;
                        a.rows = static_cast<uint32_t>(rows);
                        a.outStride = static_cast<uint32_t>(shape.rows);
                        d.setArguments(a);
                        dispatches.push_back(d);
                        if (rows > kWidestRows && dispatches.size() == 3)
                            break;
                    }
                const auto parts = double(copies.front().parts.size());
                m_report.kernels.push_back(
                    {.format = std::string(format.name),
                     .rows = shape.rows,
                     .cols = shape.cols,
                     .activationRows = rows,
                     .kernel = units ? "matrix units" : (dot ? "dot, " : "") + tiling.text(),
                     .tiling = tiling,
                     .dot = dot,
                     .microseconds = medianOf(time(dispatches)) * parts,
                     .bytes = double(copies.front().bytes()) +
                              double(rows) * double(blocks * 48 + uint64_t(shape.rows) * 4),
                     .operations = 2.0 * rows * double(shape.rows) * double(shape.cols)});
            }
        }
    }

    VulkanContext& m_context;
    const Uploader& m_uploader;
    const KernelBenchOptions& m_options;
    const Progress& m_progress;
    Allocation m_unused, m_result;
    Dispatch m_warming;
    uint64_t m_bytes = 0;
    Clock::time_point m_end = Clock::time_point::max();
    KernelReport m_report;
};

} // namespace

namespace {

VulkanBackend& vulkanOf(Backend& backend) {
    if (auto* vulkan = dynamic_cast<VulkanBackend*>(&backend))
        return *vulkan;
    fail(ErrorKind::Usage, "{} is no Vulkan device.", backend.info().name);
}

} // namespace

KernelReport benchKernels(Backend& backend, const KernelBenchOptions& options,
                          const Progress& progress) {
    if (const DeviceInfo info = backend.info(); info.kind == "cpu")
        return benchCpuKernels(info, options, progress);
    return KernelBench(vulkanOf(backend), options, progress).run();
}

std::vector<KernelTime> timeProducts(Backend& backend, const KernelBenchOptions& options,
                                     double seconds) {
    const Progress progress;
    return KernelBench(vulkanOf(backend), options, progress).onlyProducts(seconds);
}

double vulkanReadBandwidth(Backend& backend) {
    const KernelBenchOptions options;
    const Progress progress;
    return KernelBench(vulkanOf(backend), options, progress).onlyBandwidth();
}

} // namespace nibble
