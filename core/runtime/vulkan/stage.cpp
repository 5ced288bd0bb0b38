#include "core/runtime/vulkan/stage.h"

#include "core/base/error.h"
#include "core/model/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace nibble {
namespace {

constexpr size_t kRecordings = 24;

int32_t padRows(int32_t rows, int32_t widest) {
    if (rows > widest)
        return (rows + widest - 1) / widest * widest;
    return static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(std::max(rows, 1))));
}

int32_t widestInput(const ModelConfig& c) {
    return std::max({c.width, c.queryWidth(), c.feedForward});
}

uint64_t inputBytes(const ModelConfig& c, int32_t rows, ActivationFormat format) {
    const auto blocks = uint64_t(blocksOf(widestInput(c))) * uint64_t(rows);
    return blocks * (format == ActivationFormat::Float ? 128 : 32) + blocks * 16;
}

uint64_t floatsBytes(const ModelConfig& c, const StageOptions& o, int32_t rows) {
    return uint64_t(rows) * 4 *
           uint64_t(
               3 * c.width + 2 * c.queryWidth() + 2 * c.feedForward +
               (DeviceKvCache::isQuantized(o.kFormat) + DeviceKvCache::isQuantized(o.vFormat)) *
                   c.kvWidth() +
               (o.heads ? 2 * c.vocabulary : 0));
}

uint64_t stepWords(const ModelConfig& c, const StageOptions& o, int32_t rows) {
    return uint64_t(STEP_PAGE_LISTS(rows, c.ropeDimensions)) +
           uint64_t(rows) * uint64_t(std::max(o.pages, 1));
}

} // namespace

VulkanContext::VulkanContext(std::shared_ptr<VulkanDevice> device)
    : uploader{device, std::make_shared<Pipelines>(device),
               std::make_shared<MemoryPool>(device, MemoryPool::Kind::Device),
               std::make_shared<MemoryPool>(device, MemoryPool::Kind::Host),
               std::make_shared<MemoryPool>(device, MemoryPool::Kind::Written)},
      tiling(kernelTiling(*device)) {
    paths.dot = device->features().dot;
    paths.matrix = device->features().matrix != VulkanFeatures::Matrix::None &&
                   Pipelines::hasModule("product_matrix");
}

