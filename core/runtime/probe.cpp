#include "core/runtime/probe.h"

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/kept_values.h"
#include "core/runtime/doctor_checks.h"
#include "core/runtime/kernel_bench.h"
#include "core/runtime/vulkan/open.h"
#include "core/tensor/format.h"
#include "vulkan_kernels/include/kernel_table.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <numeric>

namespace nibble {
namespace {

using Json = nlohmann::json;

constexpr const char* kFile = "kernels.json";
constexpr double kSeconds = 1.6; ///< of timing; the proof of what is chosen comes after it
/// A variant takes at most this share of the table's time, or its lead may be noise.
constexpr double kAhead = 0.96;
/// First those that matter most, should the time not be enough for all.
constexpr int32_t kRows[] = {1, 16, 8, 2, 4};
constexpr int32_t kManyRows = 512, kCheckedRows = 80;
constexpr const char* kFormat = "int4_g32";

size_t indexOf(int32_t rows) {
    return static_cast<size_t>(std::bit_width(static_cast<uint32_t>(rows)) - 1);
}

VulkanBackend* vulkanOf(Backend& backend) {
    return dynamic_cast<VulkanBackend*>(&backend);
}

void use(VulkanContext& context, const KernelChoice& choice) {
    context.paths.dot = choice.dot;
    context.paths.broadcast = choice.broadcast;
    context.paths.matrix = choice.matrix;
    context.tiling.products = choice.products;
    context.measured = choice.measured;
}

KernelChoice present(const VulkanContext& context) {
    return {.dot = context.paths.dot,
            .broadcast = context.paths.broadcast,
            .matrix = context.paths.matrix,
            .products = context.tiling.products,
            .measured = context.measured};
}

class Probe {
public:
    explicit Probe(VulkanBackend& backend)
        : m_backend(backend), m_context(backend.context()), m_table(present(m_context)) {}

    KernelChoice run() {
        KernelChoice best = m_table;
        best.measured = true;
        if (m_table.matrix)
            best.matrix = isWorthIt(m_context.paths.matrix, {kManyRows}) && isRight(kCheckedRows);
        if (m_table.broadcast)
            best.broadcast = isWorthIt(m_context.paths.broadcast, {1, 16}) && isRight(1);
        m_context.paths.matrix = best.matrix;
        m_context.paths.broadcast = best.broadcast;
        times(m_table.dot, {std::begin(kRows), std::end(kRows)},
              KernelBenchOptions::Tilings::Probe);
        if (m_table.dot) {
            times(false, {1, 16}, KernelBenchOptions::Tilings::Given);
            best.dot = !withoutDotIsFaster();
        }
        for (const int32_t rows : kRows)
            best.products[indexOf(rows)] = fastestRight(rows, best.dot);
        return best;
    }

private:
    using Tilings = KernelBenchOptions::Tilings;

    std::vector<KernelTime> measure(std::vector<int32_t> rows, Tilings tilings) {
        KernelBenchOptions options;
        options.shapes = {{4096, 4096}};
        options.formats = {kFormat};
        options.rows = std::move(rows);
        options.tilings = tilings;
        const std::chrono::duration<double> gone = std::chrono::steady_clock::now() - m_begun;
        return timeProducts(m_backend, options, kSeconds - gone.count());
    }

    /// To m_times.
    void times(bool dot, std::vector<int32_t> rows, Tilings tilings) {
        m_context.paths.dot = dot;
        for (KernelTime& time : measure(std::move(rows), tilings))
            m_times.push_back(std::move(time));
    }

    /// Microseconds; nothing where the time was not enough for it.
    std::optional<double> timeOf(int32_t rows, bool dot, const ProductTiling& tiling) const {
        for (const KernelTime& t : m_times)
            if (t.activationRows == rows && t.dot == dot && t.tiling == tiling)
                return t.microseconds;
        return std::nullopt;
    }

