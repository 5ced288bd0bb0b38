#pragma once

#include "core/tokenizer/tokenizer.h"

#include <array>
#include <span>
#include <vector>

namespace nibble {

/// Prompt lookup (Saxena 2023): what followed the last place where a text went on from the same
/// three tokens, or else from the same two, is a guess at what follows its end. Up to `most`
/// tokens; empty where there is no such place.
std::vector<TokenId> lookUp(std::span<const TokenId> tokens, int32_t most);

/// How many tokens are worth guessing: one pass over the weights checks several rows, in which all
/// up to the first wrong guess count. With guesses that hold with probability a, a pass of w rows
/// yields 1 + a + … + a^(w − 1) tokens (Leviathan et al. 2023, eq. 1); what such a pass takes is
/// measured as it goes.
class DraftWidth {
public:
    static constexpr int32_t kMostRows = 16;

    /// Rows of the next pass with up to `most` rows: 1 where guessing does not pay.
    int32_t rows(int32_t most) const;
    void took(int32_t rows, double seconds);
    /// Whether a guessed token was the one that came; also of guesses that were not run.
    void guessed(bool held);

private:
    /// For 1, 2, 4, 8 and 16 rows, as kernels have them.
    static constexpr size_t kWidths = 5;
    double seconds(size_t width) const;

    std::array<double, kWidths> m_seconds{}; ///< of a pass; 0 = not known
    double m_held = 0.7;                     ///< of the guesses: a running share
};

} // namespace nibble
