#pragma once

#include "core/quant/recipe.h"

#include <functional>
#include <map>
#include <memory>

namespace nibble {

/// What Method::feedback made of the moments that were used last: matrices with one input, and
/// several formats of one matrix, share it.
class FeedbackCache {
public:
    const FeedbackFactor& get(const Method& method, std::shared_ptr<const Moments> moments);

private:
    std::shared_ptr<const Moments> m_of;
    const Method* m_by = nullptr;
    FeedbackFactor m_factor;
};

/// Makes the tensors of a variant from the base: loads, folds scales in, quantizes. Tensors may be
/// asked for in any order; the order of Model::keys() is the cheapest. One thread.
class Quantizer {
public:
    /// `calibration` may be null when needsCalibration() is false. Both referred-to objects outlive
    /// this one.
    Quantizer(const Model& model, const Recipe& recipe,
              std::shared_ptr<const Calibration> calibration = nullptr,
              std::shared_ptr<FeedbackCache> feedback = std::make_shared<FeedbackCache>());

    /// The base's own tensor when the recipe keeps it, else made from it. Error{Usage} when a
    /// method needs a calibration that is not there.
    Tensor tensor(TensorKey key, const Progress& progress = {});

    /// What tensor() gives, in parts of a few rows that are handed out while they are in the cache,
    /// in any order and on several threads. False, and nothing done, for tensors that are kept or
    /// can only be made whole.
    using TakeRows = std::function<void(int64_t firstRow, const Tensor& rows)>;
    bool tensorInParts(TensorKey key, const TakeRows& take, const Progress& progress = {});

    /// A tensor made by tensor() with the folded scales taken out again, for comparing it with the
    /// base's; itself when there are none.
    Tensor inBaseScale(TensorKey key, const Tensor& made, const Progress& progress = {});

    /// Some rows of a matrix as they are in the base, and as the recipe makes them.
    struct RowSample {
        int64_t cols = 0;
        std::vector<float> base, made; ///< [rows][cols], both in the base's scale
        /// What the product's input is divided by, channel by channel; empty = nothing.
        std::vector<float> inputScales;
        float inputScale = 0; ///< Tensor::inputScale
    };
    /// As tensor() would make them, without making the others.
    RowSample sample(TensorKey key, std::span<const int64_t> rows, const Progress& progress = {});

    /// Matrices made so far whose moments could only be factored with more damping than the method
    /// asks for, and with how much: channels that say too little, or too few tokens.
    const std::map<TensorKey, double>& damped() const { return m_damped; }

private:
    struct Fold;
    /// Scales of a tensor's columns and rows, null where they stay.
    struct Scales {
        const std::vector<float>*columns = nullptr, *rows = nullptr;
    };
    Scales scalesOf(TensorKey key, const Progress& progress);
    std::vector<Fold> foldsOf(TensorKey key) const;
    const std::vector<float>* scales(const Fold& fold, const Progress& progress);
    std::vector<float> makeScales(const Fold& fold, const Progress& progress);
    /// Sets Tensor::inputScale of a tensor of codes that multiplies with int8_static.
    void setInputScale(Tensor& tensor, TensorKey key, const std::vector<float>* columns,
                       const Progress& progress);
    Tensor folded(Tensor base, const std::vector<float>* columns, const std::vector<float>* rows,
                  TensorKey key) const;
    struct Making;
    void prepare(Making& making, TensorKey key, const Tensor& base,
                 const std::vector<float>* columns, const Progress& progress);
    Tensor made(TensorKey key, const Tensor& base, const std::vector<float>* columns,
                const Progress& progress);

    const Model& m_model;
    const Recipe& m_recipe;
    std::shared_ptr<const Calibration> m_calibration;
    std::map<TensorKey, std::vector<float>> m_scales; ///< by a fold's first consumer; empty = none
    std::shared_ptr<FeedbackCache> m_feedback;
    std::map<TensorKey, float> m_inputScales; ///< by inputKey()
    std::map<TensorKey, double> m_damped;
};

/// What of a calibration the recipe's methods need, over all tensors.
Needs neededCalibration(const Model& model, const Recipe& recipe);

} // namespace nibble
