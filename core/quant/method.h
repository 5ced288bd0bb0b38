#pragma once

#include "core/base/progress.h"
#include "core/tensor/tensor.h"

#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace nibble {

/// What a method sees of one matrix.
struct QuantizeInput {
    std::string name;
    int64_t rows = 0, cols = 0;
    /// Gives rows [begin, end) as float32; called from several threads.
    std::function<void(int64_t begin, int64_t end, float* out)> values;
    /// Mean square of each input channel from calibration; empty = all channels count the same.
    std::span<const float> importance;
};

/// How codes are chosen, independent of formats: one row in methods() and one file each.
struct Method {
    const char* name;
    const char* title;
    /// Why the method cannot make this format, or null when it can.
    const char* (*refuses)(const Format& format);
    Tensor (*quantize)(const QuantizeInput& input, const Format& format, const Progress& progress);
};
std::span<const Method> methods();
/// Error{Usage} that lists the known names.
const Method& getMethod(std::string_view name);

/// Float formats by conversion, quantized ones by the method; Error{Usage} when it refuses.
Tensor quantize(const QuantizeInput& input, const Format& format, const Method& method,
                const Progress& progress = {});
/// A tensor re-quantized from any other.
Tensor quantize(const Tensor& base, const Format& format, const Method& method,
                std::span<const float> importance = {}, const Progress& progress = {});

} // namespace nibble