    /// Whether the table's products are not clearly slower with a path than without it. Leaves it
    /// on.
    bool isWorthIt(bool& path, const std::vector<int32_t>& rows) {
        const auto microseconds = [&](bool with) -> std::optional<double> {
            path = with;
            const std::vector<KernelTime> all = measure(rows, Tilings::Given);
            if (all.size() < rows.size())
                return std::nullopt; // there was no time for it
            return std::accumulate(
                all.begin(), all.end(), 0.0,
                [](double sum, const KernelTime& time) { return sum + time.microseconds; });
        };
        const auto with = microseconds(true), without = microseconds(false);
        path = true;
        return !with || !without || *with <= *without / kAhead;
    }

    bool withoutDotIsFaster() const {
        double with = 0, without = 0;
        for (const int32_t rows : {1, 16}) {
            const ProductTiling& tiling = m_table.products[indexOf(rows)];
            const auto a = timeOf(rows, true, tiling), b = timeOf(rows, false, tiling);
            if (!a || !b)
                return false;
            with += *a;
            without += *b;
        }
        return without < with * kAhead;
    }

    bool isRight(int32_t rows) {
        for (const int32_t inputs : {256, 1536}) {
            const auto error =
                productError(m_backend, *m_reference, getFormat(kFormat),
                             {ActivationFormat::Int8Block32}, {.rows = rows, .inputs = inputs});
            if (error && *error > 1)
                return false;
        }
        return true;
    }

    ProductTiling fastestRight(int32_t rows, bool dot) {
        m_context.paths.dot = dot;
        const ProductTiling table = m_table.products[indexOf(rows)];
        const std::optional<double> before = timeOf(rows, m_table.dot, table);
        std::vector<const KernelTime*> faster;
        for (const KernelTime& t : m_times)
            if (before && t.activationRows == rows && t.dot == m_table.dot &&
                t.microseconds < *before * kAhead)
                faster.push_back(&t);
        std::sort(faster.begin(), faster.end(), [](const KernelTime* a, const KernelTime* b) {
            return a->microseconds < b->microseconds;
        });
        ProductTiling& used = m_context.tiling.products[indexOf(rows)];
        for (const KernelTime* t : faster) {
            used = t->tiling;
            if (isRight(rows))
                return used;
        }
        return used = table; // what is wrong with it is the doctor's to say
    }

