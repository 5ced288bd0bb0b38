#include "core/runtime/cpu/cpu_stage.h"

#include "core/base/error.h"
#include "core/base/parallel.h"
#include "core/model/names.h"
#include "core/runtime/cpu/row_functions.h"
#include "core/runtime/logits.h"
#include "core/runtime/memory.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace nibble {
namespace {

/// Query rows that one thread attends with, reading each page once for all of them.
constexpr int32_t kAttendRows = 16;

int64_t innerCols(const ModelConfig& config, const StageOptions& options) {
    return options.mixesAny() ? std::max(config.width, config.queryWidth()) : config.width;
}

int32_t innerWidth(const ModelConfig& config) {
    return config.widestFeedForward();
}

/// The index of a layer's tensors; what lies outside the layers comes last.
size_t slot(const StageOptions& options, int32_t layer) {
    return layer < 0 ? static_cast<size_t>(options.layers.end - options.layers.begin)
                     : static_cast<size_t>(layer - options.layers.begin);
}

} // namespace

CpuStage::CpuStage(const ModelConfig& whole, const StageOptions& options, const CpuKernels& kernels)
    : m_config(heldConfig(whole, options)), m_options(options), m_kernels(kernels),
      m_layout(whole, options.kFormat, options.vFormat), m_experts(options.expertBudget, kernels) {
    const ModelConfig& config = m_config;
    const bool mixes = options.mixesAny(), mixture = config.experts > 0;
    if (mixes)
        m_turns[0].frequencies = config.ropeFrequencies(config.rope);
    if (mixes && config.hasLocalRope())
        m_turns[1].frequencies = config.ropeFrequencies(config.localRope);
    const auto maxRows = static_cast<size_t>(options.maxRows);
    const auto layers = static_cast<size_t>(options.layers.end - options.layers.begin);
    m_layerMatrices.resize(layers + 1);
    m_layerVectors.resize(layers + 1);
    size_t cacheBytes = 0;
    for (int32_t layer = options.layers.begin; layer < options.layers.end; ++layer) {
        m_layerAt.push_back(cacheBytes);
        cacheBytes += pageBytes(layer) * static_cast<size_t>(options.pages);
    }
    try {
        m_kv = AlignedBuffer<std::byte>(cacheBytes);
        m_hidden = AlignedBuffer<float>(maxRows * size_t(config.width));
        m_product =
            AlignedBuffer<float>(maxRows * size_t(std::max(config.width, innerWidth(config))));
        if (mixes) {
            m_query = AlignedBuffer<float>(maxRows * size_t(config.queryWidth()));
            m_key = AlignedBuffer<float>(maxRows * size_t(config.kvWidth()));
            m_value = AlignedBuffer<float>(maxRows * size_t(config.kvWidth()));
        }
        if (mixes && config.hasConvolutions())
            m_gates = AlignedBuffer<float>(maxRows * 3 * size_t(config.width));
        for (Turn& turn : m_turns) {
            turn.cosines = AlignedBuffer<float>(maxRows * turn.frequencies.size());
            turn.sines = AlignedBuffer<float>(maxRows * turn.frequencies.size());
        }
        m_input = ActivationRows(options.maxRows, innerCols(config, options));
        m_inner = ActivationRows(options.maxRows, innerWidth(config));
        m_input.allow(1);
        m_inner.allow(1);
        if (mixture) {
            m_added = AlignedBuffer<float>(maxRows * size_t(config.width));
            m_routed = ActivationRows(options.maxRows, config.width);
            m_routed.allow(1);
            m_chosen.resize(size_t(config.experts));
        }
    } catch (const std::bad_alloc&) {
        fail(ErrorKind::OutOfMemory,
             "The conversation cache of {} pages and {} rows of scratch need {:.2f} GB, which this "
             "computer does not have; choose a shorter context.",
             options.pages, options.maxRows,
             static_cast<double>(predict(whole, options).total()) * 1e-9);
    }
    m_positions.reserve(maxRows);
    m_allRows.resize(maxRows);
    std::iota(m_allRows.begin(), m_allRows.end(), 0);
    m_parts.reserve(maxRows);
}

