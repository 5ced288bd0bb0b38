// ctest: TIMEOUT=600
#include "core/quant/quantizer.h"
#include "core/quant/recipe.h"
#include "tests/runtime/family_switches.h"

#include <QTemporaryDir>

using namespace nibble;
using namespace nibble::test;

namespace {

void refuses(const std::function<void()>& write, const char* says) {
    try {
        write();
    } catch (const Error& error) {
        QCOMPARE(error.kind(), ErrorKind::Usage);
        QVERIFY2(std::string(error.what()).find(says) != std::string::npos, error.what());
        return;
    }
    QFAIL("nothing was refused");
}

bool agree(const Json& a, const Json& b) {
    if (a.is_number() && b.is_number())
        return std::fabs(a.get<double>() - b.get<double>()) <= 1e-6 * std::fabs(b.get<double>());
    if (a.is_structured() && b.is_structured() && a.size() == b.size())
        return std::equal(a.begin(), a.end(), b.begin(), agree);
    return a == b;
}

/// A config.json made from a GGUF file says what the family's own folder did.
void checkConfig(const Family& f, const Json& made) {
    QVERIFY(made["architectures"] == Json::array({f.huggingFaceClass}));
    QCOMPARE(made["model_type"].get<std::string>(), f.modelType);
    QCOMPARE(made["tie_word_embeddings"].get<bool>(), f.tied);
    for (const auto& [key, value] : f.config.items())
        QVERIFY2(made.contains(key) && agree(made[key], value), key.c_str());
    for (const char* key : f.keys)
        QVERIFY2(made.contains(key), key);
}

} // namespace

/// Folders of every family: what is written and read, and what their config.json says.
class TestFamilyFolders : public QObject {
    Q_OBJECT
    std::vector<Family> m_families = families();

private slots:

    void family_data() {
        QTest::addColumn<int>("index");
        for (size_t i = 0; i < m_families.size(); ++i)
            QTest::addRow("%s", m_families[i].huggingFaceClass.c_str()) << int(i);
    }

    /// What is written for other engines and read again is what the quantizer made, also where the
    /// folder was a GGUF file in between: no bit of any logit differs.
    void asQuantizedFolder_data() { family_data(); }
    void asQuantizedFolder() {
        QFETCH(int, index);
        const Family& f = m_families[size_t(index)];
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const PlainTensors tensors = randomTensors(f);
        writeFolder(f, tensors, path);
        const auto model = openModel(path);
        Recipe recipe;
        recipe.rules.push_back({.match = "blk.*", .format = "int4_g32"});
        if (!f.names.sinks.empty()) { // stacked experts: said, not done
            refuses([&] { exportFolder(*model, recipe, "gptq", path / "out"); },
                    "\"gpt-oss\" keep stacks of experts");
            return;
        }
        const auto runner = makeRunner(model, placeAll(*model, openCpu()));
        Quantizer quantizer(*model, recipe, nullptr);
        for (const TensorKey key : model->keys())
            runner->setTensor(key, quantizer.tensor(key, {}), ActivationFormat::Float);
        Session session = runner->newSession();
        const std::vector<float> expected = runner->append(session, prompt(), true);

        exportGguf(*model, Recipe{}, path / "model.gguf", {});
        const auto file = openModel(path / "model.gguf");
        for (const auto& base : {model, file}) {
            exportFolder(*base, recipe, "gptq", path / "out");
            const auto again = openModel(path / "out");
            QCOMPARE(again->unsupported, std::string());
            for (const auto& [name, tensor] : tensors) {
                const TensorInfo& info = again->checkpoint->get(name);
                std::vector<int64_t> dims = tensor.dims;
                if (info.packed && f.facts.transposed)
                    std::ranges::reverse(dims);
                QVERIFY2(info.dims == dims, name.c_str());
            }
            for (const TensorKey key : again->keys())
                if (isMatrix(key.role) && key.layer >= 0)
                    QCOMPARE(std::string(again->get(key).format()->name), std::string("int4_g32"));
            QVERIFY(logitsOf(again, openCpu()) == expected);
            exportFolder(*again, Recipe{}, "gptq", path / "copy"); // as it is stored
            QVERIFY(logitsOf(openModel(path / "copy"), openCpu()) == expected);
        }
        checkConfig(f, Json::parse(std::ifstream(path / "out" / "config.json")));
        if (f.facts.transposed) { // whose tools quantize no such layers
            refuses([&] { exportFolder(*file, recipe, "awq", path / "awq"); },
                    "\"gpt2\" keep matrices as [inputs][outputs]");
            return;
        }
        exportFolder(*file, recipe, "compressed-tensors", path / "ct");
        QVERIFY(logitsOf(openModel(path / "ct"), openCpu()) == expected);
    }

