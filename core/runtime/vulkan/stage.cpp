#include "core/runtime/vulkan/stage.h"

#include "core/base/error.h"
#include "core/model/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace nibble {
namespace {

constexpr int32_t kWidest = 16; // rows of the largest product kernel
constexpr size_t kRecordings = 24;

int32_t padRows(int32_t rows) {
    if (rows > kWidest)
        return (rows + kWidest - 1) / kWidest * kWidest;
    return static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(std::max(rows, 1))));
}

int32_t blocksOf(int32_t cols) {
    return (cols + 31) / 32;
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
           uint64_t(3 * c.width + 2 * c.queryWidth() + 2 * c.feedForward +
                    (o.heads ? 2 * c.vocabulary : 0));
}

uint64_t stepWords(const ModelConfig& c, const StageOptions& o, int32_t rows) {
    return uint64_t(STEP_PAGE_LISTS(rows, c.ropeDimensions)) +
           uint64_t(rows) * uint64_t(std::max(o.pages, 1));
}

uint64_t cacheBytes(const ModelConfig& c, const StageOptions& o, KvFormat format) {
    return uint64_t(c.kvWidth()) * kPageTokens * uint64_t(o.pages) *
           (format == KvFormat::F32 ? 4 : 2);
}

uint32_t codeOf(ActivationFormat format) {
    return format == ActivationFormat::Int8Token ? ACTIVATION_TOKEN
                                                 : static_cast<uint32_t>(activationBlock(format));
}

} // namespace

VulkanContext::VulkanContext(std::shared_ptr<VulkanDevice> device)
    : uploader{device, std::make_shared<Pipelines>(device),
               std::make_shared<MemoryPool>(device, MemoryPool::Kind::Device),
               std::make_shared<MemoryPool>(device, MemoryPool::Kind::Host)} {
    paths.dot = device->features().dot;
}

VulkanStage::VulkanStage(const ModelConfig& config, const StageOptions& options,
                         std::shared_ptr<VulkanContext> context)
    : m_config(config), m_options(options), m_context(std::move(context)),
      m_frequencies(config.ropeFrequencies()), m_maxRows(padRows(options.maxRows)) {
    for (const KvFormat format : {options.kFormat, options.vFormat})
        if (format != KvFormat::F32 && format != KvFormat::F16)
            fail(ErrorKind::Usage,
                 "Vulkan keeps keys and values as f32 or f16, not {}; use --kv f16, or the CPU.",
                 name(format));
    if (options.kFormat != options.vFormat)
        fail(ErrorKind::Usage, "Vulkan keeps keys and values in one format, not {} and {}.",
             name(options.kFormat), name(options.vFormat));
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
    m_step = host.allocate(stepWords(config, options, m_maxRows) * 4, "Step data");
    m_hiddenHost = host.allocate(m_hidden.size(), "Step data");
    for (int32_t i = options.layers.begin; i < options.layers.end; ++i) {
        m_keys.push_back(
            device.allocate(cacheBytes(config, options, options.kFormat), "The KV cache"));
        m_values.push_back(
            device.allocate(cacheBytes(config, options, options.vFormat), "The KV cache"));
    }
    for (const Allocation* a : {&m_gate, &m_logits, &m_keys.front()})
        if (*a && a->size() > m_context->uploader.device->limits().maxStorageBufferRange)
            fail(ErrorKind::OutOfMemory,
                 "A buffer of {} MB exceeds the {} MB that this device can bind; use a smaller "
                 "context or fewer rows a call.",
                 a->size() >> 20, m_context->uploader.device->limits().maxStorageBufferRange >> 20);
}

