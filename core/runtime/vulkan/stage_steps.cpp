#include "core/runtime/vulkan/stage.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

uint32_t codeOf(ActivationFormat format) {
    switch (format) {
    case ActivationFormat::Int8Token:
    case ActivationFormat::Int8Outliers:
        return ACTIVATION_TOKEN;
    case ActivationFormat::Int8Static:
        return ACTIVATION_STATIC;
    default:
        return static_cast<uint32_t>(activationBlock(format));
    }
}

} // namespace

void VulkanStage::embed() {
    const DeviceMatrix& table = matrix(Role::TokenEmbedding, -1);
    for (const DeviceMatrix::Part& part : table.parts) {
        Dispatch d;
        d.module = "embed";
        d.constants = table.constants;
        d.constants[ID_OUTLIERS] = part.planes.columns != 0 ? 1 : 0;
        d.buffers[0] = part.memory;
        d.buffers[1] = m_step;
        d.buffers[2] = m_hidden;
        d.setArguments(kernels::EmbedArguments{part.planes, static_cast<uint32_t>(m_config.width)});
        d.x = (part.planes.blocks + SMALL_WORKGROUP - 1) / SMALL_WORKGROUP;
        d.y = static_cast<uint32_t>(m_shape.rows);
        recording().dispatch(d);
    }
    endStep("embedding");
}

kernels::PrepareArguments VulkanStage::prepareArguments(const Preparation& what) const {
    return {static_cast<uint32_t>(what.width), static_cast<uint32_t>(what.stride),
            static_cast<uint32_t>(blocksOf(what.width)), static_cast<uint32_t>(m_maxRows),
            m_config.normEpsilon};
}

VulkanStage::Preparation VulkanStage::normOf(Role role, int32_t layer) const {
    return {PREPARE_NORM, m_hidden, {}, vector(role, layer), m_config.width, m_config.width};
}

void VulkanStage::prepare(const Preparation& what, const Forms& forms, int slot, int32_t rows,
                          std::optional<TapSite> site) {
    const bool tapped = m_tap && site && m_tap->wants(*site);
    bool first = true;
    m_prepared[static_cast<size_t>(slot)] = forms;
    for (const DeviceForm* form : forms) {
        const Input& to = input(slot, *form);
        Dispatch d;
        d.module = "prepare";
        d.constants = {{ID_WORKGROUP, m_context->tiling.prepare},
                       {ID_PREPARE, what.kind},
                       {ID_ACTIVATION, codeOf(form->form.format)},
                       {ID_PREPARE_OUTLIERS, form->outliers()}};
        d.buffers[0] = what.source;
        d.buffers[1] = what.second;
        d.buffers[2] = what.norm;
        d.buffers[3] = m_step;
        d.buffers[4] = to.words;
        d.buffers[5] = to.info;
        d.buffers[7] = form->memory;
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
        d.y = static_cast<uint32_t>(rows);
        d.x = m_context->tiling.prepareParts(d.y, static_cast<uint32_t>(blocksOf(what.width)));
        recording().dispatch(d);
    }
    endStep(what.kind == PREPARE_SILU ? "SiLU" : "preparing inputs");
}

bool VulkanStage::canTail(const Forms& forms) const {
    return m_context->paths.tails && !m_tap && m_shape.rows <= m_context->tiling.tailRows &&
           forms.size() == 1;
}

void VulkanStage::addTail(Dispatch& d, kernels::PrepareArguments& arguments,
                          const Preparation& what, const DeviceForm& form, int slot) {
    m_prepared[static_cast<size_t>(slot)] = {&form};
    const Input& to = input(slot, form);
    d.constants[ID_TAIL] = 1;
    d.constants[ID_PREPARE] = what.kind;
    d.constants[ID_ACTIVATION] = codeOf(form.form.format);
    d.constants[ID_PREPARE_OUTLIERS] = form.outliers();
    d.buffers[7] = what.norm;
    d.buffers[8] = to.words;
    d.buffers[9] = to.info;
    d.buffers[10] = m_counter;
    d.buffers[11] = form.memory;
    arguments = prepareArguments(what);
}

