#include "core/evaluate/loss_model.h"

#include "core/base/atomic_file.h"
#include "core/base/cache_folder.h"
#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/calibrate/calibrate.h"
#include "core/model/names.h"
#include "core/quant/receipt.h"

#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <set>

namespace nibble {
namespace {

using Json = nlohmann::json;

/// Of this file's content: raised when what is measured changes.
constexpr int kVersion = 7;

/// What the sum leaves out (losses are not quite independent, nor quite in proportion to errors),
/// as a standard deviation: a share of the prediction, more where the loss is so large that errors
/// add to each other; and what cannot be told apart where next to nothing is lost. From all levels,
/// 20 random recipes and 6 mixed ones of the sample model.
double modelError(double kld) {
    return std::hypot(kld * std::min(0.6, 0.13 + 4 * kld), 2.5e-5);
}

/// Of the loss by rounded activations whose scales were found on the inputs that are kept: few, on
/// which they do better than on others; and what a static scale clips is too rare to be among them.
double scaleError(const TensorChoice& choice) {
    if (choice.activations == ActivationFormat::Int8Static)
        return 0.6;
    return choice.method->inputScales && choice.activations != ActivationFormat::Float ? 0.25 : 0;
}

double finite(const Json& json) {
    const double value = json.get<double>();
    if (!std::isfinite(value) || value < 0)
        throw std::domain_error("a value that is none");
    return value;
}

TensorKey keyNamed(const std::string& name) {
    const auto key = tensorKey(name);
    if (!key)
        throw std::domain_error("an unknown tensor");
    return *key;
}

TensorSensitivity readTensor(const Json& json) {
    TensorSensitivity tensor{.key = keyNamed(json.at("tensor"))};
    for (const Json& point : json.at("points"))
        tensor.points.push_back({finite(point.at(0)), finite(point.at(1))});
    if (tensor.points.empty())
        throw std::domain_error("no points");
    tensor.lookupWeight = finite(json.at("lookup_weight"));
    tensor.relativeError = finite(json.at("relative_error"));
    return tensor;
}

LossModel readJson(const Json& json) {
    LossModel known;
    if (json.at("version") != kVersion)
        throw std::domain_error("another version");
    Sensitivities& s = known.sensitivities;
    s.text = json.at("text");
    s.windows = json.at("windows");
    s.context = json.at("context");
    s.tokens = json.at("tokens");
    for (const Json& tensor : json.at("tensors"))
        s.tensors.push_back(readTensor(tensor));
    for (const Json& each : json.at("together"))
        s.together.push_back({each.at("method"), each.at("format"), finite(each.at("predicted")),
                              finite(each.at("measured"))});
    for (const Together& each : s.together)
        if (!findFormat(each.format))
            throw std::domain_error("an unknown format");
    for (const auto& [choice, tensors] : json.at("errors").items())
        for (const auto& [name, error] : tensors.items())
            known.errors[choice][keyNamed(name)] = {finite(error.at(0)), finite(error.at(1))};
    return known;
}

} // namespace

std::string lossModelJson(const LossModel& known) {
    const Sensitivities& s = known.sensitivities;
    Json tensors = Json::array(), together = Json::array(), errors = Json::object();
    for (const TensorSensitivity& tensor : s.tensors) {
        Json points = Json::array();
        for (const TensorSensitivity::Point& point : tensor.points)
            points.push_back({point.error, point.kld});
        tensors.push_back({{"tensor", tensorName(tensor.key)},
                           {"points", points},
                           {"lookup_weight", tensor.lookupWeight},
                           {"relative_error", tensor.relativeError}});
    }
    for (const Together& each : s.together)
        together.push_back({{"method", each.method},
                            {"format", each.format},
                            {"predicted", each.predicted},
                            {"measured", each.measured}});
    for (const auto& [choice, each] : known.errors)
        for (const auto& [key, error] : each)
            errors[choice][tensorName(key)] = {error.product, error.lookup};
    return Json{{"version", kVersion},  {"text", s.text},     {"windows", s.windows},
                {"context", s.context}, {"tokens", s.tokens}, {"tensors", tensors},
                {"together", together}, {"errors", errors}}
        .dump();
}

std::optional<LossModel> readLossModel(const std::filesystem::path& path) {
    try {
        return readJson(Json::parse(readTextFile(path, limits::kJsonBytes)));
    } catch (const Error&) {
        return {}; // not there yet
    } catch (const std::exception&) {
        return {}; // damaged, or of another version
    }
}

LossPredictor::LossPredictor(std::shared_ptr<const Model> model, PredictorOptions options,
                             const Progress& progress)
    : m_model(std::move(model)), m_options(std::move(options)) {
    const std::filesystem::path folder = m_options.cached ? cacheFolder() : std::filesystem::path();
    if (!folder.empty()) {
        // Of what is in it: a file may be written again, and chats go on.
        const std::string calibrated =
            m_options.calibration.empty() ? "" : hashName(calibration(progress)->textHash);
        // Sensitivities hardly depend on the device, so that its name is left out.
        const std::string identity =
            fmt::format("{} {} {} {} {}", hashName(checkpointHash(*m_model->checkpoint)),
                        hashName(hashText(m_texts.tensors.text + m_texts.wholes.text)),
                        m_options.sensitivity.context, m_options.sensitivity.windows, calibrated);
        m_file = folder / fmt::format("losses-{}.json", hashName(hashText(identity)));
        if (auto known = readLossModel(m_file))
            m_known = std::move(*known);
    }
    m_known.sensitivities = measureSensitivities(
        m_model, m_texts, [&](const Progress& part) { return calibration(part); },
        m_options.sensitivity, std::move(m_known.sensitivities), progress,
        [this](const Sensitivities& partial) {
            m_known.sensitivities = partial;
            keep();
        });
}

std::shared_ptr<const Calibration> LossPredictor::calibration(const Progress& progress) {
    if (!m_calibration) {
        CalibrateOptions options;
        options.cached = m_options.cached;
        m_calibration = sharedCalibration(m_model, progress, m_options.calibration, options);
    }
    return m_calibration;
}

void LossPredictor::keep() const {
    if (m_file.empty())
        return;
    try {
        writeFileAtomically(m_file, lossModelJson(m_known));
    } catch (const Error&) {
        // Nothing is lost but the time to measure it again.
    }
}

/// What makes a tensor: all that its error depends on.
std::string LossPredictor::choiceName(const Recipe& recipe, TensorKey key) const {
    const TensorChoice choice = recipe.choose(*m_model, key);
    if (!choice.format || !choice.method)
        return {};
    std::string made =
        fmt::format("{} {} {}", choice.format->name, choice.method->name, name(choice.activations));
    if (choice.outlierThreshold != kOutlierThreshold)
        made += fmt::format(" {}", choice.outlierThreshold);
    if (choice.method->inputScales) // what its neighbours are made of counts, too
        made += " " + hashName(recipe.hash());
    return made;
}

const OutputError* LossPredictor::findError(const Recipe& recipe, TensorKey key) const {
    const auto made = m_known.errors.find(choiceName(recipe, key));
    if (made == m_known.errors.end())
        return nullptr;
    const auto at = made->second.find(measuredAs(key));
    return at == made->second.end() ? nullptr : &at->second;
}

void LossPredictor::estimateAll(std::span<const Recipe> recipes, const Progress& progress) {
    std::vector<std::unique_ptr<Quantizer>> quantizers(recipes.size());
    const auto& tensors = m_known.sensitivities.tensors;
    Progress quiet = progress;
    quiet.onReport = {};
    bool changed = false;
    // Tensors outside: their moments and factors are made once for all recipes.
    for (size_t t = 0; t < tensors.size(); ++t) {
        const TensorKey key = tensors[t].key;
        progress.report(static_cast<double>(t), static_cast<double>(tensors.size()), "errors");
        for (size_t i = 0; i < recipes.size(); ++i) {
            progress.check();
            const std::string made = choiceName(recipes[i], key);
            if (made.empty() || findError(recipes[i], key))
                continue;
            if (!quantizers[i])
                quantizers[i] = std::make_unique<Quantizer>(*m_model, recipes[i],
                                                            calibration(quiet), m_feedback);
            m_known.errors[made][key] = errorTogether(*quantizers[i], *m_model, recipes[i],
                                                      *calibration(quiet), key, quiet);
            changed = true;
        }
        if (changed && (t + 1 == tensors.size() || tensors[t + 1].key.layer != key.layer))
            keep();
    }
}

Prediction LossPredictor::tensorLoss(const Recipe& recipe, TensorKey key, double beside) const {
    const TensorSensitivity* tensor = m_known.sensitivities.find(key);
    const OutputError* error = findError(recipe, key);
    if (!tensor || !error)
        return {};
    const TensorChoice choice = recipe.choose(*m_model, key);
    const double kld =
        tensor->kld(tensor->errorOf(*error)) *
        m_known.sensitivities.correction(choice.method->name, *choice.format, beside);
    return {kld, 2 * kld * std::hypot(tensor->relativeError, scaleError(choice))};
}

Prediction LossPredictor::predict(const Recipe& recipe, const Progress& progress) {
    estimateAll(std::span(&recipe, 1), progress);
    return *find(recipe);
}

std::optional<Prediction> LossPredictor::find(const Recipe& recipe) const {
    double plain = 0;
    for (const TensorSensitivity& tensor : m_known.sensitivities.tensors) {
        if (choiceName(recipe, tensor.key).empty())
            continue;
        const OutputError* error = findError(recipe, tensor.key);
        if (!error)
            return {};
        plain += tensor.kld(tensor.errorOf(*error));
    }
    Prediction sum;
    for (const TensorSensitivity& tensor : m_known.sensitivities.tensors) {
        const Prediction part = tensorLoss(recipe, tensor.key, plain);
        sum.kld += part.kld;
        sum.error += part.error; // all were measured on the same windows
    }
    if (sum.kld > 0)
        sum.error = std::hypot(sum.error, 2 * modelError(sum.kld));
    return sum;
}

} // namespace nibble
