#include "core/runtime/vulkan/stage.h"

#include <algorithm>

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
        d.buffers[4] = vector(Role::PositionEmbedding, -1);
        d.constants[ID_BIAS] = d.buffers[4].buffer ? 1 : 0;
        d.setArguments(kernels::EmbedArguments{part.planes, static_cast<uint32_t>(m_config.width),
                                               static_cast<uint32_t>(m_maxRows),
                                               m_config.embeddingScale});
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
    Preparation norm{PREPARE_NORM,        m_hidden,       {},
                     vector(role, layer), m_config.width, m_config.width};
    // Where inputs are not normed, the rows go in as they are.
    if (!norm.norm.buffer)
        norm.kind = PREPARE_PLAIN;
    static constexpr std::pair<Role, Role> kBiases[] = {
        {Role::AttentionNorm, Role::AttentionNormBias},
        {Role::FeedForwardNorm, Role::FeedForwardNormBias},
        {Role::OutputNorm, Role::OutputNormBias}};
    for (const auto& [of, bias] : kBiases)
        if (of == role)
            norm.normBias = vector(bias, layer);
    return norm;
}

VulkanStage::Preparation VulkanStage::gateOf(BufferView gate, BufferView up, int32_t width) const {
    return {m_config.gated ? uint32_t(PREPARE_GATED) : uint32_t(PREPARE_ACTIVATED),
            gate,
            up,
            {},
            width,
            width};
}

bool VulkanStage::wantsExperts(TapSite site) const {
    for (site.key.expert = 0; site.key.expert < m_config.experts; ++site.key.expert)
        if (m_tap->wants(site))
            return true;
    return false;
}

void VulkanStage::prepare(const Preparation& what, const Forms& forms, int slot, int32_t rows,
                          std::optional<TapSite> site) {
    const bool ofExperts = site && site->key.expert >= 0;
    const bool tapped = m_tap && site && (ofExperts ? wantsExperts(*site) : m_tap->wants(*site));
    bool first = true;
    m_prepared[static_cast<size_t>(slot)] = forms;
    for (const DeviceForm* form : forms) {
        const Input& to = input(slot, *form);
        Dispatch d;
        d.module = "prepare";
        d.constants = {{ID_WORKGROUP, m_context->tiling.prepare},
                       {ID_PREPARE, what.kind},
                       {ID_ACTIVATION, codeOf(form->form.format)},
                       {ID_PREPARE_OUTLIERS, form->outliers()},
                       {ID_NORM, m_config.norm == NormKind::Layer ? NORM_LAYER : NORM_RMS},
                       {ID_GATE, static_cast<uint32_t>(m_config.activation)}};
        d.buffers[0] = what.source;
        d.buffers[1] = what.second;
        d.buffers[2] = what.norm;
        d.buffers[3] = m_step;
        d.buffers[4] = to.words;
        d.buffers[5] = to.info;
        d.buffers[7] = form->memory;
        d.buffers[8] = what.normBias;
        if (what.logitRows)
            d.constants[ID_LOGIT_ROWS] = 1;
        if (tapped && first) {
            const int32_t stride = blocksOf(what.width) * 32;
            const auto host = [&](uint64_t bytes) {
                return m_context->uploader.host->allocate(bytes, "Tapped values");
            };
            m_tapped.push_back({*site, what.logitRows ? m_logitRows : m_rows, what.width, stride,
                                host(uint64_t(rows) * uint64_t(stride) * 4)});
            d.constants[ID_KEEP_FLOAT] = 1;
            d.buffers[6] = m_tapped.back().values;
            if (ofExperts) {
                m_tapped.back().routes = host(m_routes.size());
                m_tapped.back().bySlot = slot == kInner;
                m_tapsRoutes = true;
            }
        }
        first = false;
        d.setArguments(prepareArguments(what));
        d.y = static_cast<uint32_t>(rows);
        d.x = m_context->tiling.prepareParts(d.y, static_cast<uint32_t>(blocksOf(what.width)));
        recording().dispatch(d);
    }
    const bool activates = what.kind == PREPARE_GATED || what.kind == PREPARE_ACTIVATED;
    endStep(activates ? "activation" : "preparing inputs");
    if (m_tapsRoutes) {
        recording().copy(m_routes, m_tapped.back().routes, m_routes.size());
        m_tapsRoutes = false;
    }
}

bool VulkanStage::canTail(const Forms& forms) const {
    return m_context->paths.tails && !m_tap && m_shape.rows <= m_context->tiling.tailRows &&
           forms.size() == 1 && m_config.norm == NormKind::Rms && m_config.experts == 0 &&
           !m_config.postNorms;
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

kernels::ProductArguments VulkanStage::productArguments(const DeviceMatrix::Part& part,
                                                        const Product& p) const {
    kernels::ProductArguments a{};
    a.planes = part.planes;
    a.outStride = static_cast<uint32_t>(p.outStride);
    a.stepRows = static_cast<uint32_t>(m_maxRows);
    a.headSize = static_cast<uint32_t>(m_config.headSize);
    a.ropeDims = static_cast<uint32_t>(m_config.ropeDimensions);
    a.ropeAt = p.ropeAt;
    a.listsAt = listsAt();
    a.kvHeads = static_cast<uint32_t>(m_config.kvHeads);
    a.rows = static_cast<uint32_t>(p.rows);
    a.scale = m_config.residualScale;
    return a;
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
        kernels::ProductArguments a = productArguments(w.parts[i], p);
        a.workgroups = workgroups;
        if (p.tail)
            addTail(d, a.tail, *p.tail, *p.tailForm, kNormed);
        d.setArguments(a);
        recording().dispatch(d);
    }
}

void VulkanStage::attentionOutput(int32_t layer) {
    outputProduct(Role::AttentionOutput, Role::AttentionOutputBias, layer);
}

