#include "core/runtime/vulkan/stage.h"

#include "core/base/error.h"
#include "core/model/names.h"
#include "core/runtime/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace nibble {
namespace {

int32_t widestInput(const ModelConfig& c) {
    return std::max({c.width, c.queryWidth(), c.widestFeedForward()});
}

uint64_t inputBytes(const ModelConfig& c, int32_t rows, ActivationFormat format) {
    const auto blocks = uint64_t(blocksOf(widestInput(c))) * uint64_t(rows);
    return blocks * (format == ActivationFormat::Float ? 128 : 32) + blocks * 16;
}

int32_t slotsOf(const ModelConfig& c, int32_t rows) {
    return rows * std::max(c.expertsUsed, 1);
}

/// Values inside the feed-forward part of one row, or of one slot of a mixture.
int32_t innerWidth(const ModelConfig& c) {
    return c.experts > 0 ? std::max(c.expertFeedForward, c.feedForward) : c.feedForward;
}

/// Values of a row that a layer's mixer makes.
int32_t mixedWidth(const ModelConfig& c) {
    return c.hasConvolutions() ? std::max(c.width, c.queryWidth()) : c.queryWidth();
}

uint64_t floatsBytes(const ModelConfig& c, const StageOptions& o, int32_t rows) {
    const auto slots = uint64_t(slotsOf(c, rows));
    const bool normed = c.queryKeyNorm != QueryKeyNorm::None;
    const int quantized =
        DeviceKvCache::isQuantized(o.kFormat) + DeviceKvCache::isQuantized(o.vFormat);
    uint64_t values =
        uint64_t(rows) *
        uint64_t(2 * c.width + c.queryWidth() + mixedWidth(c) + quantized * c.kvWidth() +
                 (c.hasConvolutions() ? 3 * c.width : 0) + (o.heads ? 2 * c.vocabulary : 0));
    values += 2 * slots * uint64_t(innerWidth(c));
    if (normed)
        values += uint64_t(rows) * uint64_t(c.queryWidth() + c.kvWidth());
    if (c.postNorms || c.experts > 0)
        values += slots * uint64_t(c.width);
    if (c.experts > 0)
        values += 2 * (slots + uint64_t(rows));
    if (c.sharedFeedForward > 0)
        values += uint64_t(rows) * uint64_t(2 * c.sharedFeedForward + c.width);
    return values * 4;
}

uint64_t ropeWordsOf(const ModelConfig& c) {
    return uint64_t(c.ropeDimensions) * (c.hasLocalRope() ? 2 : 1);
}

uint64_t stepWords(const ModelConfig& c, const StageOptions& o, int32_t rows) {
    return uint64_t(STEP_PAGE_LISTS(rows, ropeWordsOf(c))) +
           uint64_t(rows) * uint64_t(std::max(o.pages, 1));
}

} // namespace

int32_t padRows(int32_t rows) {
    if (rows > kWidestRows)
        return (rows + kWidestRows - 1) / kWidestRows * kWidestRows;
    return static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(std::max(rows, 1))));
}

VulkanContext::VulkanContext(std::shared_ptr<VulkanDevice> device)
    : uploader{device, std::make_shared<Pipelines>(device),
               std::make_shared<MemoryPool>(device, MemoryPool::Kind::Device),
               std::make_shared<MemoryPool>(device, MemoryPool::Kind::Host),
               std::make_shared<MemoryPool>(device, MemoryPool::Kind::Written)},
      tiling(kernelTiling(*device)) {
    paths.dot = device->features().dot;
    paths.broadcast = device->features().broadcast;
    paths.matrix = device->features().matrix != VulkanFeatures::Matrix::None &&
                   Pipelines::hasModule("product_matrix");
}

