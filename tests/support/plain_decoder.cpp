#include "tests/support/plain_decoder.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace nibble::test {
namespace {

double rms(const double* x, size_t count, double epsilon) {
    double squares = 0;
    for (size_t i = 0; i < count; ++i)
        squares += x[i] * x[i];
    return std::sqrt(squares / static_cast<double>(count) + epsilon);
}

double capped(double x, double cap) {
    return cap > 0 ? cap * std::tanh(x / cap) : x;
}

} // namespace

std::vector<double> PlainDecoder::normed(const std::vector<double>& x,
                                         const std::string& name) const {
    const PlainTensor* weight = find(name + ".weight");
    if (!weight)
        return x;
    const PlainTensor* bias = find(name + ".bias");
    std::vector<double> out = x;
    if (f.layerNorm) {
        const double mean =
            std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
        for (double& value : out)
            value -= mean;
    }
    const double size = rms(out.data(), out.size(), s.epsilon);
    for (size_t i = 0; i < out.size(); ++i)
        out[i] = out[i] / size * (f.normOffset + double(weight->values[i])) +
                 (bias ? double(bias->values[i]) : 0.0);
    return out;
}

std::vector<double> PlainDecoder::product(const std::vector<double>& x, const std::string& name,
                                          int64_t firstRow, int64_t rows) const {
    const PlainTensor* weight = find(name + ".weight");
    if (!weight)
        throw std::runtime_error("no tensor " + name);
    const PlainTensor* bias = find(name + ".bias");
    const bool turned = f.transposed;
    const int64_t all = turned ? weight->dims[1] : weight->dims[0];
    if (rows < 0)
        rows = all;
    std::vector<double> out(static_cast<size_t>(rows));
    for (int64_t r = 0; r < rows; ++r) {
        double sum = bias ? double(bias->values[static_cast<size_t>(firstRow + r)]) : 0.0;
        for (size_t c = 0; c < x.size(); ++c) {
            const auto row = static_cast<size_t>(firstRow + r);
            const size_t at = turned ? c * static_cast<size_t>(all) + row : row * x.size() + c;
            sum += x[c] * double(weight->values[at]);
        }
        out[static_cast<size_t>(r)] = sum;
    }
    return out;
}

std::vector<double> PlainDecoder::gated(const std::vector<double>& x, const std::string& gate,
                                        const std::string& up, const std::string& down,
                                        const std::string& both) const {
    std::vector<double> g, u;
    if (!both.empty()) {
        g = product(x, both, 0, s.feedForward);
        u = product(x, both, s.feedForward, s.feedForward);
    } else {
        u = product(x, up);
        if (!gate.empty())
            g = product(x, gate);
    }
    for (size_t i = 0; i < u.size(); ++i)
        u[i] = g.empty()  ? f.activation(u[i])
               : f.gating ? f.gating(g[i], u[i])
                          : f.activation(g[i]) * u[i];
    return product(u, down);
}

void PlainDecoder::rotate(int layer, size_t position, double* head) const {
    const int half = f.rotated / 2;
    for (int i = 0; i < half; ++i) {
        const double frequency = f.frequency(layer, i);
        if (frequency == 0)
            continue;
        const double angle = static_cast<double>(position) * frequency;
        const double c = f.rotationMagnitude * std::cos(angle),
                     sine = f.rotationMagnitude * std::sin(angle);
        const double a = head[i], b = head[i + half];
        head[i] = a * c - b * sine;
        head[i + half] = b * c + a * sine;
    }
}

std::vector<double> PlainDecoder::attended(int layer, size_t row, const Rows& q, const Rows& k,
                                           const Rows& v) const {
    const auto size = static_cast<size_t>(s.headSize);
    std::vector<double> out(static_cast<size_t>(s.heads) * size, 0.0);
    const double scale =
        f.attentionScale > 0 ? f.attentionScale : 1 / std::sqrt(static_cast<double>(s.headSize));
    for (int h = 0; h < s.heads; ++h) {
        const auto from = static_cast<size_t>(h) * size;
        const auto kv = static_cast<size_t>(h / (s.heads / s.kvHeads)) * size;
        std::vector<double> weights;
        std::vector<size_t> seen;
        const int window = f.window(layer);
        for (size_t j = 0; j <= row; ++j) {
            if (window > 0 && j + static_cast<size_t>(window) <= row)
                continue;
            double score = 0;
            for (size_t d = 0; d < size; ++d)
                score += q[row][from + d] * k[j][kv + d];
            weights.push_back(capped(score * scale, f.attentionCap));
            seen.push_back(j);
        }
        const double most = *std::max_element(weights.begin(), weights.end());
        double total = 0; // a sink takes its share and adds nothing
        if (!n.sinks.empty())
            total = std::exp(double(find(n.layer + std::to_string(layer) + "." + n.sinks)
                                        ->values[static_cast<size_t>(h)]) -
                             most);
        for (double& weight : weights)
            total += weight = std::exp(weight - most);
        for (size_t j = 0; j < seen.size(); ++j)
            for (size_t d = 0; d < size; ++d)
                out[from + d] += weights[j] / total * v[seen[j]][kv + d];
    }
    return out;
}