MemoryUse CpuStage::predict(const ModelConfig& whole, const StageOptions& options) {
    const ModelConfig config = heldConfig(whole, options);
    const KvLayout layout(config, options.kFormat, options.vFormat);
    const bool mixes = options.mixesAny(), mixture = config.experts > 0;
    const int32_t mixerWidth = config.queryWidth() + 2 * config.kvWidth() +
                               (config.hasConvolutions() ? 3 * config.width : 0) +
                               config.ropeDimensions / 2 * (config.hasLocalRope() ? 4 : 2);
    const auto perRow = static_cast<uint64_t>(config.width * (mixture ? 2 : 1) +
                                              std::max(config.width, innerWidth(config)) +
                                              (mixes ? mixerWidth : 0));
    MemoryUse use;
    for (int32_t layer = options.layers.begin; layer < options.layers.end; ++layer)
        if (options.mixes(layer))
            use.kv += uint64_t(options.pages) * (config.layer(layer).mixer == Mixer::Convolution
                                                     ? statePageBytes(config)
                                                     : layout.pageBytes());
    use.scratch = perRow * sizeof(float) * static_cast<uint64_t>(options.maxRows) +
                  ActivationRows::bytesFor(options.maxRows, innerCols(config, options), 1) +
                  ActivationRows::bytesFor(options.maxRows, innerWidth(config), 1) +
                  (mixture ? ActivationRows::bytesFor(options.maxRows, config.width, 1) : 0);
    return use;
}

void CpuStage::setTensor(TensorKey key, const Tensor& tensor, const Activations& activations) {
    const size_t at = slot(m_options, key.layer);
    const auto role = static_cast<size_t>(key.role);
    try {
        if (!isMatrix(key.role)) {
            m_vectors[key] = decode(tensor);
            if (key.expert < 0)
                m_layerVectors[at][role] = m_vectors[key].data();
            return;
        }
        if (tensor.columnOrder)
            allowGathers();
        if (key.expert < 0)
            m_layerMatrices[at][role] = nullptr;
        m_matrices.erase(key);
        m_experts.erase(key);
        const auto placed = m_matrices.try_emplace(key, tensor, activations, m_kernels).first;
        if (key.expert < 0)
            m_layerMatrices[at][role] = &placed->second;
        allowForms(key.layer);
    } catch (const std::bad_alloc&) {
        fail(ErrorKind::OutOfMemory, "Tensor \"{}\" does not fit into this computer's memory.",
             tensorName(key));
    }
}

void CpuStage::setLazily(TensorKey key, const LazyTensor& tensor, const Activations& activations) {
    if (!m_experts.isUsed() || !isExpertMatrix(key))
        return setTensor(key, tensor.make(), activations);
    m_matrices.erase(key);
    m_experts.set(key, tensor, activations);
}

/// Room for inputs in the column orders of a step's matrices; the first is also that of `down`.
void CpuStage::allowGathers() {
    for (size_t i = 0; i < m_gathered.size(); ++i) {
        if (m_gathered[i].bytes() == 0)
            m_gathered[i] = ActivationRows(m_options.maxRows,
                                           std::max<int64_t>(innerCols(m_config, m_options),
                                                             i == 0 ? innerWidth(m_config) : 0));
        m_gathered[i].allow(1);
    }
}

/// Room for the forms of the products that share an input, so that none is made while running.
void CpuStage::allowForms(int32_t layer) {
    static constexpr Role kBoth[] = {Role::Gate, Role::Up};
    constexpr std::span<const Role> kGated(kBoth);
    const auto& placed = m_layerMatrices[slot(m_options, layer)];
    for (const auto& sharing :
         {firstProducts(Mixer::Attention), firstProducts(Mixer::Convolution), kGated}) {
        std::vector<const InputForm*> forms;
        for (const Role role : sharing)
            if (const CpuMatrix* matrix = placed[static_cast<size_t>(role)])
                if (!matrix->form().isFloat() &&
                    std::ranges::none_of(forms, [&](auto* f) { return *f == matrix->form(); }))
                    forms.push_back(&matrix->form());
        m_input.allow(forms.size());
    }
}

const CpuMatrix& CpuStage::matrix(Role role, int32_t layer) const {
    const CpuMatrix* found = m_layerMatrices[slot(m_options, layer)][static_cast<size_t>(role)];
    if (!found)
        fail(ErrorKind::Internal, "Tensor \"{}\" was not loaded before running.",
             tensorName({role, layer}));
    return *found;
}

/// Null for a bias that the model does not have.
const float* CpuStage::vector(Role role, int32_t layer) const {
    return m_layerVectors[slot(m_options, layer)][static_cast<size_t>(role)];
}

/// The same for what may belong to an expert.
const float* CpuStage::vectorOf(TensorKey key) const {
    const auto found = m_vectors.find(key);
    return found == m_vectors.end() ? nullptr : found->second.data();
}

