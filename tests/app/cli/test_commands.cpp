// ctest: FIXTURES_REQUIRED=calibration COST=60
#include "tests/app/cli/cli_process.h"
#include "tests/support/block_model.h"
#include "tests/support/kept_calibration.h"
#include "tests/support/shared_data.h"

#include <QDir>
#include <QElapsedTimer>
#include <QFile>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QProcess>
#include <QRegularExpression>
#include <QTemporaryDir>
#include <QTest>
#include <csignal>
#include <sys/stat.h>
#include <unistd.h>

using namespace nibble::test;

namespace {

constexpr const char* kStories = "models/stories260K-f32.gguf";

QString stories() {
    return QString::fromStdString(nibble::test::sharedPath(kStories).string());
}

/// The one object on stdout, which must hold nothing else.
QJsonObject object(const Outcome& outcome) {
    return QJsonDocument::fromJson(outcome.out).object();
}

} // namespace

class TestCommands : public QObject {
    Q_OBJECT
private slots:
    void init() { m_folder = std::make_unique<QTemporaryDir>(); }

    void conversionsAtLoadAreTold() {
        write("iq3.gguf",
              QByteArray::fromStdString(nibble::test::blockModel(nibble::test::kIq3_s)));
        const Outcome table = cli({"inspect", path("iq3.gguf")});
        QVERIFY2(table.code == 0 && table.err.isEmpty(), table.all().constData());
        QVERIFY2(table.out.contains("8 of iq3_s run as f16"), table.out.constData());
        QVERIFY2(table.out.contains("iq3_s, runs as f16"), table.out.constData());
        const QJsonObject json = object(cli({"inspect", path("iq3.gguf"), "--json"}));
        QVERIFY(json["note"].toString().contains("iq3_s"));
        const QJsonObject tensor = json["tensors"].toArray()[0].toObject();
        QCOMPARE(tensor["type"].toString(), "iq3_s");
        QCOMPARE(tensor["runs_as"].toString(), "f16");
        // Commands that load the weights say it beside their answer.
        const Outcome made =
            cli({"quantize", path("iq3.gguf"), "-o", path("q8.gguf"), "--level", "q8_0", "--json"});
        QVERIFY2(made.code == 0 && made.err.contains("8 of iq3_s run as f16"),
                 made.all().constData());
        const Outcome after = cli({"inspect", path("q8.gguf")});
        QVERIFY2(!after.out.contains("run as"), after.out.constData());
    }

