#include "core/quant/group_fit.h"

#include "core/base/half.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace nibble {
namespace {

constexpr size_t kLanes = 8;
constexpr float kHalfMax = 65504;

/// Least and largest value of code − zero point.
struct Range {
    int low, high;
};

/// Eight-bit codes leave out −128, so that a scale has no preferred sign and |code| fits 7 bits.
Range codeRange(const Format& format, int zero) {
    if (format.bits == 8)
        return {-127, 127};
    return {-zero, (1 << format.bits) - 1 - zero};
}

/// Adding and subtracting 1.5 · 2^52 (2^23) rounds to the nearest even integer.
double rounded(double value) {
    constexpr double kMagic = 6755399441055744.0;
    return (value + kMagic) - kMagic;
}
float rounded(float value) {
    constexpr float kMagic = 12582912.0f;
    return (value + kMagic) - kMagic;
}

struct Stored {
    uint32_t bits;
    float value;
};

Stored storedScale(const Format& format, double scale) {
    if (format.scale == ScaleKind::F16) {
        const uint16_t bits =
            floatToHalf(static_cast<float>(std::clamp(scale, -double(kHalfMax), double(kHalfMax))));
        return {bits, halfToFloat(bits)};
    }
    constexpr double kMax = 3.3e38; // below the largest bfloat16 as well
    const auto single = static_cast<float>(std::clamp(scale, -kMax, kMax));
    if (format.scale == ScaleKind::BF16) {
        const uint16_t bits = floatToBfloat(single);
        return {bits, bfloatToFloat(bits)};
    }
    return {std::bit_cast<uint32_t>(single), single};
}

/// One group with room for trial codes; keeps the best of what is tried.
class Group {
public:
    Group(const Format& format, std::span<const float> x, std::span<const float> weights,
          uint8_t* codes)
        : m_format(format), m_x(x), m_weights(weights), m_codes(codes) {
        m_trial.resize(x.size());
        m_best.error = std::numeric_limits<double>::infinity();
    }

    /// Tries a scale with a zero point and offset as they stand. Returns the scale that is best for
    /// the codes found.
    double tryScale(double scale, int zero, float offset) {
        const Stored stored = storedScale(m_format, scale);
        const Range range = codeRange(m_format, zero);
        const double inverse = stored.value == 0 ? 0 : 1.0 / double(stored.value);
        double error = 0, xl = 0, ll = 0;
        for (size_t i = 0; i < m_x.size(); ++i) {
            const double x = m_x[i];
            const double l = rounded(
                std::clamp((x - double(offset)) * inverse, double(range.low), double(range.high)));
            m_trial[i] = static_cast<int16_t>(l);
            float decoded = stored.value * static_cast<float>(l);
            if (m_format.offset == OffsetKind::Value)
                decoded += offset;
            const double weight = m_weights[i], difference = x - double(decoded);
            error += weight * difference * difference;
            xl += weight * (x - double(offset)) * l;
            ll += weight * l * l;
        }
        if (error < m_best.error) {
            m_best.error = error;
            m_best.scale = stored.bits;
            m_best.offset = m_format.offset == OffsetKind::Value  ? floatToHalf(offset)
                            : m_format.offset == OffsetKind::Zero ? static_cast<uint16_t>(zero)
                                                                  : uint16_t(0);
            // 8-bit codes are stored as they are; narrower ones count from the lowest.
            const int base = m_format.bits == 8 ? 0 : zero;
            for (size_t i = 0; i < m_x.size(); ++i)
                m_codes[i] = static_cast<uint8_t>(m_trial[i] + base);
        }
        return ll > 0 ? xl / ll : scale;
    }
    void tryRefined(double scale, int zero, float offset) {
        tryScale(tryScale(scale, zero, offset), zero, offset);
    }