void CpuStage::copyPage(int32_t from, int32_t to) {
    for (int32_t layer = m_options.layers.begin; layer < m_options.layers.end; ++layer) {
        const size_t bytes = pageBytes(layer);
        std::byte* base = pages(layer);
        std::memcpy(base + bytes * size_t(to), base + bytes * size_t(from), bytes);
    }
}

bool CpuStage::begin(const Batch& batch, Tap* tap) {
    m_batch = &batch;
    m_tap = tap;
    if (batch.sameRows)
        return true;
    m_positions.clear();
    m_parts.clear();
    for (int32_t row = 0; row < rows(); ++row) {
        const BatchRow& at = batch.rows[size_t(row)];
        m_positions.push_back(at.position);
        if (m_parts.empty() || m_parts.back().sequence != at.sequence ||
            m_parts.back().rows == kAttendRows)
            m_parts.push_back({at.sequence, row, 0});
        ++m_parts.back().rows;
        for (size_t which = 0; which < m_turns.size(); ++which) {
            Turn& turn = m_turns[which];
            const auto magnitude =
                double(which == 0 ? m_config.rope.magnitude : m_config.localRope.magnitude);
            const size_t pairs = turn.frequencies.size();
            for (size_t i = 0; i < pairs; ++i) {
                const double angle = double(at.position) * double(turn.frequencies[i]);
                turn.cosines.data()[size_t(row) * pairs + i] =
                    static_cast<float>(magnitude * std::cos(angle));
                turn.sines.data()[size_t(row) * pairs + i] =
                    static_cast<float>(magnitude * std::sin(angle));
            }
        }
    }
    return true;
}

void CpuStage::setHidden(std::span<const float> values) {
    std::copy(values.begin(), values.end(), m_hidden.data());
}

void CpuStage::embed() {
    const CpuMatrix& table = matrix(Role::TokenEmbedding, -1);
    const float* positions = vector(Role::PositionEmbedding, -1);
    for (int32_t row = 0; row < rows(); ++row) {
        const BatchRow& at = m_batch->rows[size_t(row)];
        float* out = hidden(row);
        table.decodeRow(at.token, out);
        if (m_config.embeddingScale != 1)
            for (int32_t i = 0; i < m_config.width; ++i)
                out[i] *= m_config.embeddingScale;
        if (positions)
            for (int32_t i = 0; i < m_config.width; ++i)
                out[i] += positions[int64_t(at.position) * m_config.width + i];
    }
}

/// Reports values to the tap when it wants them.
void CpuStage::tap(TapSite::What what, TensorKey key, const ActivationRows& input) {
    const TapSite site{what, key};
    if (!m_tap || !m_tap->wants(site))
        return;
    m_tapped.clear();
    for (int32_t row = 0; row < input.rows(); ++row)
        m_tapped.insert(m_tapped.end(), input.row(row), input.row(row) + input.cols());
    m_tap->values(site, input.rows(), static_cast<int32_t>(input.cols()), m_tapped.data());
}

/// One row of the model's kind of norm; without a weight the row as it is.
void CpuStage::norm(const float* x, const float* weight, const float* bias, float* out) const {
    const int32_t width = m_config.width;
    if (!weight)
        std::copy_n(x, width, out);
    else if (m_config.norm == NormKind::Layer)
        layerNorm(x, weight, bias, m_config.normEpsilon, width, out);
    else
        m_kernels.norm(x, weight, m_config.normEpsilon, width, out);
}

/// The normed hidden rows into m_input.
void CpuStage::normRows(std::span<const int32_t> which, const float* weight, const float* bias) {
    m_input.begin(static_cast<int32_t>(which.size()), m_config.width);
    const auto body = [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i)
            norm(hidden(which[i]), weight, bias, m_input.row(int64_t(i)));
    };
    parallelFor(which.size(), 8, std::ref(body));
}

/// What each user multiplies with: the input, or a copy in the user's column order; with the int8
/// forms that they read. Valid until the next call.
CpuStage::Inputs CpuStage::prepare(ActivationRows& input,
                                   std::initializer_list<const CpuMatrix*> users) {
    Inputs inputs{};
    size_t i = 0;
    for (auto user = users.begin(); user != users.end(); ++user, ++i) {
        const InputForm& form = (*user)->form();
        inputs[i] = &input;
        if ((*user)->needsGather()) {
            (*user)->gather(input, m_gathered[i]);
            m_gathered[i].quantize(form, m_kernels);
            inputs[i] = &m_gathered[i];
        } else if (std::none_of(users.begin(), user, [&](const CpuMatrix* done) {
                       return !done->needsGather() && done->form() == form;
                   })) {
            input.quantize(form, m_kernels);
        }
    }
    return inputs;
}