std::vector<double> PlainDecoder::mixed(int layer, const std::vector<double>& x) const {
    const std::string in = n.layer + std::to_string(layer) + ".";
    const std::vector<double> scores = product(x, in + n.router);
    std::vector<size_t> order(scores.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    order.resize(static_cast<size_t>(s.expertsUsed));
    double all = 0, chosen = 0;
    for (const double score : scores)
        all += std::exp(score);
    for (const size_t e : order)
        chosen += std::exp(scores[e]);
    std::vector<double> sum(x.size(), 0.0);
    const auto add = [&](double weight, const std::vector<double>& made) {
        for (size_t i = 0; i < sum.size(); ++i)
            sum[i] += weight * made[i];
    };
    for (const size_t e : order) {
        const std::string one = in + n.expert + std::to_string(e) + ".";
        add(std::exp(scores[e]) / (f.normsExpertWeights ? chosen : all),
            gated(x, one + n.expertGate, one + n.expertUp, one + n.expertDown, ""));
    }
    if (!n.shared.empty())
        add(1 / (1 + std::exp(-product(x, in + n.sharedRouter)[0])),
            gated(x, in + n.shared + "gate_proj", in + n.shared + "up_proj",
                  in + n.shared + "down_proj", ""));
    return sum;
}

/// c · Σ filter[t] · (b · x) over the last tokens, of rows [b, c, x].
std::vector<double> PlainDecoder::convolved(const std::string& in, size_t row,
                                            const Rows& rows) const {
    const PlainTensor& filter = *find(in + n.convolution + "conv.weight");
    const auto width = static_cast<size_t>(s.width), taps = static_cast<size_t>(f.taps);
    std::vector<double> out(width, 0.0);
    for (size_t i = 0; i < width; ++i) {
        for (size_t back = 0; back < taps && back <= row; ++back)
            out[i] += double(filter.values[i * taps + taps - 1 - back]) * rows[row - back][i] *
                      rows[row - back][2 * width + i];
        out[i] *= rows[row][width + i];
    }
    return out;
}

std::vector<float> PlainDecoder::logits(const std::vector<int>& tokens) const {
    const PlainTensor& table = *find(n.embedding);
    Rows x;
    for (size_t i = 0; i < tokens.size(); ++i) {
        std::vector<double> row(static_cast<size_t>(s.width));
        for (size_t c = 0; c < row.size(); ++c) {
            row[c] = f.embeddingScale *
                     double(table.values[static_cast<size_t>(tokens[i]) * row.size() + c]);
            if (!n.positions.empty())
                row[c] += double(find(n.positions)->values[i * row.size() + c]);
        }
        x.push_back(std::move(row));
    }
    const auto addTo = [&](std::vector<double>& row, const std::vector<double>& made) {
        for (size_t i = 0; i < row.size(); ++i)
            row[i] += f.residualScale * made[i];
    };
    for (int layer = 0; layer < s.layers; ++layer) {
        const std::string in = n.layer + std::to_string(layer) + ".";
        Rows q, k, v;
        const auto kvWidth = int64_t(s.kvHeads) * s.headSize, width = int64_t(s.heads) * s.headSize;
        for (size_t row = 0; row < x.size(); ++row) {
            const auto a = normed(x[row], in + n.inputNorm);
            if (f.convolves(layer)) {
                q.push_back(product(a, in + n.convolution + "in_proj"));
                continue;
            }
            if (n.queryKeyValue.empty()) {
                q.push_back(product(a, in + n.query));
                k.push_back(product(a, in + n.key));
                v.push_back(product(a, in + n.value));
            } else {
                q.push_back(product(a, in + n.queryKeyValue, 0, width));
                k.push_back(product(a, in + n.queryKeyValue, width, kvWidth));
                v.push_back(product(a, in + n.queryKeyValue, width + kvWidth, kvWidth));
            }
            for (auto* part : {&q.back(), &k.back()}) {
                const std::string name = in + (part == &q.back() ? n.queryNorm : n.keyNorm);
                if (f.queryKeyNorm == FamilyFacts::Qk::Full)
                    *part = normed(*part, name);
                for (size_t at = 0; at < part->size(); at += static_cast<size_t>(s.headSize)) {
                    const auto begin = part->begin() + static_cast<int64_t>(at);
                    if (f.queryKeyNorm == FamilyFacts::Qk::Head) {
                        const auto head =
                            normed(std::vector<double>(begin, begin + s.headSize), name);
                        std::copy(head.begin(), head.end(), begin);
                    }
                    rotate(layer, row, &*begin);
                }
            }
        }
        for (size_t row = 0; row < x.size(); ++row) {
            auto made = f.convolves(layer)
                            ? product(convolved(in, row, q), in + n.convolution + "out_proj")
                            : product(attended(layer, row, q, k, v), in + n.output);
            if (!n.attentionPostNorm.empty())
                made = normed(made, in + n.attentionPostNorm);
            addTo(x[row], made);
            const auto b = normed(x[row], in + n.feedForwardNorm);
            made = f.mixture(layer) ? mixed(layer, b)
                                    : gated(b, n.gate.empty() ? "" : in + n.gate, in + n.up,
                                            in + n.down, n.gateUp.empty() ? "" : in + n.gateUp);
            if (!n.feedForwardPostNorm.empty())
                made = normed(made, in + n.feedForwardPostNorm);
            addTo(x[row], made);
        }
    }
    const PlainTensor* head = find(n.head);
    const PlainTensor& matrix = head ? *head : table;
    std::vector<float> out;
    for (const auto& row : x) {
        const auto last =
            normed(row, n.finalNorm.substr(0, n.finalNorm.size() - std::string(".weight").size()));
        for (int token = 0; token < s.vocabulary; ++token) {
            double sum = 0;
            for (size_t c = 0; c < last.size(); ++c)
                sum +=
                    last[c] * double(matrix.values[static_cast<size_t>(token) * last.size() + c]);
            out.push_back(static_cast<float>(capped(sum * f.logitScale, f.logitCap)));
        }
    }
    return out;
}

} // namespace nibble::test