    /// A config.json made from a GGUF file says every switch, or it is not made.
    void everySwitchIsSaidOrRefused_data() { family_data(); }
    void everySwitchIsSaidOrRefused() {
        QFETCH(int, index);
        const Family& f = m_families[size_t(index)];
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeFolder(f, randomTensors(f), path);
        exportGguf(*openModel(path), Recipe{}, path / "model.gguf", {});
        const auto model = openModel(path / "model.gguf");
        if (!f.names.sinks.empty()) {
            refuses([&] { huggingFaceConfig(*model); }, "family \"gpt-oss\"");
            return;
        }
        const std::string whole = huggingFaceConfig(*model);
        for (const Switch& each : switches()) {
            // Rows of heads are written in the order of folders.
            if (!each.matters(model->config) || each.name == std::string_view("rope style"))
                continue;
            const auto flipped = std::make_shared<Model>(*model);
            each.flip(flipped->config);
            try {
                QVERIFY2(huggingFaceConfig(*flipped) != whole, each.name);
            } catch (const Error& error) {
                QCOMPARE(error.kind(), ErrorKind::Usage);
            }
        }
    }

    /// Version 5 of transformers keeps what rotates in "rope_parameters".
    void newerConfigsSayTheSame_data() { family_data(); }
    void newerConfigsSayTheSame() {
        QFETCH(int, index);
        Family f = m_families[size_t(index)];
        if (f.facts.rotated > 0) // bases that are no defaults, so that a lost one is seen
            f.config["rope_theta"] = 3000.0;
        if (f.config.contains("rope_local_base_freq"))
            f.config["rope_local_base_freq"] = 700.0;
        const PlainTensors tensors = randomTensors(f);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeFolder(f, tensors, path);
        const auto expected = logitsOf(openModel(path), openCpu());
        Json rope = f.config.value("rope_scaling", Json{{"rope_type", "default"}});
        f.config.erase("rope_scaling");
        for (const char* key : {"rope_theta", "partial_rotary_factor"})
            if (f.config.contains(key)) {
                rope[key] = f.config[key];
                f.config.erase(key);
            }
        if (f.config.contains("rope_local_base_freq")) {
            rope = {{"full_attention", rope},
                    {"sliding_attention",
                     {{"rope_type", "default"}, {"rope_theta", f.config["rope_local_base_freq"]}}}};
            f.config.erase("rope_local_base_freq");
        }
        f.config["rope_parameters"] = rope;
        writeFolder(f, tensors, path);
        QVERIFY(logitsOf(openModel(path), openCpu()) == expected);
    }

    /// GGUF files keep the factors alone, from which the setting is found again.
    void llama3ScalingIsFoundAgain() {
        for (const auto& [factor, context] : {std::pair{8, 8192}, {32, 8192}, {5, 100}}) {
            Family f = plain("LlamaForCausalLM");
            f.config["rope_theta"] = 500000.0;
            f.config["rope_scaling"] = {{"rope_type", "llama3"},
                                        {"factor", factor},
                                        {"low_freq_factor", 1.0},
                                        {"high_freq_factor", 4.0},
                                        {"original_max_position_embeddings", context}};
            const QTemporaryDir folder;
            const std::filesystem::path path = folder.path().toStdString();
            writeFolder(f, randomTensors(f), path);
            exportGguf(*openModel(path), Recipe{}, path / "model.gguf", {});
            const Json made = Json::parse(huggingFaceConfig(*openModel(path / "model.gguf")));
            QVERIFY2(made["rope_scaling"] == f.config["rope_scaling"],
                     made["rope_scaling"].dump().c_str());
        }
    }
};

QTEST_GUILESS_MAIN(TestFamilyFolders)
#include "test_family_folders.moc"
