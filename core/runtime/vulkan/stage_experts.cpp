#include "core/base/error.h"
#include "core/model/names.h"
#include "core/runtime/vulkan/stage.h"

#include <algorithm>

namespace nibble {
namespace {

/// A bound buffer holds as many experts as fit into this, where the device can bind it.
constexpr uint64_t kPartBytes = uint64_t(1) << 30;

/// A tensor's rows with its last ones repeated up to whole tiles.
Tensor inWholeTiles(const Tensor& tensor) {
    if (tensor.rows % TILE_ROWS == 0)
        return tensor;
    std::vector<int64_t> order;
    for (int64_t i = 0; i < (tensor.rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS; ++i)
        order.push_back(std::min(i, tensor.rows - 1));
    return gatherRows(tensor, order);
}

} // namespace

bool VulkanStage::Experts::complete() const {
    return std::ranges::all_of(given, [](bool is) { return is; });
}

void VulkanStage::setExpert(TensorKey key, const Tensor& tensor, const Activations& activations) {
    const TensorKey all{key.role, key.layer};
    const auto count = static_cast<size_t>(m_config.experts);
    if (!isMatrix(key.role)) {
        std::vector<float>& biases = m_expertBiases[all];
        const std::vector<float> own = decode(tensor);
        biases.resize(count * own.size());
        std::copy(own.begin(), own.end(),
                  biases.begin() + static_cast<int64_t>(size_t(key.expert) * own.size()));
        if (static_cast<size_t>(key.expert) + 1 == count) {
            m_vectors.erase(all);
            m_vectors[all] =
                m_context->uploader.upload(std::as_bytes(std::span(biases)), "A tensor");
            m_expertBiases.erase(all);
        }
        return;
    }
    // All experts share one prepared input: what differs from one to the next, outliers and static
    // scales, is multiplied as floats instead.
    Tensor shaped = withKernel(tensor, activations, m_context->paths);
    InputForm form = inputForm(shaped, activations);
    if (form.hasOutliers() || form.scale != 0) {
        shaped = makeFloatTensor(tensor.name, getFormat("f16"), tensor.rows, tensor.cols,
                                 decode(tensor));
        form = inputForm(shaped, ActivationFormat::Float);
    }
    const auto rows = static_cast<uint32_t>(shaped.rows);
    kernels::Planes planes{};
    const LargeVector<uint32_t> words = m_context->uploader.planesOf(inWholeTiles(shaped), planes);
    planes.rows = rows;

    Experts& experts = m_experts[all];
    const bool fits = !experts.parts.empty() && experts.shape.format == shaped.format &&
                      experts.shape.form->form == form && experts.words == words.size();
    if (!fits) {
        experts = {};
        experts.shape.form = deviceForm(form, shaped.cols);
        experts.shape.format = shaped.format;
        experts.shape.rows = shaped.rows;
        experts.shape.cols = shaped.cols;
        experts.shape.constants = m_context->uploader.constants(*shaped.format);
        experts.planes = planes;
        experts.words = words.size();
        experts.given.assign(count, false);
        const uint64_t most = std::min(kPartBytes, m_context->uploader.memory->largestBinding());
        const uint64_t each = std::max<uint64_t>(1, most / (experts.words * 4));
        if (experts.words * 4 > most)
            fail(
                ErrorKind::OutOfMemory,
                "An expert of \"{}\" has {} MB, more than the {} MB that this device can bind; use "
                "the CPU for this model.",
                tensorName(all), experts.words >> 18, most >> 20);
        for (uint64_t first = 0; first < count; first += each) {
            const uint64_t here = std::min<uint64_t>(each, count - first);
            experts.parts.push_back(
                {m_context->uploader.memory->allocate(here * experts.words * 4, "A tensor"),
                 static_cast<uint32_t>(first), static_cast<uint32_t>(here)});
        }
        for (const int slot : {kNormed, kInner})
            input({slot, form.format, form.hasOutliers(), 0});
    }
    experts.shape.stored = tensor.format;
    for (const Experts::Part& part : experts.parts)
        if (const auto e = static_cast<uint32_t>(key.expert);
            e >= part.first && e < part.first + part.count)
            m_context->uploader.write(std::as_bytes(std::span(words)), part.memory,
                                      (e - part.first) * experts.words * 4);
    experts.given[static_cast<size_t>(key.expert)] = true;
}

const VulkanStage::Experts& VulkanStage::experts(Role role, int32_t layer) const {
    const auto found = m_experts.find({role, layer});
    if (found == m_experts.end() || !found->second.complete())
        fail(ErrorKind::Internal, "Experts' {} of layer {} were not loaded before running.",
             shortName(role), layer);
    return found->second;
}

/// One row a slot: the slot's own input or its row's, with the weights of its expert.
void VulkanStage::expertProduct(const Experts& experts, const Product& p, uint32_t inputs) {
    const Input& from = input(p.slot, *experts.shape.form);
    for (const Experts::Part& part : experts.parts) {
        DeviceMatrix::Part one{};
        one.planes = experts.planes;
        Dispatch d =
            productDispatch(experts.shape, one, 1, m_context->tiling.product(1), m_context->paths);
        d.constants[ID_EPILOGUE] = p.epilogue;
        d.constants[ID_BIAS] = p.bias.buffer ? 1 : 0;
        d.constants[ID_EXPERTS] = inputs;
        d.constants[ID_EXPERTS_USED] = static_cast<uint32_t>(m_config.expertsUsed);
        d.buffers[0] = part.memory;
        d.buffers[1] = from.words;
        d.buffers[2] = from.info;
        d.buffers[3] = p.out;
        d.buffers[4] = p.bias;
        d.buffers[6] = m_step;
        d.buffers[7] = m_routes;
        kernels::ProductArguments a = productArguments(one, p);
        a.firstExpert = part.first;
        a.experts = part.count;
        a.expertWords = static_cast<uint32_t>(experts.words);
        d.setArguments(a);
        d.y = static_cast<uint32_t>(slots(m_shape.rows));
        d.work *= d.y;
        recording().dispatch(d);
    }
}

/// Chooses the experts of each row, from the hidden rows as the products see them.
void VulkanStage::route(int32_t layer) {
    const BufferView norm = vector(Role::FeedForwardNorm, layer);
    const BufferView shared = vector(Role::SharedRouter, layer);
    Dispatch d;
    d.module = "route";
    d.constants = {{ID_EXPERT_COUNT, static_cast<uint32_t>(m_config.experts)},
                   {ID_EXPERTS_USED, static_cast<uint32_t>(m_config.expertsUsed)},
                   {ID_EXPERT_NORM, m_config.normsExpertWeights ||
                                            m_config.expertGate == ExpertGate::SoftmaxOfChosen
                                        ? 1u
                                        : 0u},
                   {ID_NORMED, norm.buffer ? NORMED_ROW : NORMED_NOTHING},
                   {ID_SINKS, m_config.sharedFeedForward == 0 ? 0u
                              : shared.buffer                 ? 2u
                                                              : 1u}};
    d.buffers[0] = m_hidden;
    d.buffers[1] = vector(Role::Router, layer);
    d.buffers[2] = norm;
    d.buffers[3] = m_routes;
    d.buffers[4] = vector(Role::RouterBias, layer);
    d.constants[ID_BIAS] = d.buffers[4].buffer ? 1 : 0;
    d.buffers[5] = shared;
    d.setArguments(kernels::RouteArguments{static_cast<uint32_t>(m_config.width),
                                           m_config.normEpsilon, m_config.expertScale,
                                           static_cast<uint32_t>(slots(m_maxRows))});
    d.y = static_cast<uint32_t>(m_shape.rows);
    recording().dispatch(d);
}

void VulkanStage::gateUpOfExperts(int32_t layer) {
    const Experts& gate = experts(Role::Gate, layer);
    const Experts& up = experts(Role::Up, layer);
    const bool shares = m_config.sharedFeedForward > 0;
    Forms forms{gate.shape.form.get()};
    const auto use = [&](const DeviceForm* form) {
        if (std::ranges::find(forms, form) == forms.end())
            forms.push_back(form);
    };
    use(up.shape.form.get());
    if (shares)
        for (const DeviceForm* form : formsOf({Role::SharedGate, Role::SharedUp}, layer))
            use(form);
    route(layer);
    prepare(normOf(Role::FeedForwardNorm, layer), forms, kNormed, m_shape.rows,
            TapSite{TapSite::What::ProductInput, {Role::Gate, layer, 0}});
    for (const Role role : {Role::Gate, Role::Up})
        expertProduct(role == Role::Gate ? gate : up,
                      {.role = role,
                       .layer = layer,
                       .slot = kNormed,
                       .rows = 1,
                       .out = role == Role::Gate ? m_gate : m_up,
                       .outStride = m_config.expertFeedForward,
                       .bias = vector(role == Role::Gate ? Role::GateBias : Role::UpBias, layer)},
                      EXPERTS_OF_ROWS);
    if (shares)
        for (const Role role : {Role::SharedGate, Role::SharedUp})
            product({.role = role,
                     .layer = layer,
                     .slot = kNormed,
                     .rows = m_shape.rows,
                     .out = role == Role::SharedGate ? m_sharedGate : m_sharedUp,
                     .outStride = m_config.sharedFeedForward});
    endStep("gate and up");
    if (shares)
        prepare(gateOf(m_sharedGate, m_sharedUp, m_config.sharedFeedForward),
                formsOf({Role::SharedDown}, layer), kShared, m_shape.rows,
                TapSite{TapSite::What::ProductInput, {Role::SharedDown, layer}});
    prepare(gateOf(m_gate, m_up, m_config.expertFeedForward),
            {experts(Role::Down, layer).shape.form.get()}, kInner, slots(m_shape.rows),
            TapSite{TapSite::What::ProductInput, {Role::Down, layer, 0}});
}

void VulkanStage::downOfExperts(int32_t layer) {
    expertProduct(experts(Role::Down, layer),
                  {.role = Role::Down,
                   .layer = layer,
                   .slot = kInner,
                   .rows = 1,
                   .out = m_added,
                   .outStride = m_config.width,
                   .bias = vector(Role::DownBias, layer)},
                  EXPERTS_OF_SLOTS);
    if (m_config.sharedFeedForward > 0)
        product({.role = Role::SharedDown,
                 .layer = layer,
                 .slot = kShared,
                 .rows = m_shape.rows,
                 .out = m_sharedAdded,
                 .outStride = m_config.width});
    endStep("down product");
    addToHidden(Role::FeedForwardPostNorm, layer, true);
}

} // namespace nibble