    void everyCommandGivesItsKeys_data() {
        QTest::addColumn<QStringList>("arguments");
        QTest::addColumn<QStringList>("keys");
        const QString model = stories(), out = "OUT";
        const QStringList cpu{"--device", "cpu"};
        QTest::newRow("devices") << QStringList{"devices"} << QStringList{"devices"};
        QTest::newRow("inspect") << QStringList{"inspect", model, "--weights"}
                                 << QStringList{"architecture", "config", "tensors"};
        QTest::newRow("inspect sample")
            << QStringList{"inspect", "sample"} << QStringList{"architecture", "config", "tensors"};
        QTest::newRow("tokenize") << QStringList{"tokenize", model, "--text", "Once upon a time"}
                                  << QStringList{"tokens"};
        QTest::newRow("detokenize")
            << QStringList{"detokenize", model, "--tokens", "403,407"} << QStringList{"text"};
        QTest::newRow("template") << QStringList{"template", "sample", "--messages", "MESSAGES"}
                                  << QStringList{"prompt"};
        QTest::newRow("logits") << QStringList{"logits", model, "--tokens", "1,2,3", "-o", out} +
                                       cpu
                                << QStringList{"path", "tokens", "vocabulary", "device"};
        QTest::newRow("chat")
            << QStringList{"chat", model, "--prompt", "Once", "--raw", "--max-tokens", "4"} + cpu
            << QStringList{"text",           "tokens", "prompt_tps", "generate_tps",
                           "first_token_ms", "device", "level"};
        QTest::newRow("evaluate")
            << QStringList{"evaluate",  model, "--level",  "int4", "--text",  "TEXT",
                           "--context", "64",  "--chunks", "2",    "--layers"} +
                   cpu
            << QStringList{"ppl",      "ppl_error",  "kld_mean", "kld_error", "kld_p99",
                           "kld_max",  "same_top",   "tokens",   "bytes",     "bits_per_weight",
                           "accuracy", "categories", "layers"};
        QTest::newRow("quantize") << QStringList{"quantize", model, "-o", out, "--level", "q8_0"}
                                  << QStringList{"path", "bytes", "bits_per_weight"};
        QTest::newRow("deploy") << QStringList{"deploy", model}
                                << QStringList{"ollama", "llama.cpp", "vllm", "vllm_cluster",
                                               "tgi"};
        QTest::newRow("quantize to a folder")
            << QStringList{"quantize", "sample",    "-o",       out,
                           "--level",  "int4_g128", "--export", "gptq"}
            << QStringList{"path", "bytes", "bits_per_weight", "receipt"};
        QTest::newRow("ladder") << QStringList{"ladder", model,  "--levels", "int8,int4",
                                               "--text", "TEXT", "--chunks", "1"} +
                                       cpu
                                << QStringList{"levels"};
        QTest::newRow("bench") << QStringList{"bench", "--synthetic", "tiny", "--level",
                                              "int4",  "--prompt",    "16",   "--generate",
                                              "4",     "--batch",     "1,2",  "-o",
                                              out} +
                                      cpu
                               << QStringList{"prompt_tps",         "generate_tps",
                                              "read_bandwidth_gbs", "generate_bandwidth_fraction",
                                              "barriers_per_layer", "peak_bytes"};
    }
    void everyCommandGivesItsKeys() {
        QFETCH(QStringList, arguments);
        QFETCH(QStringList, keys);
        if (arguments.contains(stories()))
            NIBBLE_NEED_SHARED(kStories);
        if (arguments.contains("bench"))
            arguments.replace(arguments.indexOf("int4"), "q8_0"); // a level that a GGUF file holds
        arguments.replaceInStrings("OUT", path("out.bin"), Qt::CaseSensitive);
        arguments.replaceInStrings("MESSAGES", messages());
        arguments.replaceInStrings("TEXT", text());
        const Outcome outcome = cli(arguments + QStringList{"--json"});
        QVERIFY2(outcome.code == 0, outcome.all().constData());
        QVERIFY2(outcome.err.isEmpty(), outcome.err.constData());
        QCOMPARE(outcome.out.count('\n'), 1);
        const QJsonObject json = object(outcome);
        for (const QString& key : keys)
            QVERIFY2(json.contains(key), qPrintable(key + " in " + outcome.out));
    }

