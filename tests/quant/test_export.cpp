#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/heap.h"
#include "core/base/random.h"
#include "core/model/names.h"
#include "core/quant/apply.h"
#include "core/quant/quantizer.h"
#include "tests/support/shared_data.h"

#include <QTemporaryDir>
#include <QTest>
#include <fstream>
#include <limits>
#include <mutex>
#include <unistd.h>

using namespace nibble;

namespace {

Recipe all(const char* format) {
    Recipe recipe;
    recipe.name = format;
    recipe.rules.push_back({.match = "*", .format = format, .method = "rtn"});
    return recipe;
}

bool samePlanes(const Tensor& a, const Tensor& b) {
    const auto same = [](const Bytes& x, const Bytes& y) {
        return std::ranges::equal(x.view(), y.view());
    };
    return a.format == b.format && a.rows == b.rows && a.cols == b.cols && same(a.codes, b.codes) &&
           same(a.scales, b.scales) && same(a.offsets, b.offsets);
}

std::vector<float> logits(const std::shared_ptr<const Model>& model) {
    RunOptions options;
    options.placement = placeAll(*model, openCpu());
    options.context = 64;
    options.kFormat = options.vFormat = KvFormat::F32;
    Runner runner(model, options);
    applyRecipe(runner, Recipe{});
    Session session = runner.newSession();
    std::vector<TokenId> tokens;
    Random random(3);
    for (int i = 0; i < 40; ++i)
        tokens.push_back(
            static_cast<TokenId>(random.next() % static_cast<uint64_t>(model->config.vocabulary)));
    return runner.append(session, tokens, true);
}

/// Writes a model and reads it again.
class Round {
public:
    std::shared_ptr<const Model> trip(const Model& model, const Recipe& recipe) {
        exportGguf(model, recipe, path());
        return openModel(path());
    }
    std::filesystem::path path() const { return m_folder.path().toStdString() + "/out.gguf"; }
    std::filesystem::path folder() const { return m_folder.path().toStdString(); }

private:
    QTemporaryDir m_folder;
};

/// A line of /proc/self/status; 0 when it is not there.
int64_t kilobytes(const std::string& name) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (int64_t value = 0; word == name && status >> value)
            return value;
    return 0;
}

int64_t filesIn(const std::filesystem::path& folder) {
    return std::distance(std::filesystem::directory_iterator(folder), {});
}

} // namespace