MemoryUse VulkanStage::predict(const ModelConfig& config, const StageOptions& options) {
    const int32_t rows = padRows(options.maxRows);
    MemoryUse use;
    use.kv = (cacheBytes(config, options, options.kFormat) +
              cacheBytes(config, options, options.vFormat)) *
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

void VulkanStage::setTensor(TensorKey key, const Tensor& tensor, ActivationFormat activations) {
    m_recorded.clear();
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
    const DeviceMatrix& placed = m_matrices[key] = m_context->uploader.uploadMatrix(
        tensor, activations, rotatedOrder(key, tensor.rows), m_context->paths);
    input(kNormed, placed.activations);
    input(kInner, placed.activations);
}

VulkanStage::Input& VulkanStage::input(int slot, ActivationFormat format) {
    Input& found = m_inputs[{slot, format}];
    if (!found.words) {
        const auto blocks = uint64_t(blocksOf(widestInput(m_config))) * uint64_t(m_maxRows);
        MemoryPool& pool = *m_context->uploader.memory;
        found.words = pool.allocate(blocks * (format == ActivationFormat::Float ? 128 : 32),
                                    "Scratch memory");
        found.info = pool.allocate(blocks * 16, "Scratch memory");
    }
    return found;
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

VulkanStage::Formats VulkanStage::formatsOf(std::initializer_list<Role> roles,
                                            int32_t layer) const {
    Formats all;
    for (const Role role : roles)
        all.insert(matrix(role, layer).activations);
    return all;
}

void VulkanStage::copyPage(int32_t from, int32_t to) {
    Recording once(m_context->uploader.device, m_context->uploader.pipelines, m_unused);
    const uint64_t page =
        cacheBytes(m_config, m_options, m_options.kFormat) / uint64_t(std::max(1, m_options.pages));
    for (const auto* caches : {&m_keys, &m_values})
        for (const Allocation& cache : *caches) {
            BufferView a = cache, b = cache;
            a.offset += page * uint64_t(from);
            b.offset += page * uint64_t(to);
            once.copy(a, b, page);
        }
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
    m_shape = {padRows(m_rows), m_logitRows == 0 ? 0 : padRows(m_logitRows), batch.layers.begin,
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
    m_current = tap ? &m_once : &m_recorded[m_shape];
    m_current->recording = std::make_unique<Recording>(m_context->uploader.device,
                                                       m_context->uploader.pipelines, m_unused);
    m_recording = true;
    if (m_shape.hidden) {
        recording().copy(m_hiddenHost, m_hidden, uint64_t(m_rows) * uint64_t(m_config.width) * 4);
        recording().barrier();
    }
    return true;
}

void VulkanStage::embed() {
    const DeviceMatrix& table = matrix(Role::TokenEmbedding, -1);
    for (const DeviceMatrix::Part& part : table.parts) {
        Dispatch d;
        d.module = "embed";
        d.constants = table.constants;
        d.buffers[0] = part.memory;
        d.buffers[1] = m_step;
        d.buffers[2] = m_hidden;
        d.setArguments(kernels::EmbedArguments{part.planes, static_cast<uint32_t>(m_config.width)});
        d.x = (part.planes.blocks + WORKGROUP - 1) / WORKGROUP;
        d.y = static_cast<uint32_t>(m_shape.rows);
        recording().dispatch(d);
    }
    recording().barrier();
}

kernels::PrepareArguments VulkanStage::prepareArguments(const Preparation& what) const {
    return {static_cast<uint32_t>(what.width), static_cast<uint32_t>(what.stride),
            static_cast<uint32_t>(blocksOf(what.width)), static_cast<uint32_t>(m_maxRows),
            m_config.normEpsilon};
}

VulkanStage::Preparation VulkanStage::normOf(Role role, int32_t layer) const {
    return {PREPARE_NORM, m_hidden, {}, vector(role, layer), m_config.width, m_config.width};
}

void VulkanStage::prepare(const Preparation& what, const Formats& formats, int slot, int32_t rows,
                          std::optional<TapSite> site) {
    const bool tapped = m_tap && site && m_tap->wants(*site);
    bool first = true;
    for (const ActivationFormat format : formats) {
        const Input& to = input(slot, format);
        Dispatch d;
        d.module = "prepare";
        d.constants = {{ID_PREPARE, what.kind}, {ID_ACTIVATION, codeOf(format)}};
        d.buffers[0] = what.source;
        d.buffers[1] = what.second;
        d.buffers[2] = what.norm;
        d.buffers[3] = m_step;
        d.buffers[4] = to.words;
        d.buffers[5] = to.info;
        if (what.logitRows)
            d.constants[ID_LOGIT_ROWS] = 1;
        if (tapped && first) {
            const int32_t stride = blocksOf(what.width) * 32;
            m_tapped.push_back({*site, what.logitRows ? m_logitRows : m_rows, what.width, stride,
                                m_context->uploader.host->allocate(
                                    uint64_t(rows) * uint64_t(stride) * 4, "Tapped values")});
            d.constants[ID_KEEP_FLOAT] = 1;
            d.buffers[6] = m_tapped.back().values;
        }
        first = false;
        d.setArguments(prepareArguments(what));
        d.x = static_cast<uint32_t>(rows);
        recording().dispatch(d);
    }
    recording().barrier();
}

bool VulkanStage::canTail(const Formats& formats) const {
    return m_context->paths.tails && !m_tap && m_shape.rows <= kWidest && formats.size() == 1;
}

void VulkanStage::addTail(Dispatch& d, kernels::PrepareArguments& arguments,
                          const Preparation& what, ActivationFormat format, int slot) {
    const Input& to = input(slot, format);
    d.constants[ID_TAIL] = 1;
    d.constants[ID_PREPARE] = what.kind;
    d.constants[ID_ACTIVATION] = codeOf(format);
    d.buffers[7] = what.norm;
    d.buffers[8] = to.words;
    d.buffers[9] = to.info;
    d.buffers[10] = m_counter;
    arguments = prepareArguments(what);
}

void VulkanStage::product(Role role, int32_t layer, int slot, uint32_t epilogue, BufferView out,
                          int32_t outStride, BufferView bias, BufferView cache, int32_t rows,
                          const Preparation* tail, ActivationFormat tailFormat, int tailSlot) {
    const DeviceMatrix& w = matrix(role, layer);
    const bool isFloat = w.activations == ActivationFormat::Float;
    const Input& from = input(slot, w.activations);
    const int32_t m = std::min(rows, kWidest);
    uint32_t workgroups = 0;
    for (const DeviceMatrix::Part& part : w.parts)
        workgroups += (part.planes.rows + TILE_ROWS - 1) / TILE_ROWS;
    for (const DeviceMatrix::Part& part : w.parts) {
        Dispatch d;
        d.module = m_context->paths.dot && !isFloat ? "product_dot" : "product";
        d.constants = w.constants;
        d.constants[ID_M] = static_cast<uint32_t>(m);
        d.constants[ID_FLOAT] = isFloat ? 1 : 0;
        d.constants[ID_EPILOGUE] = epilogue;
        d.constants[ID_BIAS] = bias.buffer ? 1 : 0;
        d.constants[ID_KV_HALF] = m_options.kFormat == KvFormat::F16 ? 1 : 0;
        d.buffers[0] = part.memory;
        d.buffers[1] = from.words;
        d.buffers[2] = from.info;
        d.buffers[3] = out;
        d.buffers[4] = bias;
        d.buffers[5] = cache;
        d.buffers[6] = m_step;
        kernels::ProductArguments a{};
        a.planes = part.planes;
        a.outStride = static_cast<uint32_t>(outStride);
        a.stepRows = static_cast<uint32_t>(m_maxRows);
        a.headSize = static_cast<uint32_t>(m_config.headSize);
        a.ropeDims = static_cast<uint32_t>(m_config.ropeDimensions);
        a.kvHeads = static_cast<uint32_t>(m_config.kvHeads);
        a.workgroups = workgroups;
        a.rows = static_cast<uint32_t>(rows);
        if (tail)
            addTail(d, a.tail, *tail, tailFormat, tailSlot);
        d.setArguments(a);
        d.x = (part.planes.rows + TILE_ROWS - 1) / TILE_ROWS;
        d.y = static_cast<uint32_t>(rows / m);
        recording().dispatch(d);
    }
}

void VulkanStage::qkv(int32_t layer) {
    if (!m_ready)
        prepare(normOf(Role::AttentionNorm, layer),
                formatsOf({Role::Query, Role::Key, Role::Value}, layer), kNormed, m_shape.rows,
                TapSite{TapSite::What::ProductInput, {Role::Query, layer}});
    const auto at = static_cast<size_t>(layer - m_options.layers.begin);
    product(Role::Query, layer, kNormed, EPILOGUE_QUERY, m_query, m_config.queryWidth(),
            vector(Role::QueryBias, layer), {}, m_shape.rows);
    product(Role::Key, layer, kNormed, EPILOGUE_KEY, {}, 0, vector(Role::KeyBias, layer),
            m_keys[at], m_shape.rows);
    product(Role::Value, layer, kNormed, EPILOGUE_VALUE, {}, 0, vector(Role::ValueBias, layer),
            m_values[at], m_shape.rows);
    recording().barrier();
}

void VulkanStage::attention(int32_t layer) {
    const auto at = static_cast<size_t>(layer - m_options.layers.begin);
    const Formats formats = formatsOf({Role::AttentionOutput}, layer);
    const Preparation next{PREPARE_PLAIN,         m_attended,           {}, {},
                           m_config.queryWidth(), m_config.queryWidth()};
    Dispatch d;
    d.module = "attention";
    d.constants = {{ID_HEAD_SIZE, static_cast<uint32_t>(m_config.headSize)},
                   {ID_KV_HALF, m_options.kFormat == KvFormat::F16 ? 1u : 0u}};
    d.buffers[0] = m_query;
    d.buffers[1] = m_keys[at];
    d.buffers[2] = m_values[at];
    d.buffers[3] = m_attended;
    d.buffers[6] = m_step;
    kernels::AttentionArguments a{};
    a.stepRows = static_cast<uint32_t>(m_maxRows);
    a.ropeDims = static_cast<uint32_t>(m_config.ropeDimensions);
    a.heads = static_cast<uint32_t>(m_config.heads);
    a.kvHeads = static_cast<uint32_t>(m_config.kvHeads);
    a.queryStride = a.outStride = static_cast<uint32_t>(m_config.queryWidth());
    a.scale = 1 / std::sqrt(static_cast<float>(m_config.headSize));
    a.rows = static_cast<uint32_t>(m_shape.rows);
    a.workgroups = a.heads * a.rows;
    const bool tail = canTail(formats);
    if (tail)
        addTail(d, a.tail, next, *formats.begin(), kInner);
    d.setArguments(a);
    d.x = a.heads;
    d.y = a.rows;
    recording().dispatch(d);
    recording().barrier();
    if (!tail)
        prepare(next, formats, kInner, m_shape.rows,
                TapSite{TapSite::What::ProductInput, {Role::AttentionOutput, layer}});
}

void VulkanStage::attentionOutput(int32_t layer) {
    const Formats formats = formatsOf({Role::Gate, Role::Up}, layer);
    const Preparation next = normOf(Role::FeedForwardNorm, layer);
    m_ready = canTail(formats);
    product(Role::AttentionOutput, layer, kInner, EPILOGUE_ADD, m_hidden, m_config.width,
            vector(Role::AttentionOutputBias, layer), {}, m_shape.rows, m_ready ? &next : nullptr,
            *formats.begin(), kNormed);
    recording().barrier();
}

void VulkanStage::gateUp(int32_t layer) {
    if (!m_ready)
        prepare(normOf(Role::FeedForwardNorm, layer), formatsOf({Role::Gate, Role::Up}, layer),
                kNormed, m_shape.rows, TapSite{TapSite::What::ProductInput, {Role::Gate, layer}});
    product(Role::Gate, layer, kNormed, EPILOGUE_STORE, m_gate, m_config.feedForward, {}, {},
            m_shape.rows);
    product(Role::Up, layer, kNormed, EPILOGUE_STORE, m_up, m_config.feedForward, {}, {},
            m_shape.rows);
    recording().barrier();
    prepare({PREPARE_SILU, m_gate, m_up, {}, m_config.feedForward, m_config.feedForward},
            formatsOf({Role::Down}, layer), kInner, m_shape.rows,
            TapSite{TapSite::What::ProductInput, {Role::Down, layer}});
}

void VulkanStage::down(int32_t layer) {
    m_ready = false;
    if (layer + 1 < m_shape.lastLayer) {
        const Formats formats = formatsOf({Role::Query, Role::Key, Role::Value}, layer + 1);
        const Preparation next = normOf(Role::AttentionNorm, layer + 1);
        m_ready = canTail(formats);
        product(Role::Down, layer, kInner, EPILOGUE_ADD, m_hidden, m_config.width, {}, {},
                m_shape.rows, m_ready ? &next : nullptr, *formats.begin(), kNormed);
    } else {
        product(Role::Down, layer, kInner, EPILOGUE_ADD, m_hidden, m_config.width, {}, {},
                m_shape.rows);
    }
    recording().barrier();
    if (layer == m_shape.firstLayer)
        m_current->barriersPerLayer = recording().barriers();
    if (layer + 1 == m_shape.lastLayer && layer > m_shape.firstLayer)
        m_current->barriersPerLayer = (recording().barriers() - m_current->barriersPerLayer) /
                                      (m_shape.lastLayer - m_shape.firstLayer - 1);
    const TapSite site{TapSite::What::LayerOutput, {Role::Down, layer}};
    if (m_tap && m_tap->wants(site)) {
        m_tapped.push_back({site, m_rows, m_config.width, m_config.width,
                            m_context->uploader.host->allocate(m_hidden.size(), "Tapped values")});
        recording().copy(m_hidden, m_tapped.back().values,
                         uint64_t(m_rows) * uint64_t(m_config.width) * 4);
    }
}

void VulkanStage::logits() {
    const Role head = m_config.tiedEmbedding ? Role::TokenEmbedding : Role::Output;
    Preparation norm = normOf(Role::OutputNorm, -1);
    norm.logitRows = true;
    prepare(norm, formatsOf({head}, -1), kNormed, m_shape.logitRows,
            TapSite{TapSite::What::ProductInput, {head, -1}});
    product(head, -1, kNormed, EPILOGUE_STORE, m_logits, m_config.vocabulary, {}, {},
            m_shape.logitRows);
    recording().barrier();
    recording().copy(m_logits, m_logitsHost,
                     uint64_t(m_shape.logitRows) * uint64_t(m_config.vocabulary) * 4);
}

void VulkanStage::end() {
    if (m_recording) {
        recording().copy(m_hidden, m_hiddenHost,
                         uint64_t(m_shape.rows) * uint64_t(m_config.width) * 4);
        recording().finish();
        m_recording = false;
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
    for (const auto* caches : {&m_keys, &m_values})
        for (const Allocation& cache : *caches)
            use.kv += cache.size();
    for (const Allocation* a : {&m_hidden, &m_query, &m_attended, &m_gate, &m_up, &m_logits,
                                &m_counter, &m_unused, &m_step, &m_hiddenHost, &m_logitsHost})
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
        const bool isFloat = m.activations == ActivationFormat::Float;
        all.push_back({key, m.stored->name, "vulkan",
                       fmt::format("{} × {}{}", as, name(m.activations),
                                   isFloat                ? ""
                                   : m_context->paths.dot ? ", dot"
                                                          : ", no dot")});
    }
    return all;
}

} // namespace nibble
