// ctest: COST=84
#include "core/base/resources.h"
#include "core/calibrate/calibrate.h"
#include "core/evaluate/quality.h"
#include "core/files/gguf_format.h"
#include "core/model/names.h"
#include "core/quant/apply.h"

#include <QTemporaryDir>
#include <QTest>
#include <algorithm>

using namespace nibble;

namespace {

constexpr int32_t kContext = 128, kWindows = 32;

std::shared_ptr<const Model> sample() {
    static const auto model = openModel(resourcePath("sample_model/nibble-sample-f16.gguf"));
    return model;
}

/// The sample with eight channels of every norm's output made 20 times as large, and the products
/// that read them 20 times as small: the same function with outliers.
std::shared_ptr<const Model> planted() {
    static QTemporaryDir folder;
    static const std::shared_ptr<const Model> model = [] {
        const auto base = sample();
        const auto cols = static_cast<size_t>(base->config.width);
        const auto isPlanted = [](size_t channel) { return channel % 32 == 5; };
        std::vector<GgufTensor> tensors;
        std::vector<Bytes> contents;
        for (const TensorInfo& info : base->checkpoint->tensors) {
            tensors.push_back({info.name, info.dims, info.type, info.bytes.size()});
            const auto keys = base->keysOf(info.name);
            const TensorKey* key = keys.empty() ? nullptr : &keys.front();
            const bool norm =
                key && (key->role == Role::AttentionNorm || key->role == Role::FeedForwardNorm);
            const bool reads = key && (key->role == Role::Query || key->role == Role::Key ||
                                       key->role == Role::Value || key->role == Role::Gate ||
                                       key->role == Role::Up);
            if (!norm && !reads) {
                contents.push_back(info.bytes);
                continue;
            }
            const Tensor tensor = base->load(*key);
            std::vector<float> values = decode(tensor);
            for (size_t i = 0; i < values.size(); ++i)
                if (isPlanted(i % cols))
                    values[i] *= norm ? 20.0f : 1 / 20.0f;
            contents.push_back(
                makeFloatTensor(info.name, *tensor.format, tensor.rows, tensor.cols, values).codes);
        }
        const std::filesystem::path path = folder.path().toStdString() + "/planted.gguf";
        writeGguf(path, base->checkpoint->metadata, tensors,
                  [&](size_t index) { return contents[index]; });
        return openModel(path);
    }();
    return model;
}

std::shared_ptr<const Calibration> calibrationOf(const std::shared_ptr<const Model>& model) {
    static std::map<const Model*, std::shared_ptr<const Calibration>> made;
    auto& calibration = made[model.get()];
    if (!calibration) {
        CalibrateOptions options;
        options.windows = 16;
        calibration = calibrate(model, shippedCalibrationText(), options);
    }
    return calibration;
}

Recipe recipe(const char* format, const char* method, const char* activations) {
    Recipe out;
    out.rules.push_back(
        {.match = "*", .format = format, .method = method, .activations = activations});
    for (const char* outer : {"token_embd", "output"})
        out.rules.push_back(
            {.match = outer, .format = "int8_g32", .method = "rtn", .activations = "int8"});
    return out;
}

std::unique_ptr<Runner> run(const std::shared_ptr<const Model>& model, const Recipe& recipe) {
    RunOptions options;
    options.placement = placeAll(*model, openCpu());
    options.context = kContext;
    auto runner = std::make_unique<Runner>(model, options);
    const bool needed = neededCalibration(*model, recipe) != Needs::Nothing;
    applyRecipe(*runner, recipe, nullptr, {}, needed ? calibrationOf(model) : nullptr);
    return runner;
}

QualityReport quality(const std::shared_ptr<const Model>& model, const Recipe& recipe) {
    static std::map<const Model*, std::pair<std::unique_ptr<Runner>, BaseLogits>> bases;
    auto& [base, logits] = bases[model.get()];
    if (!base)
        base = run(model, {});
    EvaluateOptions options;
    options.context = kContext;
    options.chunks = kWindows;
    options.spread = true;
    const auto variant = run(model, recipe);
    const EvaluationTokens tokens = tokenize(*model->tokenizer, shippedEvaluationText());
    return measureQuality(*variant, base.get(), tokens, options, {}, {}, &logits);
}

double kld(const std::shared_ptr<const Model>& model, const Recipe& recipe) {
    return quality(model, recipe).kldMean;
}

} // namespace

class TestMethods : public QObject {
    Q_OBJECT
private slots:
    /// Each method earns its place on the sample as it is.
    void methodsThatLookAtDataLoseLess() {
        const double rtn = kld(sample(), recipe("int4_g128", "rtn", "float"));
        const double gptq = kld(sample(), recipe("int4_g128", "gptq", "float"));
        const double awq = kld(sample(), recipe("int4_g128", "awq", "float"));
        const auto text = QString("rtn %1, gptq %2, awq %3").arg(rtn).arg(gptq).arg(awq);
        QVERIFY2(gptq < 0.7 * rtn, qPrintable(text));
        QVERIFY2(awq < rtn, qPrintable(text));
        qInfo("%s", qPrintable(text));
    }