class TestExport : public QObject {
    Q_OBJECT
private slots:
    void reopenedTensorsAreIdentical_data() {
        QTest::addColumn<QString>("format");
        QTest::addColumn<int>("fileType");
        QTest::newRow("f16") << "f16" << 1;
        QTest::newRow("q8_0") << "q8_0" << 7;
        QTest::newRow("q4_0") << "q4_0" << 2;
        QTest::newRow("q4_1") << "q4_1" << 3;
        QTest::newRow("f32") << "f32" << 0;
        QTest::newRow("q5_0") << "q5_0" << 8;
    }
    void reopenedTensorsAreIdentical() {
        QFETCH(QString, format);
        QFETCH(int, fileType);
        const auto model = makeSyntheticModel("tiny");
        const Recipe recipe = all(format.toUtf8().constData());
        Round round;
        const auto back = round.trip(*model, recipe);
        QCOMPARE(back->keys().size(), model->keys().size());
        for (const TensorKey key : model->keys())
            QVERIFY(samePlanes(back->load(key), variantTensor(*model, recipe, key)));
        const Metadata& m = back->checkpoint->metadata;
        QCOMPARE(m.getInteger("general.file_type"), int64_t(fileType));
        QCOMPARE(m.getInteger("general.quantization_version"), int64_t(2));
        QCOMPARE(m.getInteger("llama.block_count"), int64_t(2));
        QVERIFY(m.stringOr("general.name", "").find(format.toStdString()) != std::string::npos);
        QCOMPARE(filesIn(round.folder()), int64_t(2)); // and its receipt
    }
    void aGgufKeepsItsVocabularyAndWords() {
        NIBBLE_NEED_SHARED("models/stories260K-f32.gguf");
        const auto model = openModel(test::sharedPath("models/stories260K-f32.gguf"));
        Round round;
        const auto back = round.trip(*model, levelRecipe("q8_0", *model));
        QVERIFY(back->tokenizer);
        QCOMPARE(back->tokenizer->info().addBos, model->tokenizer->info().addBos);
        const std::string text = "Once upon a time, 7 cats — ünder a tree.";
        QCOMPARE(back->tokenizer->encode(text, false), model->tokenizer->encode(text, false));
        // 172 columns are no whole blocks, so those rows stay floats.
        QCOMPARE(std::string(back->get({Role::Down, 0}).type->name), std::string("f16"));
        QCOMPARE(std::string(back->get({Role::Up, 0}).type->name), std::string("q8_0"));
        for (const auto& [key, value] : model->checkpoint->metadata.entries)
            QVERIFY2(back->checkpoint->metadata.has(key), key.c_str());
    }
    void aFolderBecomesAFileThatRunsAlike() {
        NIBBLE_NEED_SHARED("models/TinyStories-656K");
        const auto model = openModel(test::sharedPath("models/TinyStories-656K"));
        Round round;
        // In f32 nothing but the order of q and k differs, so the logits differ by float32
        // rounding of reordered sums at most: 1e-5 is 84 units in the last place.
        const auto back = round.trip(*model, all("f32"));
        QCOMPARE(std::string(back->config.architecture), std::string("llama"));
        QVERIFY(back->config.ropeStyle == RopeStyle::Interleaved);
        QVERIFY(test::relativeError(logits(back), logits(model)) < 1e-5);
        const std::string text = "Once upon a time, Lily said \"hi\".";
        QCOMPARE(back->tokenizer->encode(text, false), model->tokenizer->encode(text, false));
        const auto q8 = round.trip(*model, levelRecipe("q8_0", *model));
        QCOMPARE(std::string(q8->get({Role::Query, 0}).type->name), std::string("q8_0"));
        const double error = test::relativeError(logits(q8), logits(model));
        QVERIFY2(error > 0 && error < 0.05, qPrintable(QString::number(error)));
    }
    void outlierColumnsAreRefusedByName() {
        const auto model = makeSyntheticModel("tiny");
        Recipe recipe = all("q8_0");
        recipe.rules.front().method = "llm_int8";
        try {
            Round().trip(*model, recipe);
            QFAIL("no error");
        } catch (const Error& error) {
            const std::string text = error.what();
            QVERIFY2(text.find("token_embd") != std::string::npos, text.c_str());
            QVERIFY2(text.find("outlier columns") != std::string::npos, text.c_str());
        }
        // And where a tensor with such columns comes from elsewhere.
        Tensor tensor = variantTensor(*model, all("q8_0"), {Role::Up, 0});
        tensor.outlierColumns =
            std::make_shared<const std::vector<int32_t>>(std::vector<int32_t>{1});
        QVERIFY_EXCEPTION_THROWN(toStoredBytes(tensor, *blockTypeOf(getFormat("q8_0"))), Error);
    }
    void formatsWithoutATypeAreNamed() {
        const auto model = makeSyntheticModel("tiny");
        Round round;
        try {
            exportGguf(*model, all("int6_g32z"), round.path());
            QFAIL("int6_g32z has no GGUF type");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 2);
            const std::string text = error.what();
            for (const char* word : {"token_embd.weight", "int6_g32z", "q4_k_m", "nibble4_gguf"})
                QVERIFY2(text.find(word) != std::string::npos, text.c_str());
        }
        QCOMPARE(filesIn(round.folder()), int64_t(0));
    }
    /// Groups of 32 with an f16 scale are what blocks of files are: nothing is rounded again.
    void formatsThatFilesNameOtherwiseKeepTheirCodes_data() {
        QTest::addColumn<QString>("format");
        QTest::addColumn<QString>("type");
        QTest::newRow("int8_g32") << "int8_g32"
                                  << "q8_0";
        QTest::newRow("int4_g32") << "int4_g32"
                                  << "q4_0";
        QTest::newRow("int5_g32") << "int5_g32"
                                  << "q5_0";
    }
    void formatsThatFilesNameOtherwiseKeepTheirCodes() {
        QFETCH(QString, format);
        QFETCH(QString, type);
        const auto model = makeSyntheticModel("tiny");
        const Recipe recipe = all(format.toUtf8().constData());
        Round round;
        const auto back = round.trip(*model, recipe);
        for (const TensorKey key : model->keys()) {
            const Tensor made = variantTensor(*model, recipe, key), got = back->load(key);
            if (isMatrix(key.role))
                QCOMPARE(QString(got.format->name), type);
            QVERIFY(std::ranges::equal(got.codes.view(), made.codes.view()));
            QVERIFY(std::ranges::equal(got.scales.view(), made.scales.view()));
            QVERIFY(decode(got) == decode(made));
        }
        for (const char* other : {"int4_g64", "int4_g32z", "int4_g32_s8", "int4_g32_f32", "int8"})
            QVERIFY2(!blockTypeHolding(getFormat(other)), other);
    }
    void theNameSaysOneLevel() {
        const auto model = makeSyntheticModel("tiny");
        const auto named = [&](const char* name) {
            Recipe recipe = all("q8_0");
            recipe.name = name;
            return recipe;
        };
        Round first, second, third;
        const auto once = first.trip(*model, named("q4_k_m"));
        const auto twice = second.trip(*once, named("my own"));
        const auto thrice = third.trip(*twice, named("iq4_xs"));
        QCOMPARE(once->name, model->name + " q4_k_m");
        QCOMPARE(twice->name, model->name + " my own");
        QCOMPARE(thrice->name, model->name + " iq4_xs");
    }
    void theBaseIsNeverOverwritten() {
        const auto model = makeSyntheticModel("tiny");
        Round round;
        const auto base = round.trip(*model, all("f16"));
        const auto size = std::filesystem::file_size(round.path());
        QVERIFY_EXCEPTION_THROWN(exportGguf(*base, all("q4_0"), round.path()), Error);
        QCOMPARE(std::filesystem::file_size(round.path()), size);
    }
    void aFullDiskLeavesNothing() {
        if (!std::filesystem::exists("/dev/full"))
            QSKIP("no /dev/full here");
        const auto model = makeSyntheticModel("tiny");
        Round round;
        // The temporary lies beside the target; a link to /dev/full stands in for a full disk.
        std::filesystem::create_symlink("/dev/full", round.path().string() + ".part-" +
                                                         std::to_string(getpid()));
        try {
            exportGguf(*model, all("q8_0"), round.path());
            QFAIL("writing to a full disk must throw");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 4);
        }
        QCOMPARE(filesIn(round.folder()), int64_t(0));
    }
    void cancellingLeavesNothing() {
        const auto model = makeSyntheticModel("tiny");
        Round round;
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(false);
        progress.onReport = [&](double done, double, std::string_view) {
            if (done >= 5)
                *progress.cancel = true;
        };
        try {
            exportGguf(*model, all("q8_0"), round.path(), progress);
            QFAIL("a cancelled export must throw");
        } catch (const Error& error) {
            QVERIFY(error.kind() == ErrorKind::Cancelled);
        }
        QCOMPARE(filesIn(round.folder()), int64_t(0));
    }
    /// A model larger than memory goes from disk to disk: what is held does not grow with the file.
    void theFilePassesThroughMemory() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        QSKIP("sanitizers keep freed memory");
