#include "core/runtime/vulkan/stage.h"

namespace nibble {

void VulkanStage::convolution(int32_t layer) {
    const int32_t width = m_config.width;
    if (!m_ready)
        prepare(normOf(Role::AttentionNorm, layer), formsOf({Role::ConvolutionIn}, layer), kNormed,
                m_shape.rows, TapSite{TapSite::What::ProductInput, {Role::ConvolutionIn, layer}});
    product({.role = Role::ConvolutionIn,
             .layer = layer,
             .slot = kNormed,
             .rows = m_shape.rows,
             .out = m_gates,
             .outStride = 3 * width});
    endStep("input of convolutions");
    const Allocation& states = m_states[static_cast<size_t>(layer - m_options.layers.begin)];
    Dispatch d;
    d.module = "convolution";
    d.buffers[0] = m_gates;
    d.buffers[1] = vector(Role::Convolution, layer);
    d.buffers[2] = states;
    d.buffers[3] = m_attended;
    d.buffers[6] = m_step;
    d.setArguments(kernels::ConvolutionArguments{static_cast<uint32_t>(width),
                                                 static_cast<uint32_t>(m_config.convolutionTaps),
                                                 static_cast<uint32_t>(m_maxRows), listsAt()});
    d.x = (static_cast<uint32_t>(width) + SMALL_WORKGROUP - 1) / SMALL_WORKGROUP;
    d.y = static_cast<uint32_t>(m_shape.rows);
    recording().dispatch(d);
    endStep("convolutions");
    if (states) { // beside the next step, whose barrier comes before anything reads them
        d.constants[ID_KEEPS] = 1;
        d.buffers[2] = d.buffers[3] = {};
        d.buffers[4] = states;
        recording().dispatch(d);
    }
    prepare({PREPARE_PLAIN, m_attended, {}, {}, width, width},
            formsOf({Role::ConvolutionOut}, layer), kInner, m_shape.rows,
            TapSite{TapSite::What::ProductInput, {Role::ConvolutionOut, layer}});
    outputProduct(Role::ConvolutionOut, Role::AttentionOutputBias, layer);
}

} // namespace nibble