VulkanStage::VulkanStage(const ModelConfig& whole, const StageOptions& options,
                         std::shared_ptr<VulkanContext> context)
    : m_config(heldConfig(whole, options)), m_options(options), m_context(std::move(context)),
      m_maxRows(padRows(options.maxRows)) {
    const ModelConfig& config = m_config;
    m_frequencies[0] = config.ropeFrequencies(config.rope);
    if (config.hasLocalRope())
        m_frequencies[1] = config.ropeFrequencies(config.localRope);
    if (config.headSize % 2 != 0 || config.ropeDimensions % 2 != 0)
        fail(ErrorKind::Usage, "Heads of {} values cannot run on Vulkan; use the CPU.",
             config.headSize);
    MemoryPool& device = *m_context->uploader.memory;
    MemoryPool& host = *m_context->uploader.host;
    const auto floats = [&](int32_t width) {
        return device.allocate(uint64_t(m_maxRows) * uint64_t(width) * 4, "Scratch memory");
    };
    m_hidden = floats(config.width);
    m_query = floats(config.queryWidth());
    m_attended = floats(mixedWidth(config));
    if (config.hasConvolutions())
        m_gates = floats(3 * config.width);
    const auto slotFloats = [&](int32_t width) {
        return device.allocate(uint64_t(slots(m_maxRows)) * uint64_t(width) * 4, "Scratch memory");
    };
    if (innerWidth(config) > 0) {
        m_gate = slotFloats(innerWidth(config));
        m_up = slotFloats(innerWidth(config));
    }
    if (config.queryKeyNorm != QueryKeyNorm::None) {
        m_rawQuery = floats(config.queryWidth());
        m_rawKey = floats(config.kvWidth());
    }
    if (config.postNorms || config.experts > 0)
        m_added = slotFloats(config.width);
    if (config.experts > 0)
        m_routes = device.allocate(uint64_t(slots(m_maxRows) + m_maxRows) * 8, "Scratch memory");
    if (config.sharedFeedForward > 0) {
        m_sharedGate = floats(config.sharedFeedForward);
        m_sharedUp = floats(config.sharedFeedForward);
        m_sharedAdded = floats(config.width);
    }
    m_unused = device.allocate(Recording::kUnusedBytes, "Scratch memory");
    const std::vector<std::byte> zeros(256);
    m_counter = m_context->uploader.upload(zeros, "Scratch memory");
    if (options.heads) {
        m_logits = floats(config.vocabulary);
        m_logitsHost = host.allocate(m_logits.size(), "Logits");
    }
    m_step = m_context->uploader.written->allocate(stepWords(config, options, m_maxRows) * 4,
                                                   "Step data");
    m_hiddenHost = host.allocate(m_hidden.size(), "Step data");
    m_keys = {config, options.kFormat, options, device};
    m_values = {config, options.vFormat, options, device};
    for (int32_t layer = options.layers.begin; layer < options.layers.end; ++layer)
        m_states.push_back(options.mixes(layer) &&
                                   config.layer(layer).mixer == Mixer::Convolution &&
                                   stateSlots(config) > 0
                               ? device.allocate(statePageBytes(config) * uint64_t(options.pages),
                                                 "The states of convolutions")
                               : Allocation());
    if (m_keys.isQuantized())
        m_key = floats(config.kvWidth());
    if (m_values.isQuantized())
        m_value = floats(config.kvWidth());
    for (const Allocation* a : {&m_gate, &m_logits})
        if (a->size() > device.largestBinding())
            fail(ErrorKind::OutOfMemory,
                 "A buffer of {} MB exceeds the {} MB that this device can bind; use fewer rows a "
                 "call.",
                 a->size() >> 20, device.largestBinding() >> 20);
}

MemoryUse VulkanStage::predict(const ModelConfig& whole, const StageOptions& options) {
    const ModelConfig config = heldConfig(whole, options);
    const int32_t rows = padRows(options.maxRows);
    MemoryUse use;
    use.kv = DeviceKvCache::bytesOf(config, options.kFormat, options) +
             DeviceKvCache::bytesOf(config, options.vFormat, options);
    for (int32_t layer = options.layers.begin; layer < options.layers.end; ++layer)
        if (options.mixes(layer) && config.layer(layer).mixer == Mixer::Convolution)
            use.kv += statePageBytes(config) * uint64_t(options.pages);
    use.scratch =
        Recording::kUnusedBytes + floatsBytes(config, options, rows) +
        stepWords(config, options, rows) * 4 + inputBytes(config, rows, ActivationFormat::Float) +
        inputBytes(config, slotsOf(config, rows), ActivationFormat::Float) +
        (config.sharedFeedForward > 0 ? inputBytes(config, rows, ActivationFormat::Float) : 0);
    return use;
}

