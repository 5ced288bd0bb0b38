#include "tests/app/cli/cli_process.h"
#include "tests/files/gguf_bytes.h"
#include "tests/support/mixture_model.h"

#include <QDir>
#include <QFile>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QTemporaryDir>
#include <QTest>

#include <memory>

using namespace nibble::test;

namespace {

constexpr const char* kLavapipe = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";

QJsonObject object(const Outcome& outcome) {
    return QJsonDocument::fromJson(outcome.out).object();
}

} // namespace

/// Models found, looked into and split before anything else is done with them.
class TestLooking : public QObject {
    Q_OBJECT
    std::unique_ptr<QTemporaryDir> m_folder;

    QString path(const char* name) const { return m_folder->filePath(name); }
    void write(const QString& file, const std::string& bytes) const {
        QDir().mkpath(QFileInfo(file).path());
        QFile out(file);
        QVERIFY(out.open(QIODevice::WriteOnly));
        out.write(QByteArray::fromStdString(bytes));
    }
    static std::string stranger() {
        GgufBytes file(1, 3);
        file.key("general.architecture", 8).text("zebra");
        file.key("tokenizer.ggml.model", 8).text("gpt2");
        file.key("zebra.stripes", 4).put(7u);
        file.tensor("stripes.weight", {8, 4}, 0, 0).pad();
        for (int i = 0; i < 32; ++i)
            file.put(float(i));
        return file.bytes();
    }

private slots:
    void init() { m_folder = std::make_unique<QTemporaryDir>(); }

    void modelsAreFoundInPlace() {
        const QString home = path("home");
        const std::string digest(64, 'a');
        const QString models = home + "/.ollama/models/";
        write(models + "blobs/sha256-" + QString::fromStdString(digest), stranger());
        write(models + "manifests/registry.ollama.ai/library/zebra/3b",
              "{\"layers\":[{\"mediaType\":\"application/vnd.ollama.image.model\",\"digest\":"
              "\"sha256:" +
                  digest + "\"}]}");
        write(models + "manifests/registry.ollama.ai/library/gone/1b", "{");
        const QStringList there{"HOME=" + home,
                                "XDG_CACHE_HOME=" + home + "/.cache",
                                "XDG_DATA_HOME=" + home + "/.local/share",
                                "OLLAMA_MODELS=",
                                "HF_HOME=",
                                "HF_HUB_CACHE=",
                                "LLAMA_CACHE="};
        const Outcome json = cli({"models", "--json"}, {}, there);
        QVERIFY2(json.code == 0 && json.err.isEmpty(), json.all().constData());
        QString blob;
        for (const auto& value : object(json)["models"].toArray())
            if (value.toObject()["name"].toString() == "zebra:3b") {
                blob = value.toObject()["path"].toString();
                QCOMPARE(value.toObject()["source"].toString(), "Ollama");
            }
        QVERIFY(blob.contains("blobs/sha256-aaaa"));
        QCOMPARE(cli({"inspect", blob}).code, 0);
        const Outcome table = cli({"models"}, {}, there);
        QVERIFY2(table.out.contains("zebra:3b") && table.out.contains("not whole"),
                 table.all().constData());
        QVERIFY2(table.err.contains("gone:1b: "), table.err.constData());
        write(path("own/Mine.gguf"), stranger());
        const Outcome own = cli({"models", path("own"), "--json"});
        QCOMPARE(object(own)["models"].toArray().size(), 1);
        VERIFY_REFUSED(cli({"models", path("nowhere")}), 2);
    }

    void anUnknownArchitectureIsInspected() {
        write(path("zebra.gguf"), stranger());
        const Outcome table = cli({"inspect", path("zebra.gguf"), "--weights"});
        QVERIFY2(table.code == 0, table.all().constData());
        for (const char* words :
             {"\"zebra\"", "Architecture: zebra, not known", "Chat template: missing",
              "Warning: ", "stripes.weight", "9.23", "Stored as: f32"})
            QVERIFY2(table.out.contains(words), words);
        const QJsonObject json =
            object(cli({"inspect", path("zebra.gguf"), "--weights", "--json"}));
        const QJsonObject diagnosis = json["diagnosis"].toObject();
        QCOMPARE(diagnosis["architecture_known"].toBool(), false);
        QVERIFY(!diagnosis["warnings"].toArray().isEmpty());
        QCOMPARE(
            json["tensors"].toArray()[0].toObject()["statistics"].toObject()["mean"].toDouble(),
            15.5);
        VERIFY_REFUSED(cli({"chat", path("zebra.gguf"), "--prompt", "x"}), 3);
        VERIFY_REFUSED(cli({"inspect", path("zebra.gguf"), "--plan"}), 3);
    }