void VulkanStage::product(const Product& p) {
    const DeviceMatrix& w = matrix(p.role, p.layer);
    const Input& from = input(p.slot, *w.form);
    std::vector<Dispatch> dispatches;
    uint32_t workgroups = 0;
    for (const DeviceMatrix::Part& part : w.parts) {
        dispatches.push_back(
            productDispatch(w, part, p.rows, m_context->tiling.product(p.rows), m_context->paths));
        workgroups += dispatches.back().x;
    }
    for (size_t i = 0; i < w.parts.size(); ++i) {
        Dispatch& d = dispatches[i];
        d.constants[ID_EPILOGUE] = p.epilogue;
        d.constants[ID_BIAS] = p.bias.buffer ? 1 : 0;
        d.constants[ID_KV] = p.cacheFormat;
        d.buffers[1] = from.words;
        d.buffers[2] = from.info;
        d.buffers[3] = p.out;
        d.buffers[4] = p.bias;
        d.buffers[5] = p.cache;
        d.buffers[6] = m_step;
        kernels::ProductArguments a{};
        a.planes = w.parts[i].planes;
        a.outStride = static_cast<uint32_t>(p.outStride);
        a.stepRows = static_cast<uint32_t>(m_maxRows);
        a.headSize = static_cast<uint32_t>(m_config.headSize);
        a.ropeDims = static_cast<uint32_t>(m_config.ropeDimensions);
        a.kvHeads = static_cast<uint32_t>(m_config.kvHeads);
        a.workgroups = workgroups;
        a.rows = static_cast<uint32_t>(p.rows);
        if (p.tail)
            addTail(d, a.tail, *p.tail, *p.tailForm, kNormed);
        d.setArguments(a);
        recording().dispatch(d);
    }
}

void VulkanStage::keyOrValue(Role role, int32_t layer, const DeviceKvCache& cache,
                             const Allocation& rows) {
    const bool isKey = role == Role::Key;
    Product p{.role = role, .layer = layer, .slot = kNormed, .rows = m_shape.rows};
    p.bias = vector(isKey ? Role::KeyBias : Role::ValueBias, layer);
    if (cache.isQuantized()) {
        p.epilogue = isKey ? EPILOGUE_QUERY : EPILOGUE_STORE;
        p.out = rows;
        p.outStride = m_config.kvWidth();
    } else {
        p.epilogue = isKey ? EPILOGUE_KEY : EPILOGUE_VALUE;
        p.cache = cache.layer(layer - m_options.layers.begin);
        p.cacheFormat = cache.code();
    }
    product(p);
}

void VulkanStage::storeCodes(int32_t layer, const DeviceKvCache& cache, const Allocation& rows) {
    Dispatch d;
    d.module = "store_kv";
    d.constants = {{ID_KV, cache.code()}};
    d.buffers[0] = rows;
    d.buffers[1] = cache.layer(layer - m_options.layers.begin);
    d.buffers[6] = m_step;
    const auto heads = static_cast<uint32_t>(m_config.kvHeads);
    const auto headSize = static_cast<uint32_t>(m_config.headSize);
    d.setArguments(kernels::StoreKvArguments{static_cast<uint32_t>(m_maxRows),
                                             static_cast<uint32_t>(m_config.ropeDimensions), heads,
                                             headSize});
    d.x = (heads * headSize / KV_BLOCK + SMALL_WORKGROUP - 1) / SMALL_WORKGROUP;
    d.y = static_cast<uint32_t>(m_shape.rows);
    recording().dispatch(d);
}

void VulkanStage::qkv(int32_t layer) {
    if (!m_ready)
        prepare(normOf(Role::AttentionNorm, layer),
                formsOf({Role::Query, Role::Key, Role::Value}, layer), kNormed, m_shape.rows,
                TapSite{TapSite::What::ProductInput, {Role::Query, layer}});
    product({.role = Role::Query,
             .layer = layer,
             .slot = kNormed,
             .rows = m_shape.rows,
             .epilogue = EPILOGUE_QUERY,
             .out = m_query,
             .outStride = m_config.queryWidth(),
             .bias = vector(Role::QueryBias, layer)});
    keyOrValue(Role::Key, layer, m_keys, m_key);
    keyOrValue(Role::Value, layer, m_values, m_value);
    endStep("queries, keys, values");
    if (m_keys.isQuantized())
        storeCodes(layer, m_keys, m_key);
    if (m_values.isQuantized())
        storeCodes(layer, m_values, m_value);
    if (m_keys.isQuantized() || m_values.isQuantized())
        endStep("storing keys and values");
}

