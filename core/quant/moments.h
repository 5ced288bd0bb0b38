#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace nibble {

/// The second moment of a product's input: XᵀX / tokens, symmetric, all of it stored. Up to a
/// constant the Hessian of the product's squared error.
struct Moments {
    int64_t size = 0, tokens = 0;
    std::vector<float> values; ///< [size][size]

    float at(int64_t row, int64_t col) const {
        return values[static_cast<size_t>(row * size + col)];
    }
};

/// Adds up rows of inputs.
class MomentSum {
public:
    explicit MomentSum(int64_t size);
    /// rows × size values.
    void add(const float* rows, int64_t count);
    Moments finish();

private:
    int64_t m_size, m_tokens = 0;
    std::vector<float> m_sum; ///< the upper triangle, in tiles of rows
};

/// tr(E M Eᵀ) of rows e, `size` values each: the mean square error that they cause together in the
/// product's output.
double outputError(const Moments& moments, std::span<const float> rows);

/// M + damping = Ũ D Ũᵀ with Ũ unit upper triangular: what error feedback from the columns that are
/// already rounded to the next one needs. GPTQ's loop in this form is LDLQ (Chee et al. 2023,
/// QuIP), which they prove equal.
struct FeedbackFactor {
    int64_t size = 0;
    /// Ũ by columns of rounding order: column k's feedback from column j < k is at [k][j].
    std::vector<float> feedback;
    std::vector<int32_t> order; ///< the column that is rounded k-th
    double damping = 0;         ///< what was added to the diagonal, as a fraction of its mean
    bool grown = false;         ///< it had to be more than was asked for
    int dead = 0;               ///< channels that never were anything but zero
};
/// Damping starts at `damping` (a fraction of the mean diagonal) and grows until the matrix can be
/// factored.
FeedbackFactor factor(const Moments& moments, std::vector<int32_t> order, double damping);

} // namespace nibble