#endif
        Round round;
        exportGguf(*makeSyntheticModel("100m"), all("f16"), round.path());
        const auto model = openModel(round.path());
        for (const char* format : {"q8_0", "q4_k"}) {
            Recipe recipe = all(format);
            for (const Role role : {Role::TokenEmbedding, Role::Output})
                recipe.set({role, -1}, {.match = "", .format = "f16"});
            const auto out = round.folder() / "small.gguf";
            returnFreedMemory();
            const int64_t before = kilobytes("RssAnon:"), mapped = kilobytes("RssFile:");
            if (before == 0)
                QSKIP("this kernel does not say how much memory is anonymous");
            int64_t most = 0, mostMapped = 0;
            Progress progress;
            progress.onReport = [&](double, double, std::string_view) {
                most = std::max(most, kilobytes("RssAnon:") - before);
                mostMapped = std::max(mostMapped, kilobytes("RssFile:") - mapped);
            };
            exportGguf(*model, recipe, out, progress);
            // The layers' 84 matrices make 90 or 48 MB; each has at most 1.6 million values. The
            // embedding and the head of 49 MB are mapped one after the other.
            QVERIFY2(most < 16'000, qPrintable(QString::number(most)));
            QVERIFY2(mostMapped < 120'000, qPrintable(QString::number(mostMapped)));
        }
    }
    void notANumberInTheBaseIsNamed() {
        // A file whose weights hold one NaN.
        const auto model = makeSyntheticModel("tiny");
        Round round;
        exportGguf(*model, all("f16"), round.path());
        std::vector<GgufTensor> table;
        const auto good = openModel(round.path());
        for (const TensorInfo& info : good->checkpoint->tensors)
            table.push_back({info.name, info.dims, info.type, info.bytes.size()});
        const auto bad = round.folder() / "bad.gguf";
        writeGguf(bad, good->checkpoint->metadata, table, [&](size_t index) {
            const TensorInfo& info = good->checkpoint->tensors[index];
            std::vector<std::byte> bytes(info.bytes.view().begin(), info.bytes.view().end());
            if (info.name == "blk.1.ffn_up.weight") {
                const size_t at = (3 * 64 + 5) * 2; // row 3, column 5
                bytes[at] = std::byte(0x00);
                bytes[at + 1] = std::byte(0x7e);
            }
            return Bytes::of(std::move(bytes));
        });
        try {
            exportGguf(*openModel(bad), all("q8_0"), round.folder() / "never.gguf");
            QFAIL("a NaN must be refused");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 3);
            const std::string text = error.what();
            QVERIFY(text.find("blk.1.ffn_up.weight") != std::string::npos);
            QVERIFY(text.find("row 3, column 5") != std::string::npos);
        }
        QVERIFY(!std::filesystem::exists(round.folder() / "never.gguf"));
    }
    /// Matrices are written in parts; of this one, rows of 2048 values make 32 a part.
    void partsAreTheWhole() {
        Round round;
        exportGguf(*makeSyntheticModel("100m"), all("f16"), round.path());
        const auto model = openModel(round.path());
        const TensorKey key{Role::Down, 3};
        for (const char* format : {"q4_0", "q5_0", "q8_0", "mxfp4", "q4_k"}) {
            const Recipe recipe = all(format);
            const auto out = round.folder() / "parts.gguf";
            exportGguf(*model, recipe, out);
            const auto back = openModel(out);
            const TensorInfo& written = back->get(key);
            QVERIFY(std::ranges::equal(
                written.bytes.view(),
                toStoredBytes(Quantizer(*model, recipe).tensor(key), *written.type).view()));
            int parts = 0;
            std::mutex mutex;
            QVERIFY(Quantizer(*model, recipe).tensorInParts(key, [&](int64_t, const Tensor& part) {
                const std::scoped_lock lock(mutex);
                QVERIFY(part.rows <= 32);
                ++parts;
            }));
            QCOMPARE(parts, 24);
        }
        // What is kept, or needs the whole matrix, is no work for parts.
        QVERIFY(!Quantizer(*model, all("f16")).tensorInParts(key, {}));
    }
    void partsNameTheRowOfTheMatrix() {
        const auto values = [](int64_t begin, int64_t end, float* out) {
            std::fill(out, out + (end - begin) * 32, std::numeric_limits<float>::quiet_NaN());
        };
        try {
            quantize({.name = "m", .rows = 4, .cols = 32, .firstRow = 96, .values = values},
                     getFormat("q4_0"), getMethod("rtn"));
            QFAIL("a NaN must be refused");
        } catch (const Error& error) {
            QVERIFY(std::string(error.what()).find("row 96, column 0") != std::string::npos);
        }
    }
    void onlyWhatDiffersIsApplied() {
        const auto model = makeSyntheticModel("tiny");
        RunOptions options;
        options.placement = placeAll(*model, openCpu());
        options.context = 64;
        Runner runner(model, options);
        const Recipe first = levelRecipe("q8_0", *model);
        QCOMPARE(applyRecipe(runner, first), int(model->keys().size()));
        QCOMPARE(applyRecipe(runner, first, &first), 0);
        Recipe second = first;
        second.set({Role::Down, 1}, {.match = "", .format = "q4_0", .method = "rtn"});
        QCOMPARE(applyRecipe(runner, second, &first), 1);
        for (const PathReport& path : runner.paths())
            if (path.key == TensorKey{Role::Down, 1})
                QCOMPARE(path.format, std::string("q4_0"));
    }
};

QTEST_GUILESS_MAIN(TestExport)
#include "test_export.moc"