VulkanStage::VulkanStage(const ModelConfig& config, const StageOptions& options,
                         std::shared_ptr<VulkanContext> context)
    : m_config(config), m_options(options), m_context(std::move(context)),
      m_frequencies(config.ropeFrequencies()), m_maxRows(padRows(options.maxRows, kWidestRows)) {
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
    m_attended = floats(config.queryWidth());
    m_gate = floats(config.feedForward);
    m_up = floats(config.feedForward);
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
    const int32_t layers = options.layers.end - options.layers.begin;
    m_keys = {config, options.kFormat, layers, options.pages, device};
    m_values = {config, options.vFormat, layers, options.pages, device};
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

MemoryUse VulkanStage::predict(const ModelConfig& config, const StageOptions& options) {
    const int32_t rows = padRows(options.maxRows, kWidestRows);
    MemoryUse use;
    use.kv = (DeviceKvCache::layerBytes(config, options.kFormat, options.pages) +
              DeviceKvCache::layerBytes(config, options.vFormat, options.pages)) *
             uint64_t(options.layers.end - options.layers.begin);
    use.scratch = Recording::kUnusedBytes + floatsBytes(config, options, rows) +
                  stepWords(config, options, rows) * 4 +
                  2 * inputBytes(config, rows, ActivationFormat::Float);
    return use;
}

/// Neighbours are what the kernels rotate together: halves are brought side by side.
std::vector<int64_t> VulkanStage::rotatedOrder(TensorKey key, int64_t rows) const {
    const bool rotates = key.role == Role::Query || key.role == Role::Key ||
                         key.role == Role::QueryBias || key.role == Role::KeyBias;
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
    for (const int slot : {kNormed, kInner})
        input({slot, form->form.format, form->form.hasOutliers(), 0});
}

std::shared_ptr<const DeviceForm> VulkanStage::deviceForm(const InputForm& form,
                                                          int64_t cols) const {
    for (const auto& [key, matrix] : m_matrices)
        if (matrix.cols == cols && matrix.form->form == form)
            return matrix.form;
    return m_context->uploader.uploadForm(form, cols);
}

VulkanStage::Input& VulkanStage::input(const InputKey& key) {
    Input& found = m_inputs[key];
    if (!found.words) {
        const auto blocks = uint64_t(blocksOf(widestInput(m_config)));
        const auto rows = uint64_t(m_maxRows);
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

VulkanStage::Forms VulkanStage::formsOf(std::initializer_list<Role> roles, int32_t layer) const {
    Forms all;
    for (const Role role : roles)
        if (const DeviceForm* form = matrix(role, layer).form.get();
            std::find(all.begin(), all.end(), form) == all.end())
            all.push_back(form);
    return all;
}

void VulkanStage::copyPage(int32_t from, int32_t to) {
    Recording once(m_context->uploader.device, m_context->uploader.pipelines, m_unused);
    m_keys.copyPage(once, from, to);
    m_values.copyPage(once, from, to);
    once.finish();
    once.run();
}

void VulkanStage::setHidden(std::span<const float> hidden) {
    std::copy(hidden.begin(), hidden.end(), m_hiddenHost.as<float>());
    m_hiddenGiven = true;
}

void VulkanStage::writeStep(const Batch& batch) {
    const auto rows = static_cast<uint32_t>(m_maxRows);
    const auto ropeDims = static_cast<uint32_t>(m_config.ropeDimensions);
    auto* step = m_step.as<uint32_t>();
    step[STEP_ROW_COUNT] = static_cast<uint32_t>(m_rows);
    step[STEP_LOGIT_COUNT] = static_cast<uint32_t>(m_logitRows);
    std::vector<uint32_t> starts(batch.sequences.size());
    uint32_t at = 0;
    uint32_t* lists = step + STEP_PAGE_LISTS(rows, ropeDims);
    for (size_t s = 0; s < batch.sequences.size(); ++s) {
        starts[s] = at;
        for (const int32_t page : batch.sequences[s])
            lists[at++] = static_cast<uint32_t>(page);
    }
    for (uint32_t i = 0; i < static_cast<uint32_t>(m_shape.rows); ++i) {
        const bool real = i < static_cast<uint32_t>(m_rows);
        const BatchRow row = real ? batch.rows[i] : BatchRow{};
        step[STEP_TOKENS + i] = static_cast<uint32_t>(row.token);
        step[STEP_POSITIONS(rows) + i] = static_cast<uint32_t>(row.position);
        step[STEP_PAGES(rows) + i] = real ? starts[static_cast<size_t>(row.sequence)] : 0;
        step[STEP_LOGIT_ROWS(rows) + i] =
            i < batch.logitRows.size() ? static_cast<uint32_t>(batch.logitRows[i]) : 0;
        for (uint32_t p = 0; p < ropeDims / 2; ++p) {
            const double angle = double(row.position) * double(m_frequencies[p]);
            uint32_t* to = step + STEP_ROPE(rows) + i * ropeDims + 2 * p;
            to[0] = std::bit_cast<uint32_t>(static_cast<float>(std::cos(angle)));
            to[1] = std::bit_cast<uint32_t>(static_cast<float>(std::sin(angle)));
        }
    }
}

bool VulkanStage::begin(const Batch& batch, Tap* tap) {
    m_rows = static_cast<int32_t>(batch.rows.size());
    const bool heads = m_options.heads && batch.layers.end == m_config.layers;
    m_logitRows = heads ? static_cast<int32_t>(batch.logitRows.size()) : 0;
    m_shape = {padRows(m_rows, kWidestRows),
               m_logitRows == 0 ? 0 : padRows(m_logitRows, kWidestRows), batch.layers.begin,
               batch.layers.end, m_hiddenGiven};
    m_hiddenGiven = false;
    m_tap = tap;
    m_tapped.clear();
    m_ready = false;
    writeStep(batch);
    if (!tap) {
        if (const auto found = m_recorded.find(m_shape); found != m_recorded.end()) {
            m_current = &found->second;
            m_recording = false;
            return false;
        }
        if (m_recorded.size() >= kRecordings)
            m_recorded.clear();
    }
    // Kept for replay when it is complete: a call that fails half way leaves nothing behind.
    m_current = &m_once;
    m_once = {};
    m_once.recording = std::make_unique<Recording>(m_context->uploader.device,
                                                   m_context->uploader.pipelines, m_unused);
    m_recording = true;
    if (m_timed)
        recording().stamp();
    if (m_shape.hidden) {
        recording().copy(m_hiddenHost, m_hidden, uint64_t(m_rows) * uint64_t(m_config.width) * 4);
        endStep("copies");
    }
    return true;
}

void VulkanStage::end() {
    if (m_recording) {
        recording().copy(m_hidden, m_hiddenHost,
                         uint64_t(m_shape.rows) * uint64_t(m_config.width) * 4);
        if (m_timed)
            endStep("copies");
        recording().finish();
        m_recording = false;
        if (!m_tap)
            m_current = &(m_recorded[m_shape] = std::move(m_once));
    }
    recording().run();
    m_barriersPerLayer = m_current->barriersPerLayer;
    std::vector<float> values;
    for (const Tapped& tapped : m_tapped) {
        values.clear();
        for (int32_t row = 0; row < tapped.rows; ++row) {
            const float* from = tapped.values.as<float>() + int64_t(row) * tapped.stride;
            values.insert(values.end(), from, from + tapped.width);
        }
        m_tap->values(tapped.site, tapped.rows, tapped.width, values.data());
    }
    m_tapped.clear();
    m_tap = nullptr;
}

void VulkanStage::endStep(const char* step) {
    recording().barrier();
    if (!m_timed)
        return;
    recording().stamp();
    m_current->steps.push_back(step);
}

void VulkanStage::setTimed(bool timed) {
    if (timed != m_timed)
        m_recorded.clear(), m_current = nullptr;
    m_timed = timed;
}

std::vector<StepTime> VulkanStage::stepTimes() const {
    std::vector<StepTime> times;
    if (!m_current || !m_current->recording)
        return times;
    const std::vector<double> spans = m_current->recording->stampedMicroseconds();
    for (size_t i = 0; i < std::min(spans.size(), m_current->steps.size()); ++i) {
        const std::string_view step = m_current->steps[i];
        auto found = std::find_if(times.begin(), times.end(),
                                  [&](const StepTime& t) { return t.step == step; });
        if (found == times.end())
            found = times.insert(times.end(), StepTime{.step = std::string(step)});
        ++found->count;
        found->microseconds += spans[i];
    }
    return times;
}

void VulkanStage::readHidden(std::span<float> out) {
    std::copy_n(m_hiddenHost.as<float>(), out.size(), out.begin());
}

void VulkanStage::readLogits(std::span<float> out) {
    std::copy_n(m_logitsHost.as<float>(), out.size(), out.begin());
}

MemoryUse VulkanStage::memory() const {
    MemoryUse use;
    for (const auto& [key, m] : m_matrices)
        use.weights += m.bytes();
    for (const auto& [key, values] : m_vectors)
        use.weights += values.size();
    use.kv = m_keys.bytes() + m_values.bytes();
    for (const Allocation* a :
         {&m_hidden, &m_query, &m_attended, &m_gate, &m_up, &m_logits, &m_counter, &m_unused,
          &m_key, &m_value, &m_step, &m_hiddenHost, &m_logitsHost})
        use.scratch += a->size();
    for (const auto& [key, in] : m_inputs)
        use.scratch += in.words.size() + in.info.size();
    return use;
}

std::vector<PathReport> VulkanStage::paths() const {
    std::vector<PathReport> all;
    for (const auto& [key, m] : m_matrices) {
        const std::string as = m.format == m.stored
                                   ? std::string(m.format->name)
                                   : fmt::format("{} (for {})", m.format->name, m.stored->name);
        all.push_back({key, m.stored->name, "vulkan",
                       fmt::format("{} × {}{}", as, m.form->form.text(),
                                   m.form->form.isFloat() ? ""
                                   : m_context->paths.dot ? ", dot"
                                                          : ", no dot")});
    }
    return all;
}

} // namespace nibble
