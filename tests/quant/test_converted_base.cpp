#include "core/model/names.h"
#include "core/quant/apply.h"
#include "tests/support/block_model.h"
#include "tests/support/shared_data.h"

#include <QTemporaryDir>
#include <QTest>
#include <fstream>

using namespace nibble;
using test::BlockShape;

namespace {

constexpr float kFactor = 0.0123f;

Recipe all(const char* format) {
    Recipe recipe;
    recipe.name = format;
    recipe.rules.push_back({.match = "*", .format = format, .method = "rtn"});
    return recipe;
}

/// On the scalar kernels, which add up in double.
std::unique_ptr<Runner> running(const std::shared_ptr<const Model>& model) {
    RunOptions options;
    options.placement = placeAll(*model, openCpu(CpuMode::Scalar));
    options.context = 64;
    options.kFormat = options.vFormat = KvFormat::F32;
    auto runner = std::make_unique<Runner>(model, options);
    applyRecipe(*runner, Recipe{});
    return runner;
}

std::vector<float> logits(const std::shared_ptr<const Model>& model) {
    const auto runner = running(model);
    Session session = runner->newSession();
    return runner->append(session, std::vector<TokenId>{3, 14, 15, 9, 26, 53}, true);
}

constexpr TensorKey kDown{Role::Down, 0};

} // namespace

/// Bases whose tensors run as something else than they are stored as: lattices, and NVFP4 with its
/// second scale.
class TestConvertedBase : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;

    std::filesystem::path at(const char* name) const {
        return std::filesystem::path(m_folder.path().toStdString()) / name;
    }
    std::shared_ptr<const Model> base(const BlockShape& shape, float factor = 0) {
        std::ofstream(at("base.gguf"), std::ios::binary) << test::blockModel(shape, factor);
        auto model = openModel(at("base.gguf"));
        model->requireRunnable();
        return model;
    }
    std::shared_ptr<const Model> exported(const Model& model, const Recipe& recipe) {
        exportGguf(model, recipe, at("out.gguf"));
        return openModel(at("out.gguf"));
    }

private slots:
    void latticesRunAsHalves() {
        for (const BlockShape& shape : {test::kIq3_s, test::kIq2_xxs}) {
            const auto model = base(shape);
            const char* name = model->get(kDown).type->name;
            QCOMPARE(model->get(kDown).storedText(), std::string(name) + ", runs as f16");
            const auto paths = running(model)->paths();
            QVERIFY(!paths.empty());
            for (const PathReport& path : paths) {
                QCOMPARE(path.stored, std::string(name));
                QCOMPARE(path.format, std::string("f16"));
            }
            const RecipeSize size = recipeSize(*model, {});
            QVERIFY(size.bitsPerWeight < 4);
            QVERIFY(size.residentBytes > 4 * size.bytes);
            // A file of the decoded values is the same model.
            const auto halves = exported(*model, all("f16"));
            QCOMPARE(std::string(halves->get(kDown).type->name), std::string("f16"));
            QVERIFY(logits(halves) == logits(model));
        }
    }
    void levelsAreMadeFromTheDecodedValues() {
        const auto model = base(test::kIq3_s);
        const Recipe recipe = all("q8_0");
        const auto q8 = exported(*model, recipe);
        for (const TensorKey key : model->keys())
            QVERIFY(decode(q8->load(key)) == decode(variantTensor(*model, recipe, key)));
        const double error = test::relativeError(logits(q8), logits(model));
        QVERIFY2(error > 0 && error < 0.1, qPrintable(QString::number(error)));
    }
    void whatStaysIsCopied() {
        const auto model = base(test::kIq3_s);
        const auto copy = exported(*model, {});
        QCOMPARE(std::string(copy->get(kDown).type->name), std::string("iq3_s"));
        QVERIFY(std::ranges::equal(copy->get(kDown).bytes.view(), model->get(kDown).bytes.view()));
        QCOMPARE(copy->checkpoint->metadata.getInteger("general.file_type"), 26);
        QVERIFY(logits(copy) == logits(model));
    }

    void factorsAreApplied() {
        const auto plain = base(test::kNvfp4);
        const auto unscaled = decode(plain->load(kDown));
        const auto model = base(test::kNvfp4, kFactor);
        QCOMPARE(model->parameters(), plain->parameters());
        const auto values = decode(model->load(kDown));
        for (size_t i = 0; i < values.size(); ++i) // two roundings, of the scale and of the value
            QVERIFY(std::abs(double(values[i]) - double(unscaled[i]) * double(kFactor)) <=
                    0x1p-23 * std::abs(double(values[i])));
        for (const auto paths = running(model)->paths(); const PathReport& path : paths) {
            QCOMPARE(path.stored, std::string("nvfp4"));
            QCOMPARE(path.format, std::string("nvfp4_f32"));
        }
        // The same values as plain f32: products differ by the order of their sums only.
        const auto floats = exported(*model, all("f32"));
        const double error = test::relativeError(logits(floats), logits(model));
        QVERIFY2(error < 1e-5, qPrintable(QString::number(error)));
    }
    void factorsStayOnlyBesideTheirWeights() {
        const auto model = base(test::kNvfp4, kFactor);
        const auto copy = exported(*model, {});
        QCOMPARE(copy->checkpoint->tensors.size(), model->checkpoint->tensors.size());
        QVERIFY(logits(copy) == logits(model));
        QCOMPARE(copy->checkpoint->metadata.getInteger("general.file_type"), 39);
        // What the base runs as cannot be written, but what it is stored as can.
        QVERIFY(logits(exported(*model, all("nvfp4_f32"))) == logits(model));

        const auto q8 = exported(*model, all("q8_0"));
        QCOMPARE(q8->checkpoint->tensors.size(), model->checkpoint->tensors.size() - 8);
        QVERIFY(q8->checkpoint->find("blk.0.ffn_down.scale") == nullptr);
        Recipe mixed;
        mixed.set(kDown, {.match = "", .format = "q8_0", .method = "rtn"});
        const auto one = exported(*model, mixed);
        QVERIFY(one->checkpoint->find("blk.0.ffn_down.scale") == nullptr);
        QVERIFY(one->checkpoint->find("blk.0.ffn_up.scale") != nullptr);
        QVERIFY(test::relativeError(logits(one), logits(model)) < 0.1);
    }
};

QTEST_GUILESS_MAIN(TestConvertedBase)
#include "test_converted_base.moc"