    void ladderRowsHaveTheirKeys() {
        NIBBLE_NEED_SHARED(kStories);
        const auto rows =
            object(cli({"ladder", stories(), "--levels", "int8,int4", "--text", text(), "--chunks",
                        "1", "--device", "cpu", "--json"}))["levels"]
                .toArray();
        QCOMPARE(rows.size(), 2);
        for (const auto& row : rows)
            for (const char* key : {"level", "bytes", "bits_per_weight", "kld_mean", "kld_error",
                                    "ppl", "generate_tps", "fits"})
                QVERIFY2(row.toObject().contains(key), key);
        QVERIFY(rows[0]["bytes"].toDouble() > rows[1]["bytes"].toDouble());
    }
    /// More outliers in 16 bits lose less.
    void aLaddersThresholdIsAdjustable() {
        NIBBLE_NEED_SHARED(kStories);
        const auto loss = [this](const QStringList& more) {
            const Outcome outcome = cli(QStringList{"ladder", stories(), "--levels", "llm_int8",
                                                    "--text", text(), "--calibration", text(),
                                                    "--chunks", "1", "--device", "cpu", "--json"} +
                                        more);
            return object(outcome)["levels"].toArray().at(0).toObject()["kld_mean"].toDouble();
        };
        const double usual = loss({});
        QVERIFY(usual > 0);
        QCOMPARE(loss({"--outlier-threshold", "6"}), usual);
        const double lower = loss({"--outlier-threshold", "0.5"});
        QVERIFY2(lower > 0 && lower < usual, qPrintable(QString::number(lower)));
        QCOMPARE(cli({"ladder", stories(), "--outlier-threshold", "-1"}).code, 2);
    }
    void humanOutputNamesTheDevice() {
        NIBBLE_NEED_SHARED(kStories);
        const Outcome outcome =
            cli({"chat", stories(), "--raw", "--prompt", "Once upon a time", "--temperature", "0",
                 "--max-tokens", "40", "--device", "cpu"});
        QCOMPARE(outcome.code, 0);
        QCOMPARE(outcome.out,
                 QByteArray(", there was a little girl named Lily. She loved to play outside in "
                            "the park. One day, she saw a big, red ball.\n"));
        QVERIFY2(outcome.err.contains("(cpu)"), outcome.err.constData());
        QVERIFY(!outcome.err.contains('\r')); // no progress line without a terminal
    }
    void chatReadsQuestionsUntilTheEnd() {
        const Outcome outcome =
            cli({"chat", "sample", "--max-tokens", "4", "--seed", "1", "--device", "cpu"},
                "Hello\n\nAnd you?\n");
        QVERIFY2(outcome.code == 0, outcome.all().constData());
        QCOMPARE(outcome.err.count("tokens/s; prompt"), 2);
    }
    void logitsAreNumpysFile() {
        NIBBLE_NEED_SHARED(kStories);
        const QString out = path("l.npy");
        QCOMPARE(cli({"logits", stories(), "--tokens", "1,2,3", "-o", out, "--device", "cpu"}).code,
                 0);
        const auto npy = nibble::test::readNpy(out.toStdString());
        QCOMPARE(npy.shape, (std::vector<int64_t>{3, 512}));
        QCOMPARE(npy.values.size(), size_t(3 * 512));
        QFile file(out);
        QVERIFY(file.open(QIODevice::ReadOnly));
        const QByteArray head = file.read(10);
        QCOMPARE((10 + uchar(head[8]) + 256 * uchar(head[9])) % 64, 0);
    }
    void anyCutOfTheLayersGivesTheSameLogits() {
        NIBBLE_NEED_SHARED(kStories);
        const QStringList common{"logits",   stories(), "--tokens", "1,9,8,7",
                                 "--device", "cpu",     "-o"};
        QCOMPARE(cli(common + QStringList{path("whole.npy")}).code, 0);
        QCOMPARE(cli(common + QStringList{path("cut.npy"), "--gpu-layers", "2"}).code, 0);
        const auto whole = nibble::test::readNpy(path("whole.npy").toStdString());
        const auto cut = nibble::test::readNpy(path("cut.npy").toStdString());
        QCOMPARE(cut.values, whole.values);
    }

    void usageErrorsAre2_data() {
        QTest::addColumn<QStringList>("arguments");
        QTest::newRow("no command") << QStringList{};
        QTest::newRow("unknown command") << QStringList{"fly"};
        QTest::newRow("unknown option") << QStringList{"devices", "--colour"};
        QTest::newRow("not a number") << QStringList{"chat", "sample", "--seed", "many"};
        QTest::newRow("unknown level")
            << QStringList{"chat", "sample", "--prompt", "x", "--level", "int5"};
        QTest::newRow("unknown device")
            << QStringList{"chat", "sample", "--prompt", "x", "--device", "abacus"};
        QTest::newRow("unknown cache")
            << QStringList{"chat", "sample", "--prompt", "x", "--kv", "f7"};
        QTest::newRow("token out of range")
            << QStringList{"logits", "sample", "--tokens", "1,99999999", "-o", "never.npy"};
        QTest::newRow("two recipes")
            << QStringList{"chat", "sample", "--level", "int8", "--recipe", "r.json"};
        QTest::newRow("unknown shape") << QStringList{"bench", "--synthetic", "huge"};
        QTest::newRow("nothing to write") << QStringList{"quantize", "sample", "-o", "never.gguf"};
    }
    void usageErrorsAre2() {
        QFETCH(QStringList, arguments);
        VERIFY_REFUSED(cli(arguments), 2);
    }
    void helpIsThereForEveryCommand() {
        QCOMPARE(cli({"--help"}).code, 0);
        for (const char* command :
             {"devices", "doctor", "models", "inspect", "tokenize", "detokenize", "template",
              "logits", "chat", "evaluate", "quantize", "deploy", "ladder", "bench"}) {
            const Outcome help = cli({command, "--help"});
            QVERIFY2(help.code == 0 && help.out.contains("--json"), command);
        }
    }