    const GroupFit& best() const { return m_best; }

private:
    const Format& m_format;
    std::span<const float> m_x, m_weights;
    uint8_t* m_codes;
    static thread_local std::vector<int16_t> m_trial;
    GroupFit m_best;
};
thread_local std::vector<int16_t> Group::m_trial;

struct Extent {
    float low = 0, high = 0; ///< least and largest value
    float farthest = 0;      ///< the value of largest magnitude
};

Extent extentOf(std::span<const float> x) {
    Extent e{x.front(), x.front(), 0};
    for (const float value : x) {
        e.low = std::min(e.low, value);
        e.high = std::max(e.high, value);
    }
    e.farthest = std::abs(e.low) > std::abs(e.high) ? e.low : e.high;
    return e;
}

float storedOffset(float offset) {
    return halfToFloat(floatToHalf(std::clamp(offset, -kHalfMax, kHalfMax)));
}

int zeroPoint(const Format& format, double low, double scale) {
    const double most = (1 << format.offsetBits) - 1;
    return scale == 0 ? 0 : static_cast<int>(rounded(std::clamp(-low / scale, 0.0, most)));
}

void tryPlain(const Format& format, const Extent& extent, Group& group) {
    const double codes = (1 << format.bits) - 1;
    if (format.offset == OffsetKind::Value) {
        group.tryScale((double(extent.high) - extent.low) / codes, 0, storedOffset(extent.low));
    } else if (format.offset == OffsetKind::Zero) {
        const double low = std::min(0.0f, extent.low), high = std::max(0.0f, extent.high);
        const double scale = (high - low) / codes;
        group.tryScale(scale, zeroPoint(format, low, storedScale(format, scale).value), 0);
    } else {
        const Range range = codeRange(format, format.zero);
        group.tryScale(std::abs(double(extent.farthest)) / range.high, format.zero, 0);
        if (-range.low != range.high) // the value of largest magnitude gets the outermost code
            group.tryScale(double(extent.farthest) / range.low, format.zero, 0);
    }
}

/// Values of a group scaled to magnitudes up to 1 and padded to whole lanes with weight 0, so that
/// sums neither overflow nor vanish in float32.
struct Normalized {
    std::vector<float> x, weights;
    void assign(std::span<const float> values, std::span<const float> weight, float magnitude) {
        const size_t padded = (values.size() + kLanes - 1) / kLanes * kLanes;
        x.assign(padded, 0);
        weights.assign(padded, 0);
        for (size_t i = 0; i < values.size(); ++i)
            x[i] = static_cast<float>(double(values[i]) / magnitude);
        std::copy(weight.begin(), weight.end(), weights.begin());
    }
};

float sum(const float* lanes) {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

struct Candidate {
    double gain = -1; ///< how much of Σ weight · x² a least-squares scale explains
    double scale = 0, offset = 0;
    int zero = 0;
};

/// Codes at 1/inverse, and the least-squares scale for them.
Candidate judge(const Normalized& group, float inverse, Range range, int zero) {
    float xl[kLanes] = {}, ll[kLanes] = {};
    const auto low = static_cast<float>(range.low), high = static_cast<float>(range.high);
    for (size_t at = 0; at < group.x.size(); at += kLanes)
        for (size_t i = 0; i < kLanes; ++i) {
            const float x = group.x[at + i];
            float l = x * inverse;
            l = l < low ? low : l;
            l = rounded(l > high ? high : l);
            const float weighted = group.weights[at + i] * l;
            xl[i] += weighted * x;
            ll[i] += weighted * l;
        }
    const double a = sum(xl), b = sum(ll);
    return b > 0 ? Candidate{a * a / b, a / b, 0, zero} : Candidate{};
}

/// The same for w = scale · code + offset, by a two-parameter least squares fit.
Candidate judgeOffset(const Normalized& group, float low, float inverse, int codes) {
    float w[kLanes] = {}, wx[kLanes] = {}, wl[kLanes] = {}, xl[kLanes] = {}, ll[kLanes] = {};
    const auto most = static_cast<float>(codes);
    for (size_t at = 0; at < group.x.size(); at += kLanes)
        for (size_t i = 0; i < kLanes; ++i) {
            const float x = group.x[at + i], weight = group.weights[at + i];
            float l = (x - low) * inverse;
            l = l < 0 ? 0 : l;
            l = rounded(l > most ? most : l);
            w[i] += weight;
            wx[i] += weight * x;
            wl[i] += weight * l;
            xl[i] += weight * x * l;
            ll[i] += weight * l * l;
        }
    const double sw = sum(w), sx = sum(wx), sl = sum(wl), sxl = sum(xl), sll = sum(ll);
    const double determinant = sw * sll - sl * sl;
    if (!(determinant > 0))
        return {};
    Candidate c;
    c.scale = (sw * sxl - sl * sx) / determinant;
    c.offset = (sll * sx - sl * sxl) / determinant;
    c.gain = c.scale * sxl + c.offset * sx;
    return c;
}

/// Multiples of the plain number of steps that are tried: coarse codes gain from clipping the
/// largest values, fine ones only from where the grid happens to fall.
struct Grid {
    double first, step;
    int count;
};
Grid gridOf(const Format& format) {
    return format.bits == 8 ? Grid{0.99, 0.005, 9} : Grid{0.9, 0.04, 16};
}

Candidate search(const Format& format, const Normalized& group, const Extent& extent,
                 float magnitude) {
    const Grid grid = gridOf(format);
    const int codes = (1 << format.bits) - 1;
    Candidate best;
    const auto keep = [&best](const Candidate& c) {
        if (c.gain > best.gain)
            best = c;
    };
    for (int i = 0; i < grid.count; ++i) {
        const double multiple = grid.first + grid.step * i;
        if (format.offset == OffsetKind::Value) {
            const double range = (double(extent.high) - extent.low) / magnitude;
            // A range that is lost beside the values has nothing to search.
            if (range > 1e-6)
                keep(judgeOffset(group, extent.low / magnitude,
                                 static_cast<float>(codes * multiple / range), codes));
        } else if (format.offset == OffsetKind::Zero) {
            const double low = std::min(0.0f, extent.low) / double(magnitude),
                         high = std::max(0.0f, extent.high) / double(magnitude);
            const int middle = zeroPoint(format, low, (high - low) / codes);
            const int most = (1 << format.offsetBits) - 1;
            for (int zero = std::max(0, middle - 1); zero <= std::min(most, middle + 1); ++zero)
                keep(judge(group, static_cast<float>(codes * multiple / (high - low)),
                           codeRange(format, zero), zero));
        } else {
            const Range range = codeRange(format, format.zero);
            const float sign = extent.farthest < 0 ? -1.0f : 1.0f;
            keep(
                judge(group, sign * static_cast<float>(range.high * multiple), range, format.zero));
            if (-range.low != range.high)
                keep(judge(group, sign * static_cast<float>(range.low * multiple), range,
                           format.zero));
        }
    }
    // With the fitted scale the codes move, and a second fit gains once more.
    if (best.gain > 0 && best.scale != 0 && format.offset != OffsetKind::Value)
        keep(judge(group, static_cast<float>(1 / best.scale), codeRange(format, best.zero),
                   best.zero));
    return best;
}

} // namespace

const char* cannotFitGroups(const Format& format) {
    if (format.code == CodeKind::Table)
        return "its codes stand for the values of a table, which needs another method";
    if (format.code != CodeKind::Uniform || format.super != 0)
        return "its scales are quantized themselves, which needs another method";
    if (format.bits == 2 && format.zero == 1)
        return "ternary weights come from training, not from rounding";
    if (format.bits == 8 && format.offset != OffsetKind::None)
        return "eight-bit codes are made without offsets only";
    if (format.scale != ScaleKind::F16 && format.scale != ScaleKind::F32 &&
        format.scale != ScaleKind::BF16)
        return "its scales are not plain floats, which needs another method";
    if (format.offset == OffsetKind::Code)
        return "its offsets are quantized themselves, which needs another method";
    return nullptr;
}

GroupFit fitPlain(const Format& format, std::span<const float> x, std::span<const float> weights,
                  uint8_t* codes) {
    Group group(format, x, weights, codes);
    tryPlain(format, extentOf(x), group);
    return group.best();
}

GroupFit fitSearched(const Format& format, std::span<const float> x, std::span<const float> weights,
                     uint8_t* codes) {
    const Extent extent = extentOf(x);
    Group group(format, x, weights, codes);
    tryPlain(format, extent, group);
    const float magnitude = std::abs(extent.farthest);
    if (magnitude < std::numeric_limits<float>::min()) // all zero, or below every stored scale
        return group.best();
    thread_local Normalized normalized;
    normalized.assign(x, weights, magnitude);
    const Candidate best = search(format, normalized, extent, magnitude);
    if (best.gain > 0)
        group.tryRefined(best.scale * magnitude,
                         format.offset == OffsetKind::Zero ? best.zero : format.zero,
                         storedOffset(static_cast<float>(best.offset * magnitude)));
    return group.best();
}

} // namespace nibble