void VulkanStage::attention(int32_t layer) {
    const int32_t at = layer - m_options.layers.begin;
    const Forms forms = formsOf({Role::AttentionOutput}, layer);
    const Preparation next{PREPARE_PLAIN,         m_attended,           {}, {},
                           m_config.queryWidth(), m_config.queryWidth()};
    Dispatch d;
    d.module = "attention";
    const uint32_t workgroup = m_context->tiling.attention;
    d.constants = {
        {ID_WORKGROUP, workgroup},
        {ID_PAIRS_EACH, (static_cast<uint32_t>(m_config.headSize) / 2 + workgroup - 1) / workgroup},
        {ID_HEAD_SIZE, static_cast<uint32_t>(m_config.headSize)},
        {ID_KV, m_keys.code()},
        {ID_VALUES, m_values.code()}};
    d.buffers[0] = m_query;
    d.buffers[1] = m_keys.layer(at);
    d.buffers[2] = m_values.layer(at);
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
    const bool tail = canTail(forms);
    if (tail)
        addTail(d, a.tail, next, *forms.front(), kInner);
    d.setArguments(a);
    d.x = a.heads;
    d.y = a.rows;
    recording().dispatch(d);
    endStep("attention");
    if (!tail)
        prepare(next, forms, kInner, m_shape.rows,
                TapSite{TapSite::What::ProductInput, {Role::AttentionOutput, layer}});
}

void VulkanStage::attentionOutput(int32_t layer) {
    const Forms forms = formsOf({Role::Gate, Role::Up}, layer);
    const Preparation next = normOf(Role::FeedForwardNorm, layer);
    m_ready = canTail(forms);
    product({.role = Role::AttentionOutput,
             .layer = layer,
             .slot = kInner,
             .rows = m_shape.rows,
             .epilogue = EPILOGUE_ADD,
             .out = m_hidden,
             .outStride = m_config.width,
             .bias = vector(Role::AttentionOutputBias, layer),
             .tail = m_ready ? &next : nullptr,
             .tailForm = forms.front()});
    endStep("output product");
}

void VulkanStage::gateUp(int32_t layer) {
    if (!m_ready)
        prepare(normOf(Role::FeedForwardNorm, layer), formsOf({Role::Gate, Role::Up}, layer),
                kNormed, m_shape.rows, TapSite{TapSite::What::ProductInput, {Role::Gate, layer}});
    for (const Role role : {Role::Gate, Role::Up})
        product({.role = role,
                 .layer = layer,
                 .slot = kNormed,
                 .rows = m_shape.rows,
                 .out = role == Role::Gate ? m_gate : m_up,
                 .outStride = m_config.feedForward});
    endStep("gate and up");
    prepare({PREPARE_SILU, m_gate, m_up, {}, m_config.feedForward, m_config.feedForward},
            formsOf({Role::Down}, layer), kInner, m_shape.rows,
            TapSite{TapSite::What::ProductInput, {Role::Down, layer}});
}

void VulkanStage::down(int32_t layer) {
    Product p{.role = Role::Down,
              .layer = layer,
              .slot = kInner,
              .rows = m_shape.rows,
              .epilogue = EPILOGUE_ADD,
              .out = m_hidden,
              .outStride = m_config.width};
    m_ready = false;
    Preparation next;
    if (layer + 1 < m_shape.lastLayer) {
        const Forms forms = formsOf({Role::Query, Role::Key, Role::Value}, layer + 1);
        next = normOf(Role::AttentionNorm, layer + 1);
        m_ready = canTail(forms);
        p.tail = m_ready ? &next : nullptr;
        p.tailForm = forms.front();
    }
    product(p);
    endStep("down product");
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
    prepare(norm, formsOf({head}, -1), kNormed, m_shape.logitRows,
            TapSite{TapSite::What::ProductInput, {head, -1}});
    product({.role = head,
             .layer = -1,
             .slot = kNormed,
             .rows = m_shape.logitRows,
             .out = m_logits,
             .outStride = m_config.vocabulary});
    endStep("logits");
    recording().copy(m_logits, m_logitsHost,
                     uint64_t(m_shape.logitRows) * uint64_t(m_config.vocabulary) * 4);
}

} // namespace nibble