/// hidden += residual scale · post norm(weights · input + bias), with what of it the model has.
void CpuStage::addProduct(ActivationRows& input, const CpuMatrix& weights, const float* bias,
                          const float* postNorm) {
    const Inputs inputs = prepare(input, {&weights});
    const float scale = m_config.residualScale;
    const auto body = [&](size_t begin, size_t end) {
        weights.multiply(*inputs[0], int64_t(begin), int64_t(end), m_product.data(),
                         m_config.width);
        const int64_t first = int64_t(begin) * CpuMatrix::kUnitRows;
        const int64_t last = std::min(weights.rows(), int64_t(end) * CpuMatrix::kUnitRows);
        for (int64_t row = 0; row < input.rows(); ++row) {
            float* product = m_product.data() + row * m_config.width;
            for (int64_t i = first; bias && i < last; ++i)
                product[i] += bias[i];
            for (int64_t i = first; !postNorm && i < last; ++i)
                hidden(row)[i] += scale * product[i];
        }
    };
    parallelFor(size_t(weights.units()), 1, std::ref(body));
    if (postNorm)
        addToHidden(m_product.data(), postNorm);
}

/// The call's rows of what a part adds, which the post norm needs whole.
void CpuStage::addToHidden(const float* added, const float* postNorm) {
    const int32_t width = m_config.width;
    const auto body = [&](size_t begin, size_t end) {
        float* normed = threadScratch(size_t(width));
        for (size_t row = begin; row < end; ++row) {
            const float* from = added + row * size_t(width);
            if (postNorm) {
                norm(from, postNorm, nullptr, normed);
                from = normed;
            }
            for (int32_t i = 0; i < width; ++i)
                hidden(int64_t(row))[i] += m_config.residualScale * from[i];
        }
    };
    parallelFor(size_t(rows()), 8, std::ref(body));
}

/// Norms the wanted rows; the product waits for readLogits, which knows where the result goes.
void CpuStage::logits() {
    normRows(m_batch->logitRows, vector(Role::OutputNorm, -1), vector(Role::OutputNormBias, -1));
    const Role head = m_config.tiedEmbedding ? Role::TokenEmbedding : Role::Output;
    tap(TapSite::What::ProductInput, {head, -1}, m_input);
    m_headInput = prepare(m_input, {&matrix(head, -1)})[0];
}

void CpuStage::end() {}

void CpuStage::readHidden(std::span<float> out) {
    std::copy_n(m_hidden.data(), out.size(), out.begin());
}

void CpuStage::readLogits(std::span<float> out) {
    const CpuMatrix& head =
        matrix(m_config.tiedEmbedding ? Role::TokenEmbedding : Role::Output, -1);
    const auto body = [&](size_t begin, size_t end) {
        head.multiply(*m_headInput, int64_t(begin), int64_t(end), out.data(), m_config.vocabulary);
        const auto first = size_t(begin) * CpuMatrix::kUnitRows;
        const auto last = std::min(size_t(head.rows()), size_t(end) * CpuMatrix::kUnitRows);
        for (size_t row = 0; row < size_t(m_headInput->rows()); ++row)
            finishLogits(m_config,
                         out.subspan(row * size_t(m_config.vocabulary) + first, last - first));
    };
    parallelFor(size_t(head.units()), 1, std::ref(body));
}

MemoryUse CpuStage::memory() const {
    MemoryUse use;
    for (const auto& [key, weights] : m_matrices)
        use.weights += weights.bytes();
    use.weights += m_experts.bytes();
    for (const auto& [key, values] : m_vectors)
        use.weights += values.size() * sizeof(float);
    use.kv = m_kv.bytes();
    use.scratch = m_hidden.bytes() + m_product.bytes() + m_query.bytes() + m_key.bytes() +
                  m_value.bytes() + m_added.bytes() + m_gates.bytes() + m_input.bytes() +
                  m_inner.bytes() + m_routed.bytes();
    for (const Turn& turn : m_turns)
        use.scratch += turn.cosines.bytes() + turn.sines.bytes();
    for (const ActivationRows& gathered : m_gathered)
        use.scratch += gathered.bytes();
    return use;
}

std::vector<PathReport> CpuStage::paths() const {
    std::vector<PathReport> all;
    for (const auto& [key, weights] : m_matrices)
        all.push_back({key, weights.format().name, "cpu", weights.path()});
    m_experts.addPaths(all);
    return all;
}

} // namespace nibble