    VulkanBackend& m_backend;
    VulkanContext& m_context;
    KernelChoice m_table;
    std::shared_ptr<Backend> m_reference = openCpu(CpuMode::Scalar);
    std::chrono::steady_clock::time_point m_begun = std::chrono::steady_clock::now();
    std::vector<KernelTime> m_times;
};

/// The choice holds for this driver, these kernels and these features.
std::string nameOf(const VulkanBackend& backend, const KernelChoice& table) {
    uint64_t hash = hashText(table.text());
    for (const kernels::KernelModule& module : kernels::kernelModules())
        hash = hashBytes(std::as_bytes(std::span(module.hash)), hash);
    const DeviceInfo info = backend.info();
    return fmt::format("{}, {}, {}", info.name, info.driver, hashName(hash));
}

Json toJson(const KernelChoice& choice) {
    Json products = Json::array();
    for (const ProductTiling& t : choice.products)
        products.push_back({t.workgroup, t.tiles, t.ahead, t.spread ? 1 : 0});
    return {{"dot", choice.dot},
            {"broadcast", choice.broadcast},
            {"matrix", choice.matrix},
            {"products", products}};
}

/// Nothing for what the device cannot run, whoever wrote it.
std::optional<KernelChoice> fromJson(const Json& kept, const KernelChoice& table,
                                     const VkPhysicalDeviceLimits& limits) {
    KernelChoice choice = table;
    try {
        choice.dot = kept.at("dot").get<bool>() && table.dot;
        choice.broadcast = kept.at("broadcast").get<bool>() && table.broadcast;
        choice.matrix = kept.at("matrix").get<bool>() && table.matrix;
        for (size_t i = 0; i < choice.products.size(); ++i) {
            const Json& t = kept.at("products").at(i);
            choice.products[i] = {t.at(0).get<uint32_t>(), t.at(1).get<uint32_t>(),
                                  t.at(2).get<uint32_t>(), t.at(3).get<int>() != 0};
            if (!isKernel(choice.products[i], 1u << i, limits))
                return std::nullopt;
        }
    } catch (const Json::exception&) {
        return std::nullopt;
    }
    choice.measured = true;
    return choice;
}

/// "256x1x2".
std::optional<ProductTiling> tilingOf(std::string_view text, bool spread) {
    ProductTiling t{.spread = spread};
    const char *at = text.data(), *end = at + text.size();
    for (uint32_t* number : {&t.workgroup, &t.tiles, &t.ahead}) {
        const auto [next, code] = std::from_chars(at, end, *number);
        if (code != std::errc())
            return std::nullopt;
        const bool last = number == &t.ahead;
        if (last ? next != end : next == end || *next != 'x')
            return std::nullopt;
        at = next + 1;
    }
    return t;
}

} // namespace

std::string KernelChoice::text() const {
    std::string out = fmt::format("{}{}{}products of", dot ? "dot product, " : "",
                                  broadcast ? "broadcast, " : "", matrix ? "matrix units, " : "");
    for (size_t i = 0; i < products.size(); ++i)
        out += fmt::format("{} {} row{} {}", i == 0 ? "" : ",", 1u << i, i == 0 ? "" : "s",
                           products[i].text());
    return out;
}

void probeKernels(Backend& backend) {
    VulkanBackend* vulkan = vulkanOf(backend);
    if (!vulkan || !vulkan->context().uploader.device->hasClock())
        return;
    VulkanContext& context = vulkan->context();
    const KernelChoice table = present(context);
    const std::string name = nameOf(*vulkan, table);
    if (const auto kept =
            fromJson(keptValue(kFile, name), table, context.uploader.device->limits())) {
        use(context, *kept);
        return;
    }
    try {
        const KernelChoice choice = Probe(*vulkan).run();
        use(context, choice);
        keepValue(kFile, name, toJson(choice));
    } catch (const Error& error) {
        use(context, table);
        if (error.kind() != ErrorKind::OutOfMemory)
            throw;
    }
}

std::optional<KernelChoice> kernelChoice(Backend& backend) {
    VulkanBackend* vulkan = vulkanOf(backend);
    return vulkan ? std::optional(present(vulkan->context())) : std::nullopt;
}

void forceKernels(Backend& backend, const ForcedKernels& forced) {
    VulkanBackend* vulkan = vulkanOf(backend);
    if (!vulkan)
        fail(ErrorKind::Usage, "Kernels are chosen on Vulkan devices; {} is none.",
             backend.info().name);
    VulkanContext& context = vulkan->context();
    for (size_t at = 0; at < forced.without.size();) {
        const size_t comma = std::min(forced.without.find(',', at), forced.without.size());
        const std::string_view name = std::string_view(forced.without).substr(at, comma - at);
        at = comma + 1;
        VulkanPaths& paths = context.paths;
        bool* path = name == "dot"         ? &paths.dot
                     : name == "broadcast" ? &paths.broadcast
                     : name == "matrix"    ? &paths.matrix
                     : name == "tails"     ? &paths.tails
                     : name == "outliers"  ? &paths.outliers
                                           : nullptr;
        if (!path)
            fail(ErrorKind::Usage,
                 "There is no kernel path \"{}\": dot, broadcast, matrix, tails, outliers.",
                 printable(std::string(name)));
        *path = false;
    }
    if (forced.tiling.empty())
        return;
    const auto tiling = tilingOf(forced.tiling, context.tiling.products[0].spread);
    for (uint32_t i = 0; i < context.tiling.products.size(); ++i) {
        if (!tiling || !isKernel(*tiling, 1u << i, context.uploader.device->limits()))
            fail(ErrorKind::Usage,
                 "\"{}\" is no tiling of this device's products: WORKGROUPxTILESxAHEAD, for "
                 "instance {}x{}x{}.",
                 printable(forced.tiling), context.tiling.products[i].workgroup,
                 context.tiling.products[i].tiles, context.tiling.products[i].ahead);
        context.tiling.products[i] = *tiling;
    }
}

} // namespace nibble
