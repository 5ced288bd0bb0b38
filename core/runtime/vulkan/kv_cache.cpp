#include "core/runtime/vulkan/kv_cache.h"

#include "core/base/error.h"

namespace nibble {

namespace {

bool attends(const ModelConfig& config, const StageOptions& options, int32_t layer) {
    return options.mixes(layer) && config.layer(layer).mixer == Mixer::Attention;
}

} // namespace

static_assert(uint32_t(KvFormat::F32) == KV_F32 && uint32_t(KvFormat::F16) == KV_F16 &&
              uint32_t(KvFormat::Int8) == KV_INT8 && uint32_t(KvFormat::Int4) == KV_INT4);

uint64_t DeviceKvCache::layerBytes(const ModelConfig& config, KvFormat format, int32_t pages) {
    const double bytes = double(config.kvWidth()) * kPageTokens * bitsPerValue(format) / 8;
    return static_cast<uint64_t>(bytes) * uint64_t(pages);
}

uint64_t DeviceKvCache::bytesOf(const ModelConfig& config, KvFormat format,
                                const StageOptions& options) {
    uint64_t bytes = 0;
    for (int32_t layer = options.layers.begin; layer < options.layers.end; ++layer)
        if (attends(config, options, layer))
            bytes += layerBytes(config, format, options.pages);
    return bytes;
}

DeviceKvCache::DeviceKvCache(const ModelConfig& config, KvFormat format,
                             const StageOptions& options, MemoryPool& memory)
    : m_format(format), m_pageBytes(layerBytes(config, format, 1)) {
    if (isQuantized() && config.headSize % KV_BLOCK != 0)
        fail(ErrorKind::Usage,
             "Heads of {} values cannot be kept as {}, which needs a multiple of {}; choose f16.",
             config.headSize, name(format), KV_BLOCK);
    const uint64_t bytes = layerBytes(config, format, options.pages);
    if (bytes > memory.largestBinding())
        fail(ErrorKind::OutOfMemory,
             "The keys of one layer take {} MB at this context, and this device binds at most {} "
             "MB; "
             "choose a smaller context or a smaller KV format.",
             bytes >> 20, memory.largestBinding() >> 20);
    for (int32_t layer = options.layers.begin; layer < options.layers.end; ++layer)
        m_layers.push_back(attends(config, options, layer) ? memory.allocate(bytes, "The KV cache")
                                                           : Allocation());
}

uint64_t DeviceKvCache::bytes() const {
    uint64_t sum = 0;
    for (const Allocation& layer : m_layers)
        sum += layer.size();
    return sum;
}

void DeviceKvCache::copyPage(Recording& recording, int32_t from, int32_t to) const {
    for (const Allocation& layer : m_layers) {
        if (!layer)
            continue;
        BufferView a = layer, b = layer;
        a.offset += m_pageBytes * uint64_t(from);
        b.offset += m_pageBytes * uint64_t(to);
        recording.copy(a, b, m_pageBytes);
    }
}

} // namespace nibble
