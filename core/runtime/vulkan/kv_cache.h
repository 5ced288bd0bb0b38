#pragma once

#include "core/model/config.h"
#include "core/runtime/backend.h"
#include "core/runtime/vulkan/recording.h"

namespace nibble {

/// Keys or values of a stage's layers on the device, in pages: [page][kv head][32 tokens], see
/// interface.h.
class DeviceKvCache {
public:
    DeviceKvCache() = default;
    /// Error{Usage} when heads of this size cannot be kept in the format, Error{OutOfMemory}.
    DeviceKvCache(const ModelConfig& config, KvFormat format, const StageOptions& options,
                  MemoryPool& memory);

    static uint64_t layerBytes(const ModelConfig& config, KvFormat format, int32_t pages);
    static uint64_t bytesOf(const ModelConfig& config, KvFormat format,
                            const StageOptions& options);
    /// Whether store_kv.comp fills it from rows of floats; else the product that makes them does.
    static bool isQuantized(KvFormat format) {
        return format == KvFormat::Int8 || format == KvFormat::Int4;
    }
    bool isQuantized() const { return isQuantized(m_format); }
    /// The format as the kernels name it.
    uint32_t code() const { return static_cast<uint32_t>(m_format); }
    BufferView layer(int32_t index) const { return m_layers[static_cast<size_t>(index)]; }
    uint64_t bytes() const;
    void copyPage(Recording& recording, int32_t from, int32_t to) const;

private:
    KvFormat m_format = KvFormat::F16;
    uint64_t m_pageBytes = 0;
    std::vector<Allocation> m_layers; ///< none for layers whose attention is not here
};

} // namespace nibble
