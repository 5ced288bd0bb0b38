#include "core/evaluate/score.h"

namespace nibble {
namespace {

/// log Σ exp of a row, in float64 against its maximum.
double logSumExp(const float* row, size_t count) {
    const double top = static_cast<double>(*std::max_element(row, row + count));
    double sum = 0;
    for (size_t i = 0; i < count; ++i)
        sum += std::exp(static_cast<double>(row[i]) - top);
    return top + std::log(sum);
}

} // namespace

Scored score(const float* variant, const float* base, size_t vocabulary, TokenId target) {
    Scored out;
    const double q = logSumExp(variant, vocabulary);
    out.nll = q - static_cast<double>(variant[target]);
    if (!base)
        return out;
    const double p = logSumExp(base, vocabulary);
    out.baseNll = p - static_cast<double>(base[target]);
    double kld = 0;
    for (size_t i = 0; i < vocabulary; ++i) {
        const double logP = static_cast<double>(base[i]) - p;
        kld += std::exp(logP) * (logP - (static_cast<double>(variant[i]) - q));
    }
    out.kld = std::max(kld, 0.0); // rounding alone can take an exact 0 below it
    out.sameTop = std::max_element(variant, variant + vocabulary) - variant ==
                  std::max_element(base, base + vocabulary) - base;
    return out;
}

} // namespace nibble
