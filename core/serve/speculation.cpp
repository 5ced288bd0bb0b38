#include "core/serve/speculation.h"

#include <algorithm>
#include <bit>

namespace nibble {

std::vector<TokenId> lookUp(std::span<const TokenId> tokens, int32_t most) {
    const size_t count = tokens.size();
    if (count < 3 || most < 1)
        return {};
    const TokenId last = tokens[count - 1], second = tokens[count - 2], third = tokens[count - 3];
    size_t found = 0; // where the guess begins
    for (size_t at = count - 1; at >= 2; --at) {
        if (tokens[at - 1] != last || tokens[at - 2] != second)
            continue;
        const bool three = at >= 3 && tokens[at - 3] == third;
        if (three || found == 0)
            found = at;
        if (three)
            break;
    }
    if (found == 0)
        return {};
    const auto guess = tokens.subspan(found, std::min(count - found, static_cast<size_t>(most)));
    return {guess.begin(), guess.end()};
}

/// Widths that were not tried yet are taken to cost a tenth more for each row.
double DraftWidth::seconds(size_t width) const {
    return m_seconds[width] > 0 ? m_seconds[width]
                                : m_seconds[0] * (0.9 + 0.1 * static_cast<double>(1 << width));
}

int32_t DraftWidth::rows(int32_t most) const {
    if (m_seconds[0] <= 0)
        return 1;
    int32_t best = 1;
    double speed = 1 / seconds(0), tokens = 1, power = 1;
    for (size_t width = 1; width < kWidths && (1 << width) <= most; ++width) {
        for (int32_t row = 1 << (width - 1); row < 1 << width; ++row) {
            power *= m_held;
            tokens += power;
        }
        if (tokens / seconds(width) > speed) {
            speed = tokens / seconds(width);
            best = 1 << width;
        }
    }
    return best;
}

void DraftWidth::took(int32_t rows, double seconds) {
    constexpr double kNew = 0.3;
    const auto width = static_cast<size_t>(std::bit_width(static_cast<uint32_t>(rows - 1)));
    if (width >= kWidths)
        return;
    double& known = m_seconds[width];
    known = known > 0 ? known + kNew * (seconds - known) : seconds;
}

void DraftWidth::guessed(bool held) {
    constexpr double kNew = 0.1;
    m_held += kNew * ((held ? 1 : 0) - m_held);
}

} // namespace nibble