int32_t VulkanStage::slots(int32_t rows) const {
    return slotsOf(m_config, rows);
}

uint32_t VulkanStage::ropeWords() const {
    return static_cast<uint32_t>(ropeWordsOf(m_config));
}

uint32_t VulkanStage::listsAt() const {
    return STEP_PAGE_LISTS(static_cast<uint32_t>(m_maxRows), ropeWords());
}

uint32_t VulkanStage::ropeAt(int32_t layer) const {
    const auto rows = static_cast<uint32_t>(m_maxRows);
    switch (m_config.layer(layer).positions) {
    case LayerConfig::Positions::Global:
        return m_config.ropeDimensions == 0 ? 0 : STEP_ROPE(rows);
    case LayerConfig::Positions::Local:
        return STEP_ROPE(rows) + rows * static_cast<uint32_t>(m_config.ropeDimensions);
    case LayerConfig::Positions::None:
        break;
    }
    return 0;
}

/// Neighbours are what the kernels rotate together: halves are brought side by side.
std::vector<int64_t> VulkanStage::rotatedOrder(TensorKey key, int64_t rows) const {
    const bool rotates = key.role == Role::Query || key.role == Role::Key ||
                         key.role == Role::QueryBias || key.role == Role::KeyBias ||
                         key.role == Role::QueryNorm || key.role == Role::KeyNorm;
    if (!rotates || m_config.ropeStyle != RopeStyle::Halves)
        return {};
    std::vector<int64_t> order(static_cast<size_t>(rows));
    const int64_t half = m_config.ropeDimensions / 2;
    for (int64_t i = 0; i < rows; ++i) {
        const int64_t d = i % m_config.headSize;
        const int64_t from = d < 2 * half ? d / 2 + d % 2 * half : d;
        order[static_cast<size_t>(i)] = i - d + from;
    }
    return order;
}

void VulkanStage::setTensor(TensorKey key, const Tensor& tensor, const Activations& activations) {
    m_recorded.clear();
    m_current = nullptr;
    if (key.expert >= 0) {
        setExpert(key, tensor, activations);
        return;
    }
    if (!isMatrix(key.role)) {
        std::vector<float> values = decode(tensor);
        if (const auto order = rotatedOrder(key, static_cast<int64_t>(values.size()));
            !order.empty()) {
            const std::vector<float> before = values;
            for (size_t i = 0; i < order.size(); ++i)
                values[i] = before[static_cast<size_t>(order[i])];
        }
        m_vectors.erase(key);
        m_vectors[key] = m_context->uploader.upload(std::as_bytes(std::span(values)), "A tensor");
        return;
    }
    m_matrices.erase(key);
    const Tensor shaped = withKernel(tensor, activations, m_context->paths);
    const auto form = deviceForm(inputForm(shaped, activations), shaped.cols);
    DeviceMatrix& placed = m_matrices[key] =
        m_context->uploader.uploadMatrix(shaped, rotatedOrder(key, tensor.rows));
    placed.stored = tensor.format;
    placed.form = form;
    for (const int slot : {kNormed, kInner, kShared})
        if (slot != kShared || m_config.sharedFeedForward > 0)
            input({slot, form->form.format, form->form.hasOutliers(), 0});
}

std::shared_ptr<const DeviceForm> VulkanStage::deviceForm(const InputForm& form,
                                                          int64_t cols) const {
    for (const auto& [key, matrix] : m_matrices)
        if (matrix.cols == cols && matrix.form->form == form)
            return matrix.form;
    for (const auto& [key, experts] : m_experts)
        if (experts.shape.cols == cols && experts.shape.form->form == form)
            return experts.shape.form;
    return m_context->uploader.uploadForm(form, cols);
}

VulkanStage::Input& VulkanStage::input(const InputKey& key) {
    Input& found = m_inputs[key];
    if (!found.words) {
        const auto blocks = uint64_t(blocksOf(widestInput(m_config)));
        const auto rows = uint64_t(key.slot == kInner ? slots(m_maxRows) : m_maxRows);
        const uint64_t listWords = key.listsOutliers ? OUTLIER_LIST_WORDS(blocks) : 0;
        MemoryPool& pool = *m_context->uploader.memory;
        found.words = pool.allocate(
            rows * blocks * (key.format == ActivationFormat::Float ? 128 : 32), "Scratch memory");
        found.info = pool.allocate(rows * (blocks * 16 + listWords * 4), "Scratch memory");
    }
    return found;
}