/// hidden += what the layer's mixer made, prepared in kInner.
void VulkanStage::outputProduct(Role role, Role bias, int32_t layer) {
    Product p{.role = role,
              .layer = layer,
              .slot = kInner,
              .rows = m_shape.rows,
              .epilogue = m_config.postNorms ? uint32_t(EPILOGUE_STORE) : uint32_t(EPILOGUE_ADD),
              .out = m_config.postNorms ? m_added : m_hidden,
              .outStride = m_config.width,
              .bias = vector(bias, layer)};
    m_ready = false;
    Forms forms;
    Preparation next;
    const bool feeds = m_options.feeds(layer);
    if (feeds && !m_config.layer(layer).experts) {
        forms =
            m_config.gated ? formsOf({Role::Gate, Role::Up}, layer) : formsOf({Role::Up}, layer);
        next = normOf(Role::FeedForwardNorm, layer);
        m_ready = canTail(forms);
        p.tail = m_ready ? &next : nullptr;
        p.tailForm = forms.front();
    }
    product(p);
    endStep("output product");
    if (m_config.postNorms)
        addToHidden(Role::AttentionPostNorm, layer, false);
    if (!feeds)
        endLayer(layer);
}

/// hidden += scale · norm(m_added), or what the experts of m_routes made of it.
void VulkanStage::addToHidden(Role postNorm, int32_t layer, bool ofExperts) {
    const BufferView norm = vector(postNorm, layer);
    Dispatch d;
    d.module = "add";
    d.constants = {{ID_NORMED, norm.buffer ? NORMED_ROW : NORMED_NOTHING}};
    if (ofExperts) {
        d.constants[ID_EXPERTS_USED] = static_cast<uint32_t>(m_config.expertsUsed);
        d.constants[ID_SINKS] = m_config.sharedFeedForward > 0 ? 1 : 0;
        d.buffers[1] = m_sharedAdded;
        d.buffers[10] = m_routes;
    }
    d.buffers[0] = m_added;
    d.buffers[2] = norm;
    d.buffers[3] = m_hidden;
    d.setArguments(kernels::AddArguments{static_cast<uint32_t>(m_config.width),
                                         m_config.residualScale, m_config.normEpsilon,
                                         static_cast<uint32_t>(slots(m_maxRows))});
    d.y = static_cast<uint32_t>(m_shape.rows);
    recording().dispatch(d);
    endStep("adding");
}

void VulkanStage::gateUp(int32_t layer) {
    if (m_config.layer(layer).experts) {
        gateUpOfExperts(layer);
        return;
    }
    const Forms forms =
        m_config.gated ? formsOf({Role::Gate, Role::Up}, layer) : formsOf({Role::Up}, layer);
    if (!m_ready)
        prepare(
            normOf(Role::FeedForwardNorm, layer), forms, kNormed, m_shape.rows,
            TapSite{TapSite::What::ProductInput, {m_config.gated ? Role::Gate : Role::Up, layer}});
    const auto multiply = [&](Role role, Role bias, BufferView out) {
        product({.role = role,
                 .layer = layer,
                 .slot = kNormed,
                 .rows = m_shape.rows,
                 .out = out,
                 .outStride = m_config.feedForward,
                 .bias = vector(bias, layer)});
    };
    if (m_config.gated)
        multiply(Role::Gate, Role::GateBias, m_gate);
    multiply(Role::Up, Role::UpBias, m_config.gated ? m_up : m_gate);
    endStep("gate and up");
    prepare(gateOf(m_gate, m_up, m_config.feedForward), formsOf({Role::Down}, layer), kInner,
            m_shape.rows, TapSite{TapSite::What::ProductInput, {Role::Down, layer}});
}

void VulkanStage::down(int32_t layer) {
    m_ready = false;
    if (m_config.layer(layer).experts) {
        downOfExperts(layer);
    } else {
        Product p{.role = Role::Down,
                  .layer = layer,
                  .slot = kInner,
                  .rows = m_shape.rows,
                  .epilogue =
                      m_config.postNorms ? uint32_t(EPILOGUE_STORE) : uint32_t(EPILOGUE_ADD),
                  .out = m_config.postNorms ? m_added : m_hidden,
                  .outStride = m_config.width,
                  .bias = vector(Role::DownBias, layer)};
        Preparation next;
        if (layer + 1 < m_shape.lastLayer) {
            const Forms forms = formsOf(firstProducts(m_config.layer(layer + 1).mixer), layer + 1);
            next = normOf(Role::AttentionNorm, layer + 1);
            m_ready = canTail(forms);
            p.tail = m_ready ? &next : nullptr;
            p.tailForm = forms.front();
        }
        product(p);
        endStep("down product");
        if (m_config.postNorms)
            addToHidden(Role::FeedForwardPostNorm, layer, false);
    }
    endLayer(layer);
    const TapSite site{TapSite::What::LayerOutput, {Role::Down, layer}};
    if (m_tap && m_tap->wants(site)) {
        m_tapped.push_back({site, m_rows, m_config.width, m_config.width,
                            m_context->uploader.host->allocate(m_hidden.size(), "Tapped values")});
        recording().copy(m_hidden, m_tapped.back().values,
                         uint64_t(m_rows) * uint64_t(m_config.width) * 4);
    }
}

void VulkanStage::endLayer(int32_t layer) {
    if (layer == m_shape.firstLayer)
        m_current->barriersPerLayer = recording().barriers();
    if (layer + 1 == m_shape.lastLayer && layer > m_shape.firstLayer)
        m_current->barriersPerLayer = (recording().barriers() - m_current->barriersPerLayer) /
                                      (m_shape.lastLayer - m_shape.firstLayer - 1);
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