    /// Our own levels against those that people use, at no more bytes, beyond two standard errors
    /// of the paired difference.
    void ourLevelsAreAheadOfTheAnchors() {
        struct Measured {
            uint64_t bytes;
            QualityReport quality;
        };
        const auto at = [](const char* level) {
            const Recipe made = levelRecipe(level, *sample());
            return Measured{recipeSize(*sample(), made).bytes, quality(sample(), made)};
        };
        const auto ahead = [](const Measured& ours, const Measured& theirs, const char* name) {
            const auto difference = pairedDifference(ours.quality, theirs.quality);
            QVERIFY2(difference && difference->kld < 0 && difference->certain(), name);
        };
        const Measured four = at("nibble4"), inGguf = at("nibble4_gguf"), eight = at("nibble8");
        for (const char* anchor :
             {"q4_k_m", "q4_k_m_imatrix", "q4_k_s", "gptq", "awq", "nf4_dq", "nf4_search"}) {
            const Measured other = at(anchor);
            QVERIFY2(four.bytes <= other.bytes && inGguf.bytes <= other.bytes, anchor);
            ahead(four, other, anchor);
            ahead(inGguf, other, anchor);
        }
        for (const char* anchor : {"iq4_xs", "iq4_xs_imatrix"}) {
            const Measured other = at(anchor);
            QVERIFY2(inGguf.bytes <= other.bytes, anchor);
            ahead(inGguf, other, anchor);
            ahead(four, other, anchor);
        }
        const Measured q8 = at("q8_0");
        QVERIFY(eight.bytes < q8.bytes);
        QVERIFY(eight.quality.kldMean < 1.5 * q8.quality.kldMean);
    }

    void plantedOutliersAreTheSameModel() {
        QVERIFY(kld(planted(), {}) < 1e-9);
        const auto& inputs = calibrationOf(planted())->get({Role::Gate, 2});
        QVERIFY(inputs.absMax[5] > 10 * inputs.absMax[6]);
    }

    /// On planted outliers a method made for them beats plain rounding at least threefold.
    void outliersAreTheirBusiness_data() {
        QTest::addColumn<QString>("method");
        QTest::addColumn<QString>("format");
        QTest::addColumn<QString>("activations");
        QTest::newRow("awq") << "awq"
                             << "int4_g128"
                             << "float";
        QTest::newRow("smoothquant") << "smoothquant"
                                     << "int8"
                                     << "int8_token";
        QTest::newRow("smoothquant static") << "smoothquant"
                                            << "int8"
                                            << "int8_static";
        // LLM.int8(): columns known beforehand, values found while running, and both.
        QTest::newRow("llm_int8 static") << "llm_int8"
                                         << "int8"
                                         << "int8_token";
        QTest::newRow("llm_int8 dynamic") << "rtn"
                                          << "int8"
                                          << "int8_outliers";
        QTest::newRow("llm_int8") << "llm_int8"
                                  << "int8"
                                  << "int8_outliers";
    }
    void outliersAreTheirBusiness() {
        QFETCH(QString, method);
        QFETCH(QString, format);
        QFETCH(QString, activations);
        const QByteArray m = method.toUtf8(), f = format.toUtf8(), a = activations.toUtf8();
        const char* rounded = activations == "float"         ? "float"
                              : activations == "int8_static" ? "int8_static"
                                                             : "int8_token";
        const double plain = kld(planted(), recipe(f, "rtn", rounded));
        const double better = kld(planted(), recipe(f, m, a));
        const auto text = QString("rtn %1, %2 %3").arg(plain).arg(method).arg(better);
        QVERIFY2(better * 3 <= plain, qPrintable(text));
        qInfo("%s", qPrintable(text));
    }

    /// The outlier columns of the planted model are the planted ones, and a threshold that nothing
    /// reaches leaves none.
    void outlierColumnsAreThePlantedOnes() {
        Recipe made = recipe("int8", "llm_int8", "int8_token");
        const TensorKey gate{Role::Gate, 2};
        const auto columns = [&] {
            return Quantizer(*planted(), made, calibrationOf(planted())).tensor(gate);
        };
        const Tensor tensor = columns();
        QVERIFY(tensor.outlierColumns);
        for (int32_t planted : {5, 37, 69})
            QVERIFY(std::ranges::count(*tensor.outlierColumns, planted) == 1);
        QVERIFY(tensor.outlierCount() <= tensor.cols / 32);
        made.outlierThreshold = 1e6f;
        QVERIFY(!columns().outlierColumns);
        QVERIFY_EXCEPTION_THROWN(Quantizer(*planted(), made).tensor(gate), Error);
    }

    /// With float weights (nothing to round) folded scales must cancel.
    void foldedScalesCancel() {
        Recipe folded = recipe("int8_g32", "awq", "float");
        Quantizer quantizer(*planted(), folded, calibrationOf(planted()));
        bool scaled = false;
        for (const TensorKey key : planted()->keys()) {
            if (key.layer != 2 || !isMatrix(key.role))
                continue;
            const Tensor made = quantizer.tensor(key);
            const std::vector<float> base = decode(planted()->load(key));
            const std::vector<float> back = decode(quantizer.inBaseScale(key, made));
            scaled |= decode(made) != back;
            double difference = 0, power = 0;
            for (size_t i = 0; i < base.size(); ++i) {
                difference += std::pow(double(base[i]) - double(back[i]), 2);
                power += std::pow(double(base[i]), 2);
            }
            QVERIFY2(difference < 1e-3 * power, tensorName(key).c_str());
        }
        QVERIFY(scaled);
    }
};

QTEST_APPLESS_MAIN(TestMethods)
#include "test_methods.moc"