    void whatATokenizerDoesNotKnowIsSaid() {
        // Only a vocabulary and its merges: how words are cut is guessed.
        QDir(m_folder->path()).mkdir("words");
        write("words/vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
        write("words/merges.txt", "a b\n");
        const Outcome found = cli({"tokenize", path("words"), "--text", "ab", "--json"});
        QCOMPARE(found.code, 0);
        QCOMPARE(QJsonDocument::fromJson(found.out)["tokens"].toArray(), QJsonArray{2});
        QVERIFY2(found.err.contains("guessed"), found.err);
        write("words/tokenizer.json", R"({"model": {"vocab": {"a": 0}, "merges": []},
                                          "pre_tokenizer": {"type": "Dance"}})");
        const Outcome named = cli({"tokenize", path("words"), "--text", "a", "--json"});
        QVERIFY2(named.err.contains("Dance"), named.err);
        const Outcome quiet = cli({"tokenize", "sample", "--text", "a", "--json"});
        QVERIFY2(quiet.err.isEmpty(), quiet.err);
    }

    void badInputIs3() {
        QDir(m_folder->path()).mkdir("empty");
        QCOMPARE(mkfifo(path("fifo").toStdString().c_str(), 0600), 0);
        write("text.gguf", "this is no model at all, but long enough to have a header");
        write("nothing.gguf", "");
        for (const char* name : {"absent.gguf", "empty", "fifo", "text.gguf", "nothing.gguf"})
            VERIFY_REFUSED(cli({"inspect", path(name), "--json"}), 3);
        VERIFY_REFUSED(cli({"tokenize", "sample", "--file", path("absent.txt")}), 3);
        write("bad.json", "{\"messages\":3}");
        VERIFY_REFUSED(cli({"template", "sample", "--messages", path("bad.json")}), 3);
        write("x.jinja", "{{ raise_exception('No such talk!') }}");
        const QStringList talk{"template", path("x.jinja"), "--messages", messages()};
        VERIFY_REFUSED(cli(talk), 3);
        const QByteArray said = cli(talk).err;
        QVERIFY(said.contains("No such talk!") && said.contains("x.jinja"));
        write("y.jinja", "\n{{ messages");
        VERIFY_REFUSED(cli({"template", path("y.jinja"), "--messages", messages()}), 3);
        write("day.json", "{\"messages\":[],\"date\":\"2026-02-30\"}");
        write("z.jinja", "{{ strftime_now('%Y') }}");
        VERIFY_REFUSED(cli({"template", path("z.jinja"), "--messages", path("day.json")}), 3);
        VERIFY_REFUSED(cli({"chat", "sample", "--prompt", "x", "--recipe", path("bad.json")}), 3);
    }
    void templatesTakeEverythingFromTheFile() {
        write("all.jinja", "{{ bos_token }}{{ messages[0].content }}{{ eos_token }} "
                           "{{ tools[0].name }} {{ strftime_now('%d %B %Y') }} "
                           "{{ add_generation_prompt }} {{ enable_thinking }} {{ documents }}");
        write("all.json", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],"
                          "\"add_generation_prompt\":false,\"bos_token\":\"<b>\","
                          "\"eos_token\":\"</b>\",\"tools\":[{\"name\":\"clock\"}],"
                          "\"date\":\"2026-11-23\",\"enable_thinking\":true}");
        const Outcome whole =
            cli({"template", path("all.jinja"), "--messages", path("all.json"), "--json"});
        QVERIFY2(whole.code == 0, whole.all().constData());
        QCOMPARE(object(whole)["prompt"].toString(),
                 QStringLiteral("<b>Hi</b> clock 23 November 2026 False True None"));
    }
    void truncatedFilesAre3() {
        NIBBLE_NEED_SHARED(kStories);
        QFile file(stories());
        QVERIFY(file.open(QIODevice::ReadOnly));
        const QByteArray whole = file.readAll();
        for (const qsizetype length : {qsizetype(20), whole.size() / 2, whole.size() - 1}) {
            write("cut.gguf", whole.first(length));
            VERIFY_REFUSED(cli({"chat", path("cut.gguf"), "--prompt", "x"}), 3);
        }
    }
    void noPermissionIs3() {
        if (geteuid() == 0)
            QSKIP("root may read everything");
        write("secret.gguf", "GGUF");
        QFile::setPermissions(path("secret.gguf"), {});
        VERIFY_REFUSED(cli({"inspect", path("secret.gguf")}), 3);
    }
    void unwritableOutputIs4() {
        NIBBLE_NEED_SHARED(kStories);
        const QString nowhere = path("no-such-folder/out");
        VERIFY_REFUSED(cli({"quantize", stories(), "-o", nowhere, "--level", "q8_0"}), 4);
        VERIFY_REFUSED(cli({"logits", stories(), "--tokens", "1", "-o", nowhere}), 4);
        QVERIFY(QDir(m_folder->path()).isEmpty());
        QProcess full;
        full.setStandardOutputFile("/dev/full");
        full.start(NIBBLE_CLI, {"devices", "--json"});
        QVERIFY(full.waitForFinished(seconds(60)));
        QCOMPARE(full.exitCode(), 4);
    }
    void foldersAreWrittenReadAndDeployed() {
        for (const QString& kind :
             {QString("gptq"), QString("awq"), QString("compressed-tensors")}) {
            const QString out = path(qPrintable(kind));
            const Outcome made = cli({"quantize", "sample", "-o", out, "--level", "int4_g128",
                                      "--export", kind, "--json"});
            QVERIFY2(made.code == 0 && made.err.isEmpty(), made.all().constData());
            const QJsonObject json = object(made);
            QCOMPARE(json["export"].toString(), kind);
            QVERIFY(QFile::exists(json["receipt"].toString()));
            QCOMPARE(json["types"]["int4_g128"].toInt(), 7 * 12);
            const QJsonObject seen = object(cli({"inspect", out, "--json"}));
            QVERIFY(seen["supported"].toBool());
            const Outcome answer = cli({"chat", out, "--prompt", "What is 2 plus 3?", "--device",
                                        "cpu", "--max-tokens", "12", "--json"});
            QVERIFY2(answer.code == 0 && !object(answer)["text"].toString().isEmpty(),
                     answer.all().constData());

            const QJsonObject how = object(cli({"deploy", out, "--json"}));
            QCOMPARE(how["form"].toString(), kind);
            QVERIFY(how["ollama"].toArray().isEmpty() && how["llama.cpp"].toArray().isEmpty());
            QVERIFY(how["notes"]["ollama"].toString().contains("--export gguf"));
            QVERIFY(how["vllm"][0].toString().startsWith("vllm serve '" + out + "'"));
            QCOMPARE(how["vllm_cluster"].toArray().size(), 3);
            QVERIFY(how["vllm_cluster"][0].toString().startsWith("ray start --head"));
            QVERIFY(how["vllm_cluster"][2].toString().contains("--pipeline-parallel-size 2"));
            // 256 columns in groups of 128: two GPUs can share a layer, four cannot.
            QVERIFY(how["vllm_cluster"][2].toString().contains("--tensor-parallel-size 2"));
            QVERIFY(how["tgi"][0].toString().contains("--quantize " + kind));
        }
        // A level's 8-bit embedding becomes f16; a recipe of one's own is taken at its word.
        write("mine.json", R"({"rules":[{"match":"*","format":"int4_g128"}]})");
        const Outcome unfit = cli({"quantize", "sample", "-o", path("x"), "--recipe",
                                   path("mine.json"), "--export", "gptq"});
        VERIFY_REFUSED(unfit, 2);
        QVERIFY2(unfit.err.contains("token_embd") && unfit.err.contains("f16"),
                 unfit.err.constData());
        VERIFY_REFUSED(
            cli({"quantize", "sample", "-o", path("x"), "--level", "q8_0", "--export", "exl2"}), 2);
        VERIFY_REFUSED(cli({"quantize", "sample", "-o", path("x"), "--level", "q4_0", "--export",
                            "awq", "--bits", "4"}),
                       2);
        const Outcome fitted = cli({"quantize", "sample", "-o", path("fitted"), "--bits", "7",
                                    "--export", "gptq", "--json"});
        QVERIFY2(fitted.code == 0, fitted.all().constData());
        QVERIFY(!QFile::exists(path("x")));
    }
    /// No GPU gets part of a block, also where a block has several groups of scales.
    void deployCutsWholeBlocks() {
        const auto most = [&](const char* level) {
            const QString out = path("cut.gguf"), option = "--tensor-parallel-size ";
            cli({"quantize", "sample", "-o", out, "--level", level});
            const QString command =
                object(cli({"deploy", out, "--json"}))["vllm_cluster"][2].toString();
            return command.mid(command.indexOf(option) + option.size()).section(' ', 0, 0);
        };
        // Rows of 256 values: eight blocks of q8_0, and one of the K-quants.
        QCOMPARE(most("q8_0"), QString("4"));
        QCOMPARE(most("q4_k_m"), QString("1"));
    }
    /// What deploy says to type works.
    void deployNamesLevelsThatWork() {
        const KeptCalibration kept;
        const QString gguf = path("a.gguf"), folder = path("a");
        QCOMPARE(cli({"quantize", "sample", "-o", gguf, "--level", "q8_0"}).code, 0);
        QCOMPARE(
            cli({"quantize", "sample", "-o", folder, "--level", "int4_g128", "--export", "gptq"})
                .code,
            0);
        const QJsonObject ofFile = object(cli({"deploy", gguf, "--json"}))["notes"].toObject(),
                          ofFolder = object(cli({"deploy", folder, "--json"}))["notes"].toObject();
        const QRegularExpression command(
            "nibble-cli quantize BASE -o (\\S+) --level (\\w+) --export ([\\w-]+)");
        for (const QString& note :
             {ofFile["tgi"].toString(), ofFile["vllm"].toString(), ofFolder["ollama"].toString(),
              ofFolder["llama.cpp"].toString()}) {
            const auto found = command.match(note);
            QVERIFY2(found.hasMatch(), qPrintable(note));
            const QString out = path(found.captured(1) + found.captured(3));
            const Outcome made = cli({"quantize", "sample", "-o", out, "--level", found.captured(2),
                                      "--export", found.captured(3)});
            QVERIFY2(made.code == 0 && QFile::exists(out), made.all().constData());
        }
    }
    /// TGI takes neither folders that bitsandbytes made nor GPTQ folders of version 2.
    void deployKnowsWhatTgiCannotLoad() {
        const QString folder = path("a");
        QCOMPARE(
            cli({"quantize", "sample", "-o", folder, "--level", "int4_g128", "--export", "gptq"})
                .code,
            0);
        const auto tgi = [&]() -> const QJsonObject {
            return object(cli({"deploy", folder, "--json"}));
        };
        QVERIFY(tgi()["tgi"][0].toString().contains("--quantize gptq"));
        QFile config(folder + "/config.json");
        QVERIFY(config.open(QIODevice::ReadOnly));
        const QByteArray was = config.readAll();
        config.close();
        QByteArray second = was;
        second.replace(R"("checkpoint_format": "gptq")", R"("checkpoint_format": "gptq_v2")");
        QVERIFY(second != was);
        write("a/config.json", second);
        QVERIFY(tgi()["tgi"].toArray().isEmpty());
        QVERIFY(tgi()["notes"]["tgi"].toString().contains("gptq_v2"));
        QCOMPARE(tgi()["vllm"].toArray().size(), 2); // reads both

        NIBBLE_NEED_SHARED("models/TinyStories-656K");
        QDir(m_folder->path()).mkdir("b");
        const QDir floats(
            QString::fromStdString(nibble::test::sharedPath("models/TinyStories-656K").string()));
        for (const QString& name : floats.entryList(QDir::Files))
            QVERIFY(QFile::copy(floats.filePath(name), path("b/" + name)));
        QFile::remove(path("b/config.json"));
        QFile own(floats.filePath("config.json"));
        QVERIFY(own.open(QIODevice::ReadOnly));
        QJsonObject json = QJsonDocument::fromJson(own.readAll()).object();
        json["quantization_config"] = QJsonObject{{"quant_method", "bitsandbytes"}};
        write("b/config.json", QJsonDocument(json).toJson());
        const QJsonObject how = object(cli({"deploy", path("b"), "--json"}));
        QCOMPARE(how["form"].toString(), QString("bitsandbytes"));
        QVERIFY(how["tgi"].toArray().isEmpty());
        QVERIFY(how["notes"]["tgi"].toString().contains("on the fly"));
    }
    void wordsAreForPeople() {
        // A recipe is the user's own file: nothing is downloaded again.
        write("mine.json", "{\"name\": \"x\",\n  \"rules\": [,]}");
        const Outcome broken =
            cli({"quantize", "sample", "-o", path("x"), "--recipe", path("mine.json")});
        VERIFY_REFUSED(broken, 3);
        QVERIFY2(broken.err.contains("line 2, column 13"), broken.err.constData());
        QVERIFY2(!broken.err.contains("Download") && !broken.err.contains("json.exception"),
                 broken.err.constData());
        const Outcome unknown = cli({"quantize", "sample", "-o", path("x"), "--level", "q9"});
        VERIFY_REFUSED(unknown, 2);
        QVERIFY2(unknown.err.contains(", mixed."), unknown.err.constData());
        // What was lost once is lost.
        QCOMPARE(cli({"quantize", "sample", "-o", path("a.gguf"), "--level", "q4_k_m"}).err,
                 QByteArray());
        const Outcome again =
            cli({"quantize", path("a.gguf"), "-o", path("b.gguf"), "--level", "iq4_xs"});
        QVERIFY2(again.code == 0 && again.err.count('\n') == 1 && again.err.contains("add up"),
                 again.all().constData());
        // A level of a folder says of a GGUF file what fits it, and help says it beforehand.
        const Outcome unfit = cli({"quantize", "sample", "-o", path("x"), "--level", "nf4"});
        VERIFY_REFUSED(unfit, 2);
        QVERIFY2(unfit.err.contains("q4_k_m"), unfit.err.constData());
        QVERIFY(cli({"quantize", "--help"}).out.contains("  awq: int4 "));
    }
    void theInputIsNeverOverwritten() {
        NIBBLE_NEED_SHARED(kStories);
        QVERIFY(QFile::copy(stories(), path("model.gguf")));
        VERIFY_REFUSED(
            cli({"quantize", path("model.gguf"), "-o", path("model.gguf"), "--level", "q8_0"}), 2);
        QCOMPARE(QFile(path("model.gguf")).size(), QFile(stories()).size());
    }
    void withoutAVulkanDriverTheCpuIsListed() {
        const QStringList none{"VK_ICD_FILENAMES=/nonexistent", "VK_DRIVER_FILES=/nonexistent"};
        const Outcome outcome = cli({"devices", "--json"}, {}, none);
        QCOMPARE(outcome.code, 0);
        const QJsonObject json = object(outcome);
        QCOMPARE(json["devices"].toArray().size(), 1);
        QCOMPARE(json["devices"][0]["id"].toString(), QString("cpu"));
        QCOMPARE(json["auto"].toString(), QString("cpu"));
        QVERIFY2(json["vulkan_problem"].toString().size() > 20, outcome.out.constData());
        VERIFY_REFUSED(cli({"chat", "sample", "--prompt", "x", "--device", "vulkan"}, {}, none), 2);
    }
    void interruptIs7AndLeavesNothing_data() {
        QTest::addColumn<QStringList>("arguments");
        QTest::newRow("quantize") << QStringList{
            "bench", "--synthetic", "100m", "--level", "q8_0", "--device", "cpu", "-o", "OUT"};
        QTest::newRow("evaluate") << QStringList{"evaluate", "sample",   "--level",
                                                 "int4",     "--device", "cpu:scalar"};
        // A prompt that the reference reads for many seconds: what is sampled cannot end it early.
        QTest::newRow("chat") << QStringList{
            "chat",       "sample",   "--device",
            "cpu:scalar", "--raw",    "--context",
            "20000",      "--prompt", QString("once upon a time ").repeated(1000)};
    }
    void interruptIs7AndLeavesNothing() {
        QFETCH(QStringList, arguments);
        arguments.replaceInStrings("OUT", path("out.gguf"));
        QProcess process;
        process.start(NIBBLE_CLI, arguments);
        QVERIFY(process.waitForStarted());
        QTest::qWait(700);
        QVERIFY2(process.state() == QProcess::Running, process.readAllStandardError().constData());
        QElapsedTimer timer;
        timer.start();
        ::kill(static_cast<pid_t>(process.processId()), SIGINT);
        QVERIFY(process.waitForFinished(seconds(20)));
        QCOMPARE(process.exitStatus(), QProcess::NormalExit);
        QCOMPARE(process.exitCode(), 7);
        QVERIFY2(QDir(m_folder->path()).isEmpty(),
                 qPrintable(QDir(m_folder->path()).entryList().join(' ')));
        qInfo("stopped after %lld ms", static_cast<long long>(timer.elapsed()));
    }

private:
    QString path(const QString& name) const { return m_folder->filePath(name); }
    void write(const QString& name, const QByteArray& bytes) const {
        QFile file(path(name));
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write(bytes);
    }
    QString messages() const {
        write("m.json", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}");
        return path("m.json");
    }
    QString text() const {
        QByteArray bytes;
        for (int i = 0; i < 60; ++i)
            bytes += "Once upon a time there was a dog. He liked to play in the park with Lily. ";
        write("t.txt", bytes);
        return path("t.txt");
    }

    std::unique_ptr<QTemporaryDir> m_folder;
};

QTEST_GUILESS_MAIN(TestCommands)
#include "test_commands.moc"