    void metadataIsSearched() {
        write(path("zebra.gguf"), stranger());
        const Outcome some = cli({"inspect", path("zebra.gguf"), "--metadata", "stripes"});
        QVERIFY2(some.out.contains("zebra.stripes  u32   7") &&
                     some.out.contains("1 of 3 entries") &&
                     !some.out.contains("general.architecture"),
                 some.all().constData());
        const Outcome all = cli({"inspect", path("zebra.gguf"), "--metadata"});
        QVERIFY2(all.out.contains("3 of 3 entries"), all.all().constData());
        const QJsonArray rows = object(cli({"inspect", path("zebra.gguf"), "--metadata",
                                            "ZEBRA u32", "--json"}))["metadata_entries"]
                                    .toArray();
        QCOMPARE(rows.size(), 1);
        QCOMPARE(rows[0].toObject()["value"].toString(), "7");
    }

    void thePlanIsShownBeforeLoading() {
        const QJsonObject plan =
            object(cli({"inspect", "sample", "--plan", "--device", "cpu", "--json"}))["plan"]
                .toObject();
        QCOMPARE(plan["parts"].toArray().size(), 1);
        QVERIFY(plan["fits"].toBool());
        QVERIFY(plan["estimated_tps"].toDouble() > 0);
        const Outcome text = cli({"inspect", "sample", "--plan", "--device", "cpu"});
        QVERIFY2(text.out.contains("Estimated from memory bandwidth"), text.all().constData());
        const Outcome chat =
            cli({"chat", "sample", "--prompt", "Hi", "--max-tokens", "1", "--device", "cpu"});
        QVERIFY2(chat.err.contains(" layers on ") && chat.err.contains("Estimated"),
                 chat.err.constData());
    }

    /// A device smaller than the model: the layers that fit run there, the answer is that of the
    /// whole, and the split is told.
    void aModelLargerThanTheDeviceIsSplit() {
        if (!QFile::exists(kLavapipe))
            QSKIP("no lavapipe driver (package mesa-vulkan-drivers)");
        const QStringList chat{
            "chat",         "sample", "--prompt",      "What is the capital of France?",
            "--device",     "vulkan", "--temperature", "0",
            "--max-tokens", "16",     "--context",     "128",
            "--json"};
        const auto on = [&](const char* memory, const QStringList& more = {}) {
            QStringList environment{QString("VK_ICD_FILENAMES=") + kLavapipe};
            if (memory)
                environment << QString("NIBBLE_VULKAN_MEMORY=") + memory;
            return cli(chat + more, {}, environment);
        };
        const QJsonObject whole = object(on(nullptr));
        QVERIFY(!whole["device"].toString().contains("layers"));
        const Outcome small = on("16000000");
        QVERIFY2(small.code == 0, small.all().constData());
        const QJsonObject split = object(small), plan = split["plan"].toObject();
        QVERIFY2(plan["gpu_layers"].toInt() > 0 && plan["automatic"].toBool() &&
                     plan["gpu_layers"].toInt() < plan["layers"].toInt(),
                 small.out.constData());
        QVERIFY2(split["device"].toString().contains("(vulkan:0), layers 1–") &&
                     split["device"].toString().contains("(cpu), layers "),
                 small.out.constData());
        QCOMPARE(split["tokens"], whole["tokens"]);
        const Outcome none = on("1000000");
        QVERIFY2(object(none)["device"].toString().endsWith("as no layer fits vulkan:0"),
                 none.all().constData());
        // What is asked for and does not fit is an error, not something else.
        VERIFY_REFUSED(on("16000000", {"--gpu-layers", "99"}), 5);
        VERIFY_REFUSED(on(nullptr, {"--cpu-experts", "2"}), 2); // it has none
    }

