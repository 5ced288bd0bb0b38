#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/model/names.h"
#include "core/quant/recipe.h"

#include "core/base/mapped_file.h"

#include <QTest>

using namespace nibble;

namespace {

constexpr TensorKey kEmbedding{Role::TokenEmbedding, -1}, kHead{Role::Output, -1};

TensorKey layer(Role role, int32_t index = 0) {
    return {role, index};
}

/// Rows of 64 and 160: groups of 128 divide neither, groups of 64 only the first.
const Model& tiny() {
    static const auto model = makeSyntheticModel("tiny");
    return *model;
}

Recipe all(const char* format, const char* activations = "float") {
    Recipe recipe;
    recipe.rules.push_back(
        {.match = "*", .format = format, .method = "rtn", .activations = activations});
    return recipe;
}

std::string refusal(std::string_view json) {
    try {
        Recipe::fromJson(json, "mine.json");
    } catch (const Error& error) {
        return error.exitCode() == 3 ? error.what() : "another exit code";
    }
    return "accepted";
}

} // namespace

class TestRecipe : public QObject {
    Q_OBJECT
private slots:
    void choosableFormatsFitTheRow() {
        double last = 0;
        for (const Format* format : choosableFormats(96)) { // 96 is 3 · 32
            QVERIFY(format->group == 0 || 96 % format->group == 0);
            QVERIFY(format->bitsPerWeight(96) >= last);
            last = format->bitsPerWeight(96);
        }
        const auto offers = [](const char* name, int64_t cols) {
            const auto all = choosableFormats(cols);
            return std::find(all.begin(), all.end(), findFormat(name)) != all.end();
        };
        QVERIFY(offers("int4_g32", 96) && offers("int8", 96) && offers("f16", 96));
        QVERIFY(!offers("int4_g64", 96) && offers("int4_g64", 128));
        QVERIFY(!offers("tq1_0", 256)); // no method makes it
    }
    void lastMatchingRuleWins() {
        Recipe recipe = all("int8", "int8_token");
        recipe.rules.push_back({.match = "blk.*.ffn_down", .format = "q8_0", .method = "rtn"});
        recipe.rules.push_back({.match = "blk.1.*", .format = "q4_0", .method = "rtn"});
        const auto format = [&](TensorKey key) {
            return std::string(recipe.choose(tiny(), key).format->name);
        };
        QCOMPARE(format(layer(Role::Down, 0)), std::string("q8_0"));
        QCOMPARE(format(layer(Role::Down, 1)), std::string("q4_0"));
        QCOMPARE(format(layer(Role::Query, 0)), std::string("int8"));
        QCOMPARE(format(kEmbedding), std::string("int8"));
        QVERIFY(recipe.choose(tiny(), layer(Role::Query, 0)).activations ==
                ActivationFormat::Int8Token);
    }
    void vectorsAreAlwaysSingle() {
        for (const Role role : {Role::AttentionNorm, Role::FeedForwardNorm}) {
            const TensorChoice choice = all("q4_0", "int8").choose(tiny(), layer(role));
            QCOMPARE(choice.format, &getFormat("f32"));
            QVERIFY(choice.activations == ActivationFormat::Float);
        }
    }
    void withoutRuleOrFormatTheBaseIsKept() {
        QVERIFY(Recipe{}.choose(tiny(), kHead) == TensorChoice{});
        const TensorChoice kept = all("", "int8").choose(tiny(), kHead);
        QVERIFY(kept.format == nullptr);
        QVERIFY(kept.activations == ActivationFormat::Float); // the base's weights are floats
    }
    void groupsThatDoNotDivideFallBack_data() {
        QTest::addColumn<QString>("wanted");
        QTest::addColumn<QString>("of64");
        QTest::addColumn<QString>("of160");
        QTest::newRow("int4_g128") << "int4_g128"
                                   << "int4_g64"
                                   << "int4_g32";
        QTest::newRow("int4_g64z") << "int4_g64z"
                                   << "int4_g64z"
                                   << "int4_g32z";
        QTest::newRow("int8_g128") << "int8_g128"
                                   << "int8_g64"
                                   << "int8_g32";
        QTest::newRow("int8") << "int8"
                              << "int8"
                              << "int8";
        QTest::newRow("q4_0") << "q4_0"
                              << "q4_0"
                              << "q4_0";
        for (const auto& [wanted, instead] : {std::pair("q6_k", "q8_0"),
                                              {"q5_k", "q5_1"},
                                              {"q4_k", "q5_0"},
                                              {"q3_k", "iq4_nl"},
                                              {"q2_k", "iq4_nl"},
                                              {"iq4_xs", "iq4_nl"}})
            QTest::newRow(wanted) << wanted << instead << instead;
        QTest::newRow("nf4_dq") << "nf4_dq"
                                << "nf4"
                                << "iq4_nl";
    }
    void groupsThatDoNotDivideFallBack() {
        QFETCH(QString, wanted);
        QFETCH(QString, of64);
        QFETCH(QString, of160);
        const Recipe recipe = all(wanted.toUtf8().constData(), "int8");
        QCOMPARE(QString(recipe.choose(tiny(), layer(Role::Query)).format->name), of64);
        const TensorChoice down = recipe.choose(tiny(), layer(Role::Down));
        QCOMPARE(QString(down.format->name), of160);
        if (down.format->isFloat())
            QVERIFY(down.activations == ActivationFormat::Float);
    }
    void activationBlocksThatDoNotDivideBecomeOnePerToken() {
        const Recipe recipe = all("q8_0", "int8_64");
        QVERIFY(recipe.choose(tiny(), layer(Role::Query)).activations ==
                ActivationFormat::Int8Block64);
        QVERIFY(recipe.choose(tiny(), layer(Role::Down)).activations ==
                ActivationFormat::Int8Token);
    }
    void unknownNamesAreUsageErrors() {
        QVERIFY_EXCEPTION_THROWN(all("int5_g7").choose(tiny(), kHead), Error);
        QVERIFY_EXCEPTION_THROWN(all("q8_0", "int9").choose(tiny(), kHead), Error);
        Recipe recipe = all("q8_0");
        recipe.rules[0].method = "magic";
        QVERIFY_EXCEPTION_THROWN(recipe.choose(tiny(), kHead), Error);
        QVERIFY_EXCEPTION_THROWN(levelRecipe("int3", tiny()), Error);
    }
    void setReplacesTheRuleOfOneTensor() {
        Recipe recipe = all("int8");
        recipe.set(layer(Role::Down, 1), {.match = "", .format = "q4_0", .method = "rtn"});
        recipe.set(layer(Role::Down, 1), {.match = "", .format = "q8_0", .method = "rtn"});
        QCOMPARE(recipe.rules.size(), size_t(2));
        QCOMPARE(recipe.choose(tiny(), layer(Role::Down, 1)).format, &getFormat("q8_0"));
        QCOMPARE(recipe.choose(tiny(), layer(Role::Down, 0)).format, &getFormat("int8"));
    }
    void jsonRoundTrips() {
        for (const Level& level : levels()) {
            Recipe recipe = level.make(tiny());
            recipe.name = "quotes \" and ünïcode \n";
            recipe.vFormat = KvFormat::Int4;
            const Recipe back = Recipe::fromJson(recipe.toJson(), "x");
            QVERIFY(back == recipe);
            QCOMPARE(back.hash(), recipe.hash());
            recipe.rules.front().activations = "int8_64";
            QVERIFY(back.hash() != recipe.hash());
        }
    }
    /// A field of the recipe, in whose choices it counts where something has a threshold.
    void theOutlierThresholdIsAdjustable() {
        Recipe recipe = levelRecipe("llm_int8", tiny());
        QCOMPARE(recipe.choose(tiny(), layer(Role::Up)).outlierThreshold, 6.0f);
        QVERIFY(recipe.toJson().find("outlier_threshold") == std::string::npos);
        const Recipe plain = recipe;
        recipe.outlierThreshold = 4.5f;
        QVERIFY(recipe.hash() != plain.hash());
        QVERIFY(Recipe::fromJson(recipe.toJson(), "x") == recipe);
        QVERIFY(recipe.choose(tiny(), layer(Role::Up)) != plain.choose(tiny(), layer(Role::Up)));
        QVERIFY(recipe.choose(tiny(), kHead) == plain.choose(tiny(), kHead));
    }
    /// What a calibration says, or else the most that there may be.
    void outlierColumnsCountInTheSize() {
        const TensorKey up = layer(Role::Up);
        Recipe recipe;
        recipe.rules.push_back({.match = "*", .format = "int8", .method = "llm_int8"});
        Calibration calibration;
        InputStatistics& inputs = calibration.inputs[inputKey(up)];
        const auto cols = static_cast<size_t>(tiny().get(up).cols());
        inputs.tokens = 10;
        inputs.meanSquare.assign(cols, 1.0f);
        inputs.meanAbs.assign(cols, 1.0f);
        inputs.absMax.assign(cols, 1.0f);
        const uint64_t rows = static_cast<uint64_t>(tiny().get(up).rows());
        const uint64_t none = recipeBytes(tiny(), recipe, up, &calibration);
        const uint64_t most = recipeBytes(tiny(), recipe, up);
        QCOMPARE(most - none, (cols + 31) / 32 * (2 * rows + 4));
        inputs.absMax[3] = 7;
        const uint64_t one = recipeBytes(tiny(), recipe, up, &calibration);
        QCOMPARE(one - none, 2 * rows + 4);
        const auto kept = std::make_shared<const Calibration>(calibration);
        QCOMPARE(variantTensor(tiny(), recipe, up, {}, kept).planeBytes(), one);
        inputs.absMax.assign(cols, 9.0f);
        QCOMPARE(recipeBytes(tiny(), recipe, up, &calibration), most);
        QVERIFY(recipeSize(tiny(), recipe).isUpperBound);
        recipe.rules.front().method = "rtn";
        QVERIFY(!recipeSize(tiny(), recipe).isUpperBound);
        QCOMPARE(recipeFileBytes(tiny(), recipe, up), none);
    }
    void jsonIsRefusedByField_data() {
        QTest::addColumn<QByteArray>("json");
        QTest::addColumn<QByteArray>("says");
        QTest::newRow("no json") << QByteArray("{") << QByteArray("not valid JSON");
        QTest::newRow("array") << QByteArray("[]") << QByteArray("object");
        QTest::newRow("no rules") << QByteArray("{}") << QByteArray("rules");
        QTest::newRow("unknown key")
            << QByteArray(R"({"rules":[],"extra":1})") << QByteArray("extra");
        QTest::newRow("rule is text") << QByteArray(R"({"rules":["*"]})") << QByteArray("rules[0]");
        QTest::newRow("no match") << QByteArray(R"({"rules":[{"format":"f16"}]})")
                                  << QByteArray("rules[0].match");
        QTest::newRow("unknown rule key")
            << QByteArray(R"({"rules":[{"match":"*"},{"match":"*","bits":4}]})")
            << QByteArray("rules[1].bits");
        QTest::newRow("unknown format") << QByteArray(R"({"rules":[{"match":"*","format":"q9"}]})")
                                        << QByteArray("rules[0].format");
        QTest::newRow("format of another method")
            << QByteArray(R"({"rules":[{"match":"*","format":"tq2_0"}]})")
            << QByteArray("rules[0].format");
        QTest::newRow("unknown method") << QByteArray(R"({"rules":[{"match":"*","method":"x"}]})")
                                        << QByteArray("rules[0].method");
        QTest::newRow("number for text")
            << QByteArray(R"({"rules":[{"match":4}]})") << QByteArray("rules[0].match");
        QTest::newRow("unknown activations")
            << QByteArray(R"({"rules":[{"match":"*","activations":"int7"}]})")
            << QByteArray("rules[0].activations");
        for (const char* threshold : {"0", "-1", "1e99", "\"6\"", "null"})
            QTest::addRow("threshold %s", threshold)
                << QByteArray(R"({"rules":[],"outlier_threshold":)") + threshold + "}"
                << QByteArray("outlier_threshold");
        QTest::newRow("unknown kv") << QByteArray(R"({"rules":[],"k":"f8"})") << QByteArray("k ");
        QTest::newRow("key twice")
            << QByteArray(R"({"rules":[],"rules":[]})") << QByteArray("twice");
        QTest::newRow("deep") << QByteArray(200, '[') << QByteArray("deeper");
    }
    void jsonIsRefusedByField() {
        QFETCH(QByteArray, json);
        QFETCH(QByteArray, says);
        const std::string reason = refusal(json.toStdString());
        QVERIFY2(reason.find(says.toStdString()) != std::string::npos, reason.c_str());
        QVERIFY2(reason.find("mine.json") != std::string::npos, reason.c_str());
    }
    void everyPrefixOfARecipeIsRefused() {
        std::string json = levelRecipe("int4", tiny()).toJson();
        json.erase(json.find_last_of('}') + 1);
        for (size_t length = 0; length < json.size(); ++length)
            QVERIFY(refusal(json.substr(0, length)) != "accepted");
        QCOMPARE(refusal(json), std::string("accepted"));
    }
    void shippedRecipesAreRead() {
        int count = 0;
        for (const auto& entry : std::filesystem::directory_iterator(resourcePath("recipes"))) {
            const Recipe recipe =
                Recipe::fromJson(readTextFile(entry.path(), 1 << 20), entry.path().string());
            QCOMPARE(recipe.name, entry.path().stem().string());
            QVERIFY(recipe.choose(tiny(), layer(Role::Query)).format->bits <= 8);
            ++count;
        }
        QVERIFY(count >= 3);
    }
    void sizesAreThoseOfTheTensors() {
        for (const Level& level : levels()) {
            Recipe recipe = level.make(tiny());
            for (RecipeRule& rule : recipe.rules) { // sizes do not depend on how codes are chosen
                rule.method = "rtn";
                rule.activations = "float";
            }
            uint64_t stored = 0, resident = 0;
            int64_t values = 0;
            for (const TensorKey key : tiny().keys()) {
                const Tensor tensor = variantTensor(tiny(), recipe, key);
                stored += tensor.storedBytes();
                resident += tensor.planeBytes();
                values += tensor.values();
                QCOMPARE(recipeBytes(tiny(), recipe, key), tensor.planeBytes());
            }
            const RecipeSize size = recipeSize(tiny(), recipe);
            QCOMPARE(size.bytes, stored);
            QCOMPARE(size.residentBytes, resident);
            QCOMPARE(size.bitsPerWeight, double(stored) * 8 / double(values));
        }
    }
    void levelsDescribeThemselves() {
        const auto model = makeSyntheticModel("100m"); // rows that every format divides
        for (const Level& level : levels()) {
            const Recipe recipe = level.make(*model);
            QCOMPARE(recipe.name, std::string(level.name));
            const TensorChoice main = recipe.choose(*model, layer(Role::Up));
            QCOMPARE(formatGlyph(*main.format, main.method->name), std::string(level.glyph));
            QVERIFY(std::string_view(level.about).ends_with('.'));
        }
        QCOMPARE(formatGlyph(getFormat("q6_k"), "rtn"), std::string("K6"));
        QCOMPARE(formatGlyph(getFormat("iq4_xs"), "rtn"), std::string("Q4"));
        QCOMPARE(formatGlyph(getFormat("nf4_dq"), "rtn"), std::string("F4"));
        QCOMPARE(formatGlyph(getFormat("int4_g64_s8"), "rtn"), std::string("I4"));
    }
    void mixesOfTwelveLayers_data() {
        QTest::addColumn<QString>("values");
        QTest::addColumn<QString>("down");
        QTest::addColumn<QString>("output");
        QTest::addColumn<QString>("others");
        QTest::addColumn<QString>("embedding");
        // A digit a layer: twelve layers, one of which is the first eighth; the last eighth starts
        // at 10, and every third from 3 gets more bits.
        const auto row = [](const char* level, const char* values, const char* down,
                            const char* output, const char* others, const char* embedding) {
            QTest::newRow(level) << values << down << output << others << embedding;
        };
        row("q6_k", "666666666666", "666666666666", "666666666666", "666666666666", "q6_k");
        row("q5_k_m", "655655655666", "655655655666", "555555555555", "555555555555", "q5_k");
        row("q4_k_m", "644644644666", "644644644666", "444444444444", "444444444444", "q4_k");
        row("q4_k_s", "555544444444", "544444444444", "444444444444", "444444444444", "q4_k");
        row("q3_k_m", "554444444444", "444444444444", "444444444444", "333333333333", "q3_k");
        row("q2_k", "333333333333", "333333333333", "333333333333", "222222222222", "q2_k");
    }
    void mixesOfTwelveLayers() {
        QFETCH(QString, values);
        QFETCH(QString, down);
        QFETCH(QString, output);
        QFETCH(QString, others);
        QFETCH(QString, embedding);
        const auto model = makeSyntheticModel("100m");
        QCOMPARE(model->config.layers, 12);
        const Recipe recipe = levelRecipe(QTest::currentDataTag(), *model);
        const auto digits = [&](Role role) {
            QString all;
            for (int32_t i = 0; i < model->config.layers; ++i) {
                const TensorChoice choice = recipe.choose(*model, layer(role, i));
                all += QString::number(choice.format->bits);
                if (!std::string_view(choice.format->name).ends_with("_k"))
                    return QString(choice.format->name);
            }
            return all;
        };
        QCOMPARE(digits(Role::Value), values);
        QCOMPARE(digits(Role::Down), down);
        QCOMPARE(digits(Role::AttentionOutput), output);
        for (const Role role : {Role::Query, Role::Key, Role::Gate, Role::Up})
            QCOMPARE(digits(role), others);
        QCOMPARE(QString(recipe.choose(*model, kEmbedding).format->name), embedding);
        QCOMPARE(QString(recipe.choose(*model, kHead).format->name), QString("q6_k"));
    }
    void sharedValueHeadsAndTiedEmbeddingsGetMore() {
        Model model = *makeSyntheticModel("100m");
        const auto format = [&](const char* level, TensorKey key) {
            return std::string(levelRecipe(level, model).choose(model, key).format->name);
        };
        model.config.kvHeads = model.config.heads;
        QCOMPARE(format("iq4_xs", layer(Role::Value)), std::string("iq4_xs"));
        QCOMPARE(format("iq4_xs", layer(Role::Down)), std::string("q5_k"));
        QCOMPARE(format("iq4_xs", layer(Role::Down, 1)), std::string("iq4_xs"));
        QCOMPARE(format("q2_k", layer(Role::Value)), std::string("q3_k"));
        model.config.kvHeads = model.config.heads / 4;
        QCOMPARE(format("iq4_xs", layer(Role::Value)), std::string("q5_k"));
        QCOMPARE(format("q2_k", layer(Role::Value)), std::string("q4_k"));
        QCOMPARE(format("q4_k_m", kEmbedding), std::string("q4_k"));
        model.config.tiedEmbedding = true;
        QCOMPARE(format("q4_k_m", kEmbedding), std::string("q6_k"));
    }
    void baseTensorsAreKeptWhereTheFormatIsTheSame() {
        const Tensor base = tiny().load(kHead);
        const Tensor kept = variantTensor(tiny(), levelRecipe("f16", tiny()), kHead);
        QVERIFY(std::ranges::equal(base.codes.view(), kept.codes.view()));
    }
};

QTEST_GUILESS_MAIN(TestRecipe)
#include "test_recipe.moc"
