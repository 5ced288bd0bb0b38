#include "core/runtime/vulkan/stage.h"

namespace nibble {
namespace {

/// A multiply-add of floats in attention, in those of a product's codes.
constexpr double kFloatWork = 4;

} // namespace

void VulkanStage::keyOrValue(Role role, int32_t layer, const DeviceKvCache& cache,
                             const Allocation& rows) {
    const bool isKey = role == Role::Key;
    Product p{.role = role, .layer = layer, .slot = kNormed, .rows = m_shape.rows};
    p.ropeAt = ropeAt(layer);
    if (cache.isQuantized()) {
        p.epilogue = isKey ? EPILOGUE_QUERY : EPILOGUE_STORE;
        p.out = rows;
        p.outStride = m_config.kvWidth();
    } else {
        p.epilogue = isKey ? EPILOGUE_KEY : EPILOGUE_VALUE;
        p.cache = cache.layer(layer - m_options.layers.begin);
        p.cacheFormat = cache.code();
    }
    if (isKey && m_config.queryKeyNorm != QueryKeyNorm::None) {
        finishHeads(role, layer, m_rawKey, p);
        return;
    }
    p.bias = vector(isKey ? Role::KeyBias : Role::ValueBias, layer);
    product(p);
}

/// The second half of a product whose rows were kept as floats (see qkv).
void VulkanStage::finishHeads(Role role, int32_t layer, const Allocation& from, const Product& to) {
    const bool isQuery = role == Role::Query;
    const auto heads = static_cast<uint32_t>(isQuery ? m_config.heads : m_config.kvHeads);
    Dispatch d;
    d.module = "heads";
    d.constants = {
        {ID_EPILOGUE, to.epilogue},
        {ID_KV, to.cacheFormat},
        {ID_NORMED, m_config.queryKeyNorm == QueryKeyNorm::Head ? NORMED_HEAD : NORMED_ROW}};
    d.buffers[1] = from;
    d.buffers[2] = vector(isQuery ? Role::QueryNorm : Role::KeyNorm, layer);
    d.buffers[3] = to.out;
    d.buffers[5] = to.cache;
    d.buffers[6] = m_step;
    DeviceMatrix::Part whole{};
    whole.planes.rows = heads * static_cast<uint32_t>(m_config.headSize);
    kernels::ProductArguments a = productArguments(whole, to);
    a.tail.epsilon = m_config.normEpsilon;
    d.setArguments(a);
    d.x = heads;
    d.y = static_cast<uint32_t>(m_shape.rows);
    recording().dispatch(d);
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
    d.setArguments(
        kernels::StoreKvArguments{static_cast<uint32_t>(m_maxRows), listsAt(), heads, headSize});
    d.x = (heads * headSize / KV_BLOCK + SMALL_WORKGROUP - 1) / SMALL_WORKGROUP;
    d.y = static_cast<uint32_t>(m_shape.rows);
    recording().dispatch(d);
}

void VulkanStage::qkv(int32_t layer) {
    if (!m_ready)
        prepare(normOf(Role::AttentionNorm, layer),
                formsOf({Role::Query, Role::Key, Role::Value}, layer), kNormed, m_shape.rows,
                TapSite{TapSite::What::ProductInput, {Role::Query, layer}});
    const bool normsHeads = m_config.queryKeyNorm != QueryKeyNorm::None;
    if (normsHeads) {
        for (const Role role : {Role::Query, Role::Key})
            product({.role = role,
                     .layer = layer,
                     .slot = kNormed,
                     .rows = m_shape.rows,
                     .out = role == Role::Query ? m_rawQuery : m_rawKey,
                     .outStride = role == Role::Query ? m_config.queryWidth() : m_config.kvWidth(),
                     .bias = vector(role == Role::Query ? Role::QueryBias : Role::KeyBias, layer)});
        keyOrValue(Role::Value, layer, m_values, m_value);
        endStep("queries, keys, values");
    }
    const Product query{.role = Role::Query,
                        .layer = layer,
                        .slot = kNormed,
                        .rows = m_shape.rows,
                        .epilogue = EPILOGUE_QUERY,
                        .out = m_query,
                        .outStride = m_config.queryWidth(),
                        .bias = vector(Role::QueryBias, layer),
                        .ropeAt = ropeAt(layer)};
    if (normsHeads)
        finishHeads(Role::Query, layer, m_rawQuery, query);
    else
        product(query);
    keyOrValue(Role::Key, layer, m_keys, m_key);
    if (!normsHeads)
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
    if (const BufferView sinks = vector(Role::AttentionSinks, layer); sinks.buffer) {
        d.constants[ID_SINKS] = 1;
        d.buffers[4] = sinks;
    }
    d.buffers[0] = m_query;
    d.buffers[1] = m_keys.layer(at);
    d.buffers[2] = m_values.layer(at);
    d.buffers[3] = m_attended;
    d.buffers[6] = m_step;
    kernels::AttentionArguments a{};
    a.stepRows = static_cast<uint32_t>(m_maxRows);
    a.listsAt = listsAt();
    a.cap = m_config.attentionCap;
    a.window = static_cast<uint32_t>(m_config.layer(layer).window);
    a.heads = static_cast<uint32_t>(m_config.heads);
    a.kvHeads = static_cast<uint32_t>(m_config.kvHeads);
    a.queryStride = a.outStride = static_cast<uint32_t>(m_config.queryWidth());
    a.scale = m_config.queryScale();
    a.rows = static_cast<uint32_t>(m_shape.rows);
    a.workgroups = a.heads * a.rows;
    const bool tail = canTail(forms);
    if (tail)
        addTail(d, a.tail, next, *forms.front(), kInner);
    d.setArguments(a);
    d.x = a.heads;
    d.y = a.rows;
    // A score and its share of the result, each in floats.
    const double work = kFloatWork * 2 * a.rows * m_config.queryWidth();
    if (a.window > 0)
        d.work = work * a.window;
    else
        d.workPerToken = work;
    recording().dispatch(d);
    endStep("attention");
    if (!tail)
        prepare(next, forms, kInner, m_shape.rows,
                TapSite{TapSite::What::ProductInput, {Role::AttentionOutput, layer}});
}

} // namespace nibble