    /// A mixture larger than the device keeps experts on the CPU, and larger than the computer in
    /// the file; either gives the same logits.
    void expertsStayOnTheCpuOrInTheFile() {
        if (!QFile::exists(kLavapipe))
            QSKIP("no lavapipe driver (package mesa-vulkan-drivers)");
        const QTemporaryDir folder;
        const QString path = folder.filePath("mixture.gguf");
        const std::string bytes = mixtureModel({.width = 128, .feedForward = 256, .experts = 16});
        QFile file(path);
        QVERIFY(file.open(QIODevice::WriteOnly));
        QCOMPARE(file.write(bytes.data(), qint64(bytes.size())), qint64(bytes.size()));
        file.close();
        const auto plan = [&](const QStringList& more, const QStringList& memory) {
            const QStringList environment =
                QStringList{QString("VK_ICD_FILENAMES=") + kLavapipe} + memory;
            return cli(QStringList{"inspect", path, "--plan", "--context", "64", "--json"} + more,
                       {}, environment);
        };
        const auto planned = [&](const QStringList& more, const QStringList& memory) {
            return object(plan(more, memory))["plan"].toObject();
        };
        const QStringList vulkan{"--device", "vulkan:0"};
        const QJsonObject whole = planned(vulkan, {});
        QCOMPARE(whole["cpu_experts"].toInt(-1), 0);
        QCOMPARE(whole["expert_layers"].toInt(), 4);
        const QJsonObject small = planned(vulkan, {"NIBBLE_VULKAN_MEMORY=16000000"});
        QCOMPARE(small["gpu_layers"].toInt(), 4);
        QVERIFY(small["automatic_experts"].toBool() && small["cpu_experts"].toInt() > 0);
        const QString text = small["text"].toString();
        QVERIFY2(text.contains(" of them without their experts, on ") &&
                     text.contains("vulkan:0 cannot hold all experts."),
                 qPrintable(text));
        const QJsonArray parts = small["parts"].toArray();
        QCOMPARE(parts.size(), 2);
        QCOMPARE(parts[0].toObject()["layers_without_experts"], small["cpu_experts"]);
        QCOMPARE(parts[1].toObject()["layers_of_experts"], small["cpu_experts"]);
        QCOMPARE(planned(vulkan + QStringList{"--cpu-experts", "3"}, {})["cpu_experts"].toInt(), 3);
        const QJsonObject onDisk = planned({"--device", "cpu"}, {"NIBBLE_CPU_MEMORY=16000000"});
        const QJsonObject part = onDisk["parts"].toArray()[0].toObject();
        QVERIFY(part["experts_in_memory"].toDouble() < part["experts"].toDouble() / 2);
        QVERIFY(onDisk["text"].toString().contains("reads the others from the file"));
        const Outcome table = cli({"inspect", path, "--plan", "--context", "64", "--device",
                                   "vulkan:0", "--cpu-experts", "3"},
                                  {}, {QString("VK_ICD_FILENAMES=") + kLavapipe});
        QVERIFY2(table.out.contains("1–4 of 4, 3 without experts") &&
                     table.out.contains("experts of 2–4"),
                 table.all().constData());

        const auto logits = [&](const QStringList& more, const QStringList& memory) {
            const QString out = folder.filePath("logits.npy");
            const Outcome run =
                cli(QStringList{"logits", path, "--tokens", "1,2,3,4,5,6,7,8", "-o", out,
                                "--context", "64"} +
                        more,
                    {}, QStringList{QString("VK_ICD_FILENAMES=") + kLavapipe} + memory);
            if (run.code != 0)
                qWarning("%s", run.all().constData());
            QFile made(out);
            return run.code == 0 && made.open(QIODevice::ReadOnly) ? made.readAll() : QByteArray();
        };
        const QByteArray expected = logits({"--device", "cpu"}, {});
        QVERIFY(!expected.isEmpty());
        QCOMPARE(logits({"--device", "cpu"}, {"NIBBLE_CPU_MEMORY=16000000"}), expected);
        QVERIFY(!logits({"--device", "vulkan:0", "--cpu-experts", "2"}, {}).isEmpty());
    }
};

QTEST_GUILESS_MAIN(TestLooking)
#include "test_looking.moc"