VulkanStage::Input& VulkanStage::input(int slot, const DeviceForm& form) {
    InputKey key{slot, form.form.format, form.form.hasOutliers(), 0};
    for (const DeviceForm* prepared : m_prepared[static_cast<size_t>(slot)]) {
        if (prepared == &form)
            return input(key);
        key.ordinal += prepared->form.format == key.format &&
                       prepared->form.hasOutliers() == key.listsOutliers;
    }
    fail(ErrorKind::Internal, "The input of a product was not prepared as {}.", form.form.text());
}

const DeviceMatrix& VulkanStage::matrix(Role role, int32_t layer) const {
    const auto found = m_matrices.find({role, layer});
    if (found == m_matrices.end())
        fail(ErrorKind::Internal, "The {} tensor of layer {} was not loaded before running.",
             shortName(role), layer);
    return found->second;
}

BufferView VulkanStage::vector(Role role, int32_t layer) const {
    const auto found = m_vectors.find({role, layer});
    return found == m_vectors.end() ? BufferView() : BufferView(found->second);
}

VulkanStage::Forms VulkanStage::formsOf(std::span<const Role> roles, int32_t layer) const {
    Forms all;
    for (const Role role : roles)
        if (const DeviceForm* form = matrix(role, layer).form.get();
            std::find(all.begin(), all.end(), form) == all.end())
            all.push_back(form);
    return all;
}

void VulkanStage::copyPage(int32_t from, int32_t to) {
    if (!m_options.mixesAny())
        return;
    Recording once(m_context->uploader.device, m_context->uploader.pipelines, m_unused);
    m_keys.copyPage(once, from, to);
    m_values.copyPage(once, from, to);
    for (const Allocation& states : m_states) {
        if (!states)
            continue;
        const uint64_t bytes = statePageBytes(m_config);
        BufferView a = states, b = states;
        a.offset += bytes * uint64_t(from);
        b.offset += bytes * uint64_t(to);
        once.copy(a, b, bytes);
    }
    once.finish();
    once.run();
}

MemoryUse VulkanStage::memory() const {
    MemoryUse use;
    for (const auto& [key, m] : m_matrices)
        use.weights += m.bytes();
    for (const auto& [key, experts] : m_experts)
        for (const Experts::Part& part : experts.parts)
            use.weights += part.memory.size();
    for (const auto& [key, values] : m_vectors)
        use.weights += values.size();
    use.kv = m_keys.bytes() + m_values.bytes();
    for (const Allocation& states : m_states)
        use.kv += states.size();
    for (const Allocation* a :
         {&m_hidden,     &m_query,      &m_attended,   &m_gate,     &m_up,          &m_logits,
          &m_counter,    &m_unused,     &m_key,        &m_value,    &m_rawQuery,    &m_rawKey,
          &m_added,      &m_routes,     &m_sharedGate, &m_sharedUp, &m_sharedAdded, &m_step,
          &m_hiddenHost, &m_logitsHost, &m_gates})
        use.scratch += a->size();
    for (const auto& [key, in] : m_inputs)
        use.scratch += in.words.size() + in.info.size();
    return use;
}

std::vector<PathReport> VulkanStage::paths() const {
    std::vector<PathReport> all;
    const auto add = [&](TensorKey key, const DeviceMatrix& m) {
        const std::string as = m.format == m.stored
                                   ? std::string(m.format->name)
                                   : fmt::format("{} (for {})", m.format->name, m.stored->name);
        all.push_back({key, m.stored->name, "vulkan",
                       fmt::format("{} × {}{}", as, m.form->form.text(),
                                   m.form->form.isFloat() ? ""
                                   : m_context->paths.dot ? ", dot"
                                                          : ", no dot")});
    };
    for (const auto& [key, m] : m_matrices)
        add(key, m);
    for (const auto& [key, experts] : m_experts)
        for (int32_t e = 0; e < m_config.experts; ++e)
            add({key.role, key.layer, e}, experts.shape);
    return all;
}

} // namespace nibble
