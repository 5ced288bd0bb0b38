#include "core/runtime/logits.h"
#include "core/runtime/vulkan/stage.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace nibble {
namespace {

/// Shapes of calls whose recordings are kept.
constexpr size_t kShapes = 24;

/// Recordings of one shape: one where no layer is cut, else one for each piece.
size_t piecesOf(const StageOptions& o) {
    size_t pieces = 1;
    for (int32_t layer = o.layers.begin; layer < o.layers.end; ++layer)
        pieces += o.part(layer) == LayerPart::Whole ? 0 : 1;
    return pieces;
}

} // namespace

void VulkanStage::setHidden(std::span<const float> hidden) {
    std::copy(hidden.begin(), hidden.end(), m_hiddenHost.as<float>());
    m_hiddenGiven = true;
}

void VulkanStage::writeStep(const Batch& batch) {
    const auto rows = static_cast<uint32_t>(m_maxRows);
    auto* step = m_step.as<uint32_t>();
    step[STEP_ROW_COUNT] = static_cast<uint32_t>(m_rows);
    m_tokens = 0;
    for (const BatchRow& row : batch.rows)
        m_tokens = std::max(m_tokens, row.position + 1);
    std::vector<uint32_t> starts(batch.sequences.size());
    uint32_t at = 0;
    uint32_t* lists = step + listsAt();
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
        for (size_t which = 0; which < m_frequencies.size(); ++which) {
            const auto& frequencies = m_frequencies[which];
            const auto magnitude =
                double(which == 0 ? m_config.rope.magnitude : m_config.localRope.magnitude);
            const auto dims = static_cast<uint32_t>(2 * frequencies.size());
            for (uint32_t p = 0; p < frequencies.size(); ++p) {
                const double angle = double(row.position) * double(frequencies[p]);
                uint32_t* to =
                    step + STEP_ROPE(rows) + (which == 0 ? 0 : rows * dims) + i * dims + 2 * p;
                to[0] = std::bit_cast<uint32_t>(static_cast<float>(magnitude * std::cos(angle)));
                to[1] = std::bit_cast<uint32_t>(static_cast<float>(magnitude * std::sin(angle)));
            }
        }
    }
}

bool VulkanStage::begin(const Batch& batch, Tap* tap) {
    m_rows = static_cast<int32_t>(batch.rows.size());
    const bool heads =
        m_options.heads && batch.layers.end == m_config.layers && !batch.skipsFeedForward;
    m_logitRows = heads ? static_cast<int32_t>(batch.logitRows.size()) : 0;
    m_shape = {.rows = padRows(m_rows),
               .logitRows = m_logitRows == 0 ? 0 : padRows(m_logitRows),
               .firstLayer = batch.layers.begin,
               .lastLayer = batch.layers.end,
               .hidden = m_hiddenGiven,
               .skipsMixer = batch.skipsMixer,
               .skipsFeedForward = batch.skipsFeedForward};
    m_hiddenGiven = false;
    m_tap = tap;
    m_tapped.clear();
    m_ready = false;
    if (!batch.sameRows) {
        writeStep(batch);
        m_times.clear();
    }
    m_step.as<uint32_t>()[STEP_LOGIT_COUNT] = static_cast<uint32_t>(m_logitRows);
    if (!tap) {
        if (const auto found = m_recorded.find(m_shape); found != m_recorded.end()) {
            m_current = &found->second;
            m_recording = false;
            return false;
        }
        if (m_recorded.size() >= kShapes * piecesOf(m_options))
            m_recorded.clear();
    }
    // Kept for replay when it is complete: a call that fails half way leaves nothing behind.
    m_current = &m_once;
    m_once = {};
    m_once.recording =
        std::make_unique<Recording>(m_context->uploader.device, m_context->uploader.pipelines,
                                    m_unused, m_options.pages * kPageTokens);
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
    recording().run(m_tokens);
    if (m_shape.firstLayer < m_shape.lastLayer)
        m_barriersPerLayer = m_current->barriersPerLayer;
    if (m_timed)
        addTimes();
    for (const Tapped& tapped : m_tapped)
        reportTapped(tapped);
    m_tapped.clear();
    m_tap = nullptr;
}

void VulkanStage::reportTapped(const Tapped& tapped) {
    std::vector<float> values;
    const auto add = [&](int32_t row) {
        const float* from = tapped.values.as<float>() + int64_t(row) * tapped.stride;
        values.insert(values.end(), from, from + tapped.width);
    };
    if (!tapped.routes) {
        for (int32_t row = 0; row < tapped.rows; ++row)
            add(row);
        m_tap->values(tapped.site, tapped.rows, tapped.width, values.data());
        return;
    }
    // Expert by expert, as the CPU reports them.
    const auto* routes = tapped.routes.as<uint32_t>();
    for (int32_t expert = 0; expert < m_config.experts; ++expert) {
        TapSite site = tapped.site;
        site.key.expert = expert;
        if (!m_tap->wants(site))
            continue;
        values.clear();
        for (int32_t slot = 0; slot < slots(m_rows); ++slot)
            if (routes[2 * slot] == static_cast<uint32_t>(expert))
                add(tapped.bySlot ? slot : slot / m_config.expertsUsed);
        if (!values.empty())
            m_tap->values(site, static_cast<int32_t>(values.size()) / tapped.width, tapped.width,
                          values.data());
    }
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

/// Of a recording that ran, to those of the call.
void VulkanStage::addTimes() {
    std::vector<StepTime>& times = m_times;
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
}

void VulkanStage::readHidden(std::span<float> out) {
    std::copy_n(m_hiddenHost.as<float>(), out.size(), out.begin());
}

void VulkanStage::readLogits(std::span<float> out) {
    std::copy_n(m_logitsHost.as<float>(), out.size(), out.begin());
    finishLogits(m_config, out);
}

} // namespace nibble
