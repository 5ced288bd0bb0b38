#include "core/runtime/cpu/row_functions.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nibble {
namespace {

float activated(Activation activation, float x) {
    switch (activation) {
    case Activation::Silu:
        return x / (1 + std::exp(-x));
    case Activation::GeluTanh: {
        constexpr float kFactor = 0.79788456080286536f; // sqrt(2 / pi)
        return 0.5f * x * (1 + std::tanh(kFactor * (x + 0.044715f * x * x * x)));
    }
    case Activation::Gelu:
        return 0.5f * x * (1 + std::erf(x * std::numbers::sqrt2_v<float> / 2));
    case Activation::ClampedSilu:
        return std::min(x, 7.0f) / (1 + std::exp(-1.702f * std::min(x, 7.0f)));
    }
    return x;
}

} // namespace

void layerNorm(const float* x, const float* weight, const float* bias, float epsilon, int64_t count,
               float* out) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; ++i)
        sum += double(x[i]);
    const double mean = sum / static_cast<double>(count);
    for (int64_t i = 0; i < count; ++i)
        squares += (double(x[i]) - mean) * (double(x[i]) - mean);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(count) + double(epsilon));
    for (int64_t i = 0; i < count; ++i)
        out[i] =
            static_cast<float>((double(x[i]) - mean) * scale) * weight[i] + (bias ? bias[i] : 0.0f);
}

void activate(Activation activation, float* gate, const float* up, int64_t count) {
    if (activation == Activation::ClampedSilu && up) {
        for (int64_t i = 0; i < count; ++i)
            gate[i] = activated(activation, gate[i]) * (std::clamp(up[i], -7.0f, 7.0f) + 1);
        return;
    }
    for (int64_t i = 0; i < count; ++i)
        gate[i] = activated(activation, gate[i]) * (up ? up[i] : 1.0f);
}

} // namespace nibble
