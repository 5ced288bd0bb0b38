// ctest: TIMEOUT=900
#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/mapped_file.h"
#include "core/base/random.h"
#include "core/base/resources.h"
#include "core/files/packings.h"
#include "core/model/names.h"
#include "core/quant/apply.h"
#include "core/quant/folder_groups.h"
#include "core/quant/quantizer.h"
#include "core/quant/receipt.h"
#include "core/tensor/planes.h"
#include "tests/support/float_model.h"
#include "tests/support/shared_data.h"

#include <nlohmann/json.hpp>

#include <QTemporaryDir>
#include <QTest>
#include <bit>
#include <cmath>
#include <csignal>
#include <fstream>
#include <functional>
#include <set>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace nibble;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

/// One format for the linear layers, floats for the rest.
Recipe linear(const char* format, const char* activations = "float") {
    Recipe recipe;
    recipe.name = format;
    recipe.rules.push_back(
        {.match = "*", .format = format, .method = "rtn", .activations = activations});
    return folderRecipe(recipe);
}

bool isLinear(TensorKey key) {
    return isMatrix(key.role) && key.role != Role::TokenEmbedding && key.role != Role::Output;
}

/// Rows of q and k of a GGUF model of the llama family in the order of a folder.
Tensor asInFolder(const Model& model, TensorKey key, const Tensor& tensor) {
    if (model.config.ropeStyle != RopeStyle::Interleaved ||
        (key.role != Role::Query && key.role != Role::Key))
        return tensor;
    const int64_t heads = key.role == Role::Query ? model.config.heads : model.config.kvHeads;
    const int64_t size = tensor.rows / heads;
    std::vector<int64_t> order;
    for (int64_t head = 0; head < heads; ++head)
        for (int64_t half = 0; half < 2; ++half)
            for (int64_t i = 0; i < size / 2; ++i)
                order.push_back(head * size + 2 * i + half);
    return gatherRows(tensor, order);
}

std::vector<float> logits(const std::shared_ptr<const Model>& model, const Recipe& recipe,
                          std::shared_ptr<const Calibration> calibration = nullptr) {
    RunOptions options;
    options.placement = placeAll(*model, openCpu(CpuMode::Scalar));
    options.context = 64;
    options.kFormat = options.vFormat = KvFormat::F32;
    Runner runner(model, options);
    applyRecipe(runner, recipe, nullptr, {}, std::move(calibration));
    Session session = runner.newSession();
    std::vector<TokenId> tokens;
    for (int i = 0; i < 8; ++i)
        tokens.push_back(static_cast<TokenId>(7 + i * 37 % (model->config.vocabulary - 7)));
    return runner.append(session, tokens, true);
}

Json readJson(const fs::path& path) {
    return Json::parse(readTextFile(path, 1 << 26));
}

int64_t filesIn(const fs::path& folder) {
    return std::distance(fs::directory_iterator(folder), {});
}

/// Raw tensors of a folder, which opening would put together.
struct RawFile {
    std::string bytes;
    Json header;

    explicit RawFile(const fs::path& path) {
        std::ifstream in(path, std::ios::binary);
        bytes.assign(std::istreambuf_iterator<char>(in), {});
        uint64_t length;
        std::memcpy(&length, bytes.data(), 8);
        header = Json::parse(bytes.substr(8, length));
        bytes = bytes.substr(8 + length);
    }
    template <typename T>
    T at(const std::string& name, int64_t index) const {
        const auto begin = header.at(name)["data_offsets"][0].get<size_t>();
        T value;
        std::memcpy(&value, bytes.data() + begin + size_t(index) * sizeof(T), sizeof(T));
        return value;
    }
};

struct Case {
    const char* kind;
    const char* format;
    const char* activations;
    const char* read; ///< the format that the folder is read as
    bool exactScales;
};
constexpr Case kCases[] = {
    {"gptq", "int4_g128", "float", "int4_g128", true},
    {"gptq", "int4_g32", "int8", "int4_g32", true},
    {"gptq", "int4_g64z", "float", "int4_g64z", true},
    {"gptq", "int8_g32", "float", "int8_g32", true},
    {"gptq", "int3_g64", "float", "int3_g64", true},
    {"gptq", "int3_g32z", "float", "int3_g32z", true},
    {"gptq", "int2_g32", "float", "int2_g32", true},
    {"gptq", "q4_0", "float", "int4_g32", true},
    {"gptq", "int4", "float", "int4", false},
    {"awq", "int4_g128", "float", "int4_g128z", true},
    {"awq", "int4_g32z", "float", "int4_g32z", true},
    {"compressed-tensors", "int4_g128", "float", "int4_g128", true},
    {"compressed-tensors", "int4_g64z", "float", "int4_g64z", true},
    {"compressed-tensors", "int8_g128", "float", "int8_g128", true},
    {"compressed-tensors", "int4", "float", "int4", false},
    {"compressed-tensors", "int8", "int8_token", "int8", true},
};

} // namespace

/// Folders for other engines: written, read again, and looked at raw.
class TestExportFolders : public QObject {
    Q_OBJECT
    std::unique_ptr<QTemporaryDir> m_folder;

    fs::path at(const char* name) const { return fs::path(m_folder->path().toStdString()) / name; }
    static std::shared_ptr<const Model> sample() { return openModel(sampleModelPath()); }

    std::shared_ptr<const Model> plainModel(uint64_t width, uint64_t feedForward) const {
        const fs::path path = at(("plain" + std::to_string(feedForward) + ".gguf").c_str());
        std::ofstream(path, std::ios::binary) << test::floatModel(width, feedForward);
        return openModel(path);
    }

    static void refuses(const std::function<void()>& write, ErrorKind kind,
                        std::initializer_list<const char*> says) {
        try {
            write();
        } catch (const Error& error) {
            QCOMPARE(error.kind(), kind);
            for (const char* word : says)
                QVERIFY2(std::string(error.what()).find(word) != std::string::npos, error.what());
            return;
        }
        QFAIL("nothing was refused");
    }

private slots:
    void init() { m_folder = std::make_unique<QTemporaryDir>(); }

    void codesAndScalesSurvive_data() {
        QTest::addColumn<int>("index");
        for (int i = 0; i < int(std::size(kCases)); ++i)
            QTest::addRow("%s %s", kCases[i].kind, kCases[i].format) << i;
    }
    void codesAndScalesSurvive() {
        QFETCH(int, index);
        const Case& c = kCases[index];
        const auto model = sample();
        const Recipe recipe = linear(c.format, c.activations);
        exportFolder(*model, recipe, c.kind, at("out"));
        QCOMPARE(filesIn(at("")), int64_t(1));
        const auto back = openModel(at("out"));
        back->requireRunnable();
        QVERIFY(back->config.ropeStyle == RopeStyle::Halves);
        QCOMPARE(back->keys().size(), model->keys().size());
        for (const TensorKey key : model->keys()) {
            const Tensor expected = asInFolder(*model, key, variantTensor(*model, recipe, key));
            const Tensor got = back->load(key);
            if (!isLinear(key)) {
                QCOMPARE(got.format, expected.format);
                QVERIFY(std::ranges::equal(got.codes.view(), expected.codes.view()));
                continue;
            }
            QCOMPARE(std::string(got.format->name), std::string(c.read));
            QVERIFY(std::ranges::equal(got.codes.view(), expected.codes.view()));
            QVERIFY(!got.columnOrder);
            if (c.exactScales) {
                QVERIFY(std::ranges::equal(got.scales.view(), expected.scales.view()));
                QVERIFY(decode(got) == decode(expected));
                continue;
            }
            for (int64_t row = 0; row < got.rows; ++row)
                QCOMPARE(
                    std::bit_cast<float>(rawScale(got, row, 0)),
                    halfToFloat(floatToHalf(std::bit_cast<float>(rawScale(expected, row, 0)))));
        }
        if (!c.exactScales)
            return;
        // The same weights and activations, so the same logits but for the order in which f32 sums
        // of reordered heads are taken: 1e-5 is 84 units in the last place.
        Recipe asItIs;
        if (std::string_view(c.activations) == "int8")
            return; // 8-bit activations in blocks, which the folder does not ask for
        const double error = test::relativeError(logits(back, asItIs), logits(model, recipe));
        QVERIFY2(error < 1e-5, qPrintable(QString::number(error)));
    }
    /// Files that llama.cpp's converter wrote, of every family that there is one of: the folder is
    /// the same model.
    void filesOfOtherConverters_data() {
        QTest::addColumn<QString>("name");
        for (const char* name :
             {"llama-gqa", "llama-rope-scaled", "qwen2-bias", "qwen3-qknorm", "gemma-1",
              "gemma2-softcap", "gemma3-swa", "phi3-fused", "granite-multipliers", "olmo2-postnorm",
              "smollm3-nope", "mixtral-moe", "qwen3moe"})
            QTest::addRow("%s", name) << QString(name);
    }
    void filesOfOtherConverters() {
        QFETCH(QString, name);
        const std::string path = "oracles/architectures/" + name.toStdString() + ".gguf";
        NIBBLE_NEED_SHARED(path.c_str());
        const auto model = openModel(test::sharedPath(path.c_str()));
        const Recipe recipe = linear("int4_g32");
        if (name == "llama-rope-scaled") { // factors that nobody published
            refuses([&] { exportFolder(*model, recipe, "compressed-tensors", at("out")); },
                    ErrorKind::Usage, {"config.json", "rotary factors"});
            QCOMPARE(filesIn(at("")), int64_t(0));
            return;
        }
        exportFolder(*model, recipe, "compressed-tensors", at("out"));
        const auto back = openModel(at("out"));
        back->requireRunnable();
        const double error = test::relativeError(logits(back, {}), logits(model, recipe));
        QVERIFY2(error < 1e-5, qPrintable(QString::number(error)));
    }
    void wordsAreThePublishedOnes() {
        const auto model = sample();
        const TensorKey key{Role::Down, 3};
        const std::string stem = "model.layers.3.mlp.down_proj.";
        const Recipe symmetric = linear("int4_g128"), zeros = linear("int4_g128z");
        exportFolder(*model, symmetric, "gptq", at("gptq"));
        exportFolder(*model, zeros, "gptq", at("gptqz"));
        exportFolder(*model, zeros, "awq", at("awq"));
        exportFolder(*model, zeros, "compressed-tensors", at("ct"));
        const RawFile gptq(at("gptq") / "model.safetensors"),
            gptqz(at("gptqz") / "model.safetensors"), awq(at("awq") / "model.safetensors"),
            ct(at("ct") / "model.safetensors");
        for (const RawFile* file : {&gptq, &gptqz, &awq, &ct})
            for (const auto& [name, entry] : file->header.items())
                if (name != "__metadata__") {
                    const std::string dtype = entry["dtype"];
                    const size_t size = dtype == "I64" ? 8 : dtype == "F16" ? 2 : 4;
                    QVERIFY2(entry["data_offsets"][0].get<size_t>() % size == 0, name.c_str());
                }
        const Tensor t = variantTensor(*model, symmetric, key),
                     z = variantTensor(*model, zeros, key);
        const std::vector<float> values = decode(t), valuesOfZeros = decode(z);
        const int64_t out = t.rows, in = t.cols;
        constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
        const auto half = [](const RawFile& file, const std::string& name, int64_t i) {
            return halfToFloat(file.at<uint16_t>(name, i));
        };
        for (int64_t i = 0; i < in / 128 * out / 8; ++i)
            QCOMPARE(gptq.at<uint32_t>(stem + "qzeros", i), 0x77777777u);
        for (int64_t i = 0; i < in; ++i)
            QCOMPARE(gptq.at<int32_t>(stem + "g_idx", i), int32_t(i / 128));
        for (int64_t o = 0; o < out; ++o)
            for (int64_t i = 0; i < in; ++i) {
                const int64_t g = i / 128, groups = in / 128;
                const auto field = [](uint32_t word, int64_t at) {
                    return int(word >> (4 * at) & 15);
                };
                const auto gptqCode = [&](const RawFile& file) {
                    return field(file.at<uint32_t>(stem + "qweight", i / 8 * out + o), i % 8);
                };
                QCOMPARE(half(gptq, stem + "scales", g * out + o) * float(gptqCode(gptq) - 8),
                         values[size_t(o * in + i)]);
                const float expected = valuesOfZeros[size_t(o * in + i)];
                const int zero =
                    field(gptqz.at<uint32_t>(stem + "qzeros", g * (out / 8) + o / 8), o % 8) + 1;
                QCOMPARE(half(gptqz, stem + "scales", g * out + o) * float(gptqCode(gptqz) - zero),
                         expected);
                const int64_t nibble = std::find(kOrder, kOrder + 8, o % 8) - kOrder;
                const int code =
                    field(awq.at<uint32_t>(stem + "qweight", i * (out / 8) + o / 8), nibble);
                const int point =
                    field(awq.at<uint32_t>(stem + "qzeros", g * (out / 8) + o / 8), nibble);
                QCOMPARE(half(awq, stem + "scales", g * out + o) * float(code - point), expected);
                const int q =
                    field(ct.at<uint32_t>(stem + "weight_packed", o * (in / 8) + i / 8), i % 8) - 8;
                const int zp =
                    field(ct.at<uint32_t>(stem + "weight_zero_point", o / 8 * groups + g), o % 8) -
                    8;
                QCOMPARE(half(ct, stem + "weight_scale", o * groups + g) * float(q - zp), expected);
            }
    }
    void configsSayWhatEnginesAsk() {
        const auto model = sample();
        exportFolder(*model, linear("int4_g128z"), "gptq", at("gptq"));
        const Json gptq = readJson(at("gptq") / "config.json");
        QCOMPARE(gptq["architectures"][0].get<std::string>(), std::string("LlamaForCausalLM"));
        QCOMPARE(gptq["hidden_size"].get<int>(), 256);
        QCOMPARE(gptq["rms_norm_eps"].get<double>(), 1e-5);
        QVERIFY(gptq["tie_word_embeddings"].get<bool>());
        QCOMPARE(gptq["torch_dtype"].get<std::string>(), std::string("float16"));
        const Json q = gptq["quantization_config"];
        QVERIFY(q == readJson(at("gptq") / "quantize_config.json"));
        QCOMPARE(q["bits"].get<int>(), 4);
        QCOMPARE(q["group_size"].get<int>(), 128);
        QVERIFY(!q["sym"].get<bool>() && !q["desc_act"].get<bool>());
        exportFolder(*model, linear("int4"), "gptq", at("rows"));
        QCOMPARE(
            readJson(at("rows") / "config.json")["quantization_config"]["group_size"].get<int>(),
            -1);

        Recipe mixed = linear("int4_g64");
        for (const Role role : {Role::Gate, Role::Up})
            mixed.set({role, 2}, {.match = "", .format = "f16"});
        exportFolder(*model, mixed, "awq", at("awq"));
        const Json awq = readJson(at("awq") / "config.json")["quantization_config"];
        QCOMPARE(awq["version"].get<std::string>(), std::string("gemm"));
        QVERIFY(awq["modules_to_not_convert"] ==
                Json({"model.layers.2.mlp.gate_proj", "model.layers.2.mlp.up_proj", "lm_head"}));
        const auto back = openModel(at("awq"));
        QCOMPARE(std::string(back->get({Role::Gate, 2}).type->name), std::string("f16"));

        exportFolder(*model, linear("int8", "int8_token"), "compressed-tensors", at("w8a8"));
        const Json ct = readJson(at("w8a8") / "config.json")["quantization_config"];
        QCOMPARE(ct["format"].get<std::string>(), std::string("int-quantized"));
        const Json group = ct["config_groups"]["group_0"];
        QVERIFY(group["targets"] == Json::array({"Linear"}));
        QCOMPARE(group["weights"]["strategy"].get<std::string>(), std::string("channel"));
        QCOMPARE(group["input_activations"]["strategy"].get<std::string>(), std::string("token"));
        QVERIFY(group["input_activations"]["dynamic"].get<bool>());
        QVERIFY(ct["ignore"] == Json::array({"lm_head"}));
    }
    /// One scale for the input of each layer: written, said so, and read again.
    void staticActivationsKeepTheirScales() {
        const auto model = sample();
        const auto calibration = std::make_shared<Calibration>();
        Random random(3);
        for (const TensorKey key : model->keys()) {
            if (!isMatrix(key.role))
                continue;
            InputStatistics& input = calibration->inputs[inputKey(key)];
            const auto cols = static_cast<size_t>(model->get(key).cols());
            input.meanSquare.assign(cols, 1);
            input.absMax.assign(cols, 5);
            input.samples.resize(cols * 4);
            for (float& x : input.samples)
                x = static_cast<float>(random.normal());
        }
        const Recipe recipe = linear("int8", "int8_static");
        refuses([&] { exportFolder(*model, recipe, "compressed-tensors", at("none")); },
                ErrorKind::Usage, {"blk.0.attn_q", "calibrat"});
        QVERIFY(neededCalibration(*model, recipe) == Needs::Statistics);
        exportFolder(*model, recipe, "compressed-tensors", at("static"), {}, calibration);

        const Json config = readJson(at("static") / "config.json")["quantization_config"];
        QCOMPARE(config["format"].get<std::string>(), std::string("int-quantized"));
        const Json activations = config["config_groups"]["group_0"]["input_activations"];
        QCOMPARE(activations["strategy"].get<std::string>(), std::string("tensor"));
        QVERIFY(!activations["dynamic"].get<bool>() && activations["symmetric"].get<bool>());
        const RawFile file(at("static") / "model.safetensors");
        const auto scale = [&](const char* name) {
            return file.at<float>(std::string("model.layers.3.") + name + ".input_scale", 0);
        };
        // Clipping at a half costs more than it gains where values are normal; clipping at nothing,
        // 5 of them, wastes steps.
        QVERIFY(scale("self_attn.q_proj") > 2.0f / 127 && scale("self_attn.q_proj") < 5.0f / 127);
        QCOMPARE(scale("self_attn.k_proj"), scale("self_attn.q_proj"));
        QCOMPARE(scale("mlp.up_proj"), scale("mlp.gate_proj"));

        const auto back = openModel(at("static"));
        QVERIFY(back->checkpoint->conversionNote().empty());
        Recipe asItIs;
        QVERIFY(neededCalibration(*back, asItIs) == Needs::Nothing);
        const TensorKey down{Role::Down, 3};
        QCOMPARE(back->load(down).inputScale, scale("mlp.down_proj"));
        QVERIFY(asItIs.choose(*back, down).activations == ActivationFormat::Int8Static);
        const double error =
            test::relativeError(logits(back, asItIs), logits(model, recipe, calibration));
        QVERIFY2(error < 1e-5, qPrintable(QString::number(error)));
        // A folder of such weights can be written from what was read.
        exportFolder(*back, asItIs, "compressed-tensors", at("again"));
        const RawFile again(at("again") / "model.safetensors");
        QCOMPARE(again.at<float>("model.layers.3.mlp.down_proj.input_scale", 0),
                 scale("mlp.down_proj"));
    }
    void outlierColumnsAreRefused() {
        Recipe recipe = linear("int8", "int8_token");
        recipe.rules.front().method = "llm_int8";
        refuses([&] { requireFolderFits(*sample(), recipe, "compressed-tensors"); },
                ErrorKind::Usage, {"blk.0.attn_q", "outlier columns", "rtn"});
    }
    void vocabulariesOfGgufsBecomeTokenizerFiles() {
        const auto same = [&](const std::shared_ptr<const Model>& model, const char* name,
                              const char* format) {
            exportFolder(*model, linear(format), "compressed-tensors", at(name));
            const auto back = openModel(at(name));
            QVERIFY(back->tokenizer);
            const Tokenizer &was = *model->tokenizer, &is = *back->tokenizer;
            for (const std::string& warning : is.info().warnings)
                QFAIL(warning.c_str());
            QCOMPARE(is.info().bos, was.info().bos);
            QCOMPARE(is.info().eos, was.info().eos);
            QCOMPARE(is.info().addBos, was.info().addBos);
            QCOMPARE(back->chatTemplate, model->chatTemplate);
            for (const char* text :
                 {"Once upon a time, 7 cats — ünder a tree.", "  two  spaces\n\tand\nlines ",
                  "It's 1234567 o'clock; naïve façade 日本語 🙂", "",
                  "<|im_start|>user\nhi<|im_end|>", "a</s>b<s>"})
                for (const bool special : {false, true}) {
                    QCOMPARE(is.encode(text, special), was.encode(text, special));
                    const auto tokens = was.encode(text, special);
                    QCOMPARE(is.decode(tokens, special), was.decode(tokens, special));
                }
        };
        same(sample(), "sample", "int4_g128");
        NIBBLE_NEED_SHARED("models/stories260K-f32.gguf");
        // Byte tokens and scores instead of merges; rows of 64 and 172 values.
        same(openModel(test::sharedPath("models/stories260K-f32.gguf")), "stories", "int8");
    }
    void aFolderKeepsItsOwnFiles() {
        NIBBLE_NEED_SHARED("models/TinyStories-656K");
        const fs::path base = test::sharedPath("models/TinyStories-656K");
        const auto model = openModel(base);
        const Recipe recipe = linear("int4_g32");
        exportFolder(*model, recipe, "awq", at("out"));
        for (const char* name :
             {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"})
            QCOMPARE(readTextFile(at("out") / name, 1 << 26), readTextFile(base / name, 1 << 26));
        const Json was = readJson(base / "config.json"), is = readJson(at("out") / "config.json");
        for (const auto& [key, value] : was.items())
            if (key != "torch_dtype")
                QVERIFY2(is[key] == value, key.c_str());
        const auto back = openModel(at("out"));
        for (const TensorKey key : model->keys())
            QVERIFY(decode(back->load(key)) == decode(variantTensor(*model, recipe, key)));
        // What was quantized can be exported again as it is, in another form too.
        exportFolder(*back, {}, "awq", at("again"));
        exportFolder(*back, {}, "compressed-tensors", at("other"));
        for (const char* name : {"again", "other"}) {
            const auto again = openModel(at(name));
            for (const TensorKey key : model->keys())
                QVERIFY(decode(again->load(key)) == decode(back->load(key)));
        }
    }
    void actOrderSurvives() {
        const auto model = sample();
        exportFolder(*model, linear("int4_g32"), "gptq", at("plain"));
        // The same file with the columns of every layer dealt out to the groups.
        const fs::path file = at("plain") / "model.safetensors";
        RawFile raw(file);
        const std::string whole = [&] {
            std::ifstream in(file, std::ios::binary);
            return std::string(std::istreambuf_iterator<char>(in), {});
        }();
        std::string changed = whole;
        const size_t start = whole.size() - raw.bytes.size();
        for (const auto& [name, entry] : raw.header.items())
            if (name.ends_with(".g_idx")) {
                const int64_t in = entry["shape"][0];
                for (int64_t i = 0; i < in; ++i) {
                    const auto group = int32_t((i * 5 + 3) % in / 32);
                    std::memcpy(changed.data() + start + entry["data_offsets"][0].get<size_t>() +
                                    size_t(i) * 4,
                                &group, 4);
                }
            }
        std::ofstream(file, std::ios::binary) << changed;
        const auto ordered = openModel(at("plain"));
        QVERIFY(ordered->load({Role::Up, 1}).columnOrder);
        for (const float value : logits(ordered, {}))
            QVERIFY(std::isfinite(value));
        exportFolder(*ordered, {}, "gptq", at("again"));
        QVERIFY(
            readJson(at("again") / "config.json")["quantization_config"]["desc_act"].get<bool>());
        const auto again = openModel(at("again"));
        for (const TensorKey key : model->keys()) {
            const Tensor a = ordered->load(key), b = again->load(key);
            QVERIFY(std::ranges::equal(a.codes.view(), b.codes.view()));
            QVERIFY(!a.columnOrder || *a.columnOrder == *b.columnOrder);
            QVERIFY(decode(a) == decode(b));
        }
        for (const char* kind : {"awq", "compressed-tensors"})
            refuses([&] { exportFolder(*ordered, {}, kind, at("never")); }, ErrorKind::Usage,
                    {"act-order", "blk.0.attn_q"});
    }
    void shardsAndTheirIndex() {
        const auto model = sample();
        const Recipe recipe = linear("int4_g128");
        exportFolder(*model, recipe, "gptq", at("out"), {}, nullptr, {}, 600'000);
        const Json index = readJson(at("out") / "model.safetensors.index.json");
        QVERIFY(!fs::exists(at("out") / "model.safetensors"));
        std::set<std::string> files;
        for (const auto& [tensor, file] : index["weight_map"].items())
            files.insert(file.get<std::string>());
        QVERIFY(files.size() > 3);
        const QString last =
            QString("model-%1-of-%1.safetensors").arg(files.size(), 5, 10, QChar('0'));
        QCOMPARE(QString::fromStdString(*files.rbegin()), last);
        const auto back = openModel(at("out"));
        for (const TensorKey key : model->keys())
            QVERIFY(decode(back->load(key)) ==
                    decode(asInFolder(*model, key, variantTensor(*model, recipe, key))));
    }
    void recipesThatDoNotFitAreNamed() {
        const auto model = sample();
        const auto refused = [&](const Recipe& recipe, const char* kind,
                                 std::initializer_list<const char*> says) {
            refuses([&] { exportFolder(*model, recipe, kind, at("never")); }, ErrorKind::Usage,
                    says);
            refuses([&] { requireFolderFits(*model, recipe, kind); }, ErrorKind::Usage, says);
            QCOMPARE(filesIn(at("")), int64_t(0));
        };
        refused(linear("q4_k"), "gptq", {"blk.0.attn_q", "q4_k", "int4_g128"});
        refused(linear("int8_g32"), "awq", {"int8_g32", "int4_g128"});
        refused(linear("int4_g16"), "awq", {"groups of 32, 64 or 128"});
        refused(linear("int4"), "awq", {"groups of 32, 64 or 128"});
        refused(linear("nf4"), "compressed-tensors", {"nf4", "int8"});
        refused(linear("int3_g64"), "compressed-tensors", {"int3_g64"});
        refused(linear("f16"), "awq", {"no linear layer"});
        refused(linear("int4_g128"), "ggml", {"gguf, gptq, awq, compressed-tensors"});
        Recipe recipe = linear("int4_g128");
        recipe.set({Role::TokenEmbedding, -1}, {.match = "", .format = "int8_g32"});
        refused(recipe, "gptq", {"token_embd", "int8_g32", "Choose f16"});
        recipe = linear("int4_g128");
        recipe.set({Role::Down, 4}, {.match = "", .format = "int4_g64"});
        refused(recipe, "gptq", {"blk.4.ffn_down", "int4_g64", "alike"});
        recipe.set({Role::Down, 4}, {.match = "", .format = "f16"});
        refused(recipe, "gptq", {"blk.4.ffn_down", "f16"});
        requireFolderFits(*model, recipe, "awq");
        recipe.set({Role::Up, 4}, {.match = "", .format = "f16"});
        refused(recipe, "awq", {"blk.4.ffn_gate", "blk.4.ffn_up", "one matrix"});
    }
    void nothingIsLeftAndNothingIsLost() {
        const auto model = sample();
        const Recipe recipe = linear("int4_g128");
        // A file, and a folder of other things, are not touched.
        std::ofstream(at("file")) << "mine";
        fs::create_directory(at("folder"));
        std::ofstream(at("folder") / "letter.txt") << "mine";
        for (const char* name : {"file", "folder"})
            refuses([&] { exportFolder(*model, recipe, "gptq", at(name)); }, ErrorKind::CannotWrite,
                    {name, "choose another name"});
        refuses([&] { exportFolder(*model, recipe, "gptq", at("no") / "such" / "place"); },
                ErrorKind::CannotWrite, {"place"});
        QCOMPARE(filesIn(at("")), int64_t(2));
        // An empty folder is taken, and an earlier export replaced only by a whole one.
        fs::create_directory(at("out"));
        exportFolder(*model, recipe, "gptq", at("out"));
        const auto when = fs::last_write_time(at("out") / "model.safetensors");
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(false);
        progress.onReport = [&](double done, double, std::string_view) {
            if (done >= 5)
                *progress.cancel = true;
        };
        refuses([&] { exportFolder(*model, recipe, "awq", at("out"), progress); },
                ErrorKind::Cancelled, {});
        // A full disk: files end after 100 kB.
        std::signal(SIGXFSZ, SIG_IGN);
        rlimit was;
        getrlimit(RLIMIT_FSIZE, &was);
        rlimit small{100'000, was.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        refuses([&] { exportFolder(*model, recipe, "awq", at("out")); }, ErrorKind::CannotWrite,
                {"model.safetensors"});
        setrlimit(RLIMIT_FSIZE, &was);
        QVERIFY(fs::last_write_time(at("out") / "model.safetensors") == when);
        QCOMPARE(filesIn(at("")), int64_t(3));
        exportFolder(*model, recipe, "awq", (at("out").string() + "/"));
        QCOMPARE(filesIn(at("")), int64_t(3));
        QVERIFY(!fs::exists(at("out") / "quantize_config.json"));
        openModel(at("out"))->requireRunnable();
        // Its own base is never replaced.
        const auto base = openModel(at("out"));
        refuses([&] { exportFolder(*base, {}, "awq", at("out")); }, ErrorKind::Usage, {"base"});
    }
    /// Rows that groups of 128 do not divide: all layers take 64, and the user is told.
    void oneSizeOfGroupsFitsAll_data() {
        QTest::addColumn<QString>("kind");
        QTest::addColumn<QString>("format");
        QTest::addColumn<QString>("taken");
        QTest::newRow("gptq") << "gptq"
                              << "int4_g128"
                              << "int4_g64";
        QTest::newRow("awq") << "awq"
                             << "int4_g128z"
                             << "int4_g64z";
        QTest::newRow("compressed-tensors") << "compressed-tensors"
                                            << "int4_g128"
                                            << "int4_g64";
    }
    void oneSizeOfGroupsFitsAll() {
        QFETCH(QString, kind);
        QFETCH(QString, format);
        QFETCH(QString, taken);
        const std::string name = kind.toStdString();
        const ExportTarget& target = getExportTarget(name);
        // 192 = 3 · 64, as in models of width 576; 256 columns would divide by 128.
        const auto model = plainModel(192, 256);
        const Recipe recipe = linear(format.toUtf8().constData());
        const FolderGroups grouped = withOneGroup(*model, recipe, target);
        QVERIFY2(grouped.note.find("192 columns") != std::string::npos &&
                     grouped.note.find(taken.toStdString()) != std::string::npos,
                 grouped.note.c_str());
        requireFolderFits(*model, recipe, name);
        exportFolder(*model, recipe, name, at("out"));
        const auto back = openModel(at("out"));
        for (const TensorKey key : back->keys())
            if (isLinear(key))
                QCOMPARE(QString(back->load(key).format->name), taken);
        QVERIFY(Recipe::fromJson(readJson(at("out") / "nibble-receipt.json")["recipe"].dump(),
                                 "receipt") == grouped.recipe);
        // Where they divide, or one size does not come from a fallback, nothing is changed.
        const auto wide = plainModel(128, 256);
        QVERIFY(withOneGroup(*wide, recipe, target).recipe == recipe);
        QVERIFY(withOneGroup(*wide, recipe, target).note.empty());
    }
    void columnsThatNoGroupDividesAreNamed() {
        const auto model = plainModel(128, 376);
        const std::pair<const char*, const char*> cases[] = {
            {"gptq", "int8"}, {"awq", "q4_0"}, {"compressed-tensors", "int8"}};
        for (const auto& [kind, fits] : cases) {
            refuses([&] { requireFolderFits(*model, linear("int4_g128"), kind); }, ErrorKind::Usage,
                    {"blk.0.ffn_down has 376 columns, which do not divide into groups of 128, 64 "
                     "or 32",
                     fits});
            requireFolderFits(*model, folderRecipe(levelRecipe(fits, *model)), kind);
        }
        // No AWQ folder can hold any level of this model, so that other kinds are named.
        refuses([&] { requireFolderFits(*plainModel(128, 380), linear("int4_g64"), "awq"); },
                ErrorKind::Usage,
                {"groups of 64 or 32;", "No level of this model fits an AWQ folder",
                 "a compressed-tensors folder (--export compressed-tensors) can hold int8"});
    }
    /// The level's method cannot make what takes the place of its format.
    void aFallbackIsMadeByAMethodThatCan() {
        const auto model = plainModel(128, 376);
        const Recipe recipe = levelRecipe("hqq", *model);
        const TensorKey down{Role::Down, 0}, up{Role::Up, 0};
        QCOMPARE(std::string(recipe.choose(*model, up).method->name), std::string("hqq"));
        QCOMPARE(std::string(recipe.choose(*model, down).method->name), std::string("rtn"));
        QCOMPARE(variantTensor(*model, recipe, down).format, recipe.choose(*model, down).format);
    }
    /// Every level is tried with every kind of file, and the README has what came out.
    void theReadmeKnowsWhichLevelsFit() {
        const auto model = sample();
        const std::string readme = readTextFile(NIBBLE_SOURCE_DIR "/README.md", 1 << 20);
        for (const std::string_view kind : exportContainers()) {
            std::string row = "| `" + std::string(kind) + "` | ";
            bool isFirst = true;
            const auto said = levelsFor(*model, kind);
            for (const Level& level : levels()) {
                Recipe recipe = level.make(*model);
                if (kind != "gguf")
                    recipe = folderRecipe(recipe);
                // Formats decide; without a calibration they are made by rounding.
                for (RecipeRule& rule : recipe.rules) {
                    if (getMethod(rule.method).needs != Needs::Nothing &&
                        !getMethod(rule.method).keepsOutliers())
                        rule.method = "rtn";
                    if (rule.activations == "int8_static")
                        rule.activations = "int8_token";
                }
                bool fits = true;
                try {
                    if (kind == "gguf")
                        exportGguf(*model, recipe, at("out.gguf"));
                    else
                        exportFolder(*model, recipe, kind, at("out"));
                } catch (const Error& error) {
                    QCOMPARE(error.kind(), ErrorKind::Usage);
                    fits = false;
                    // Whoever is refused is told of levels that are not.
                    for (const Level* other : said)
                        QVERIFY2(std::string(error.what()).find(other->name) != std::string::npos,
                                 error.what());
                }
                QCOMPARE(std::ranges::find(said, &level) != said.end(), fits);
                if (fits)
                    row += (isFirst ? "" : ", ") + std::string(level.name);
                isFirst = isFirst && !fits;
            }
            QVERIFY2(readme.find(row + " |\n") != std::string::npos,
                     ("README.md lacks this row:\n" + row + " |").c_str());
        }
    }
    void filesOfTheUsersStay() {
        const auto model = sample();
        const Recipe recipe = linear("int4_g128");
        const fs::path out = at("out");
        const auto mine = [&](const char* name) {
            fs::create_directories((out / name).parent_path());
            std::ofstream(out / name) << "mine";
        };
        exportFolder(*model, recipe, "gptq", out);
        const std::vector<const char*> names{"notes.txt", "README.md", ".git/HEAD",
                                             "adapter_model.safetensors"};
        for (const char* name : names)
            mine(name);
        mine("vocab.json"); // which other exports write, but not this one
        exportFolder(*model, recipe, "awq", out);
        QVERIFY(!fs::exists(out / "quantize_config.json")); // of the first
        // Of an export that did not list its files, the usual names are its own.
        Json receipt = readJson(out / "nibble-receipt.json");
        receipt.erase("files");
        std::ofstream(out / "nibble-receipt.json") << receipt.dump();
        for (const char* name :
             {"quantize_config.json", "merges.txt", "model-00001-of-00002.safetensors"})
            std::ofstream(out / name) << "old";
        QCOMPARE(readTextFile(out / "vocab.json", 100), std::string("mine"));
        exportFolder(*model, recipe, "compressed-tensors", out);
        for (const char* name : names)
            QCOMPARE(readTextFile(out / name, 100), std::string("mine"));
        QCOMPARE(filesIn(out), int64_t(7 + 4));
        QCOMPARE(filesIn(at("")), int64_t(1));
        QCOMPARE(
            openModel(out)->checkpoint->metadata.stringOr("quantization_config.quant_method", ""),
            std::string("compressed-tensors"));
    }
    /// What an export left that was killed half-way is no user's file.
    void unfinishedFoldersAreRemoved() {
        const auto model = sample();
        const pid_t dead = fork();
        if (dead == 0)
            _exit(0);
        waitpid(dead, nullptr, 0);
        const fs::path part = at(("out.part-" + std::to_string(dead)).c_str());
        fs::create_directory(part);
        for (const std::string name :
             {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors.part-77",
              "tokenizer.json", "config.json.part-77"})
            std::ofstream(part / name) << "half";
        exportFolder(*model, linear("int4_g128"), "gptq", at("out"));
        QCOMPARE(filesIn(at("")), int64_t(1));
        QCOMPARE(filesIn(at("out")), int64_t(8));
    }
    void receiptsTellHowItWasMade() {
        const auto model = sample();
        const Recipe recipe = linear("int4_g128");
        const ExportNotes notes{"0123456789abcdef", R"({"kld_mean":0.0125})"};
        exportFolder(*model, recipe, "gptq", at("out"), {}, nullptr, notes);
        exportGguf(*model, levelRecipe("q4_0", *model), at("out.gguf"), {}, nullptr, notes);
        Json folder = readJson(at("out") / "nibble-receipt.json");
        // Which files are its own only the folder's receipt says, for the next export.
        QVERIFY(folder["files"] ==
                Json({"config.json", "generation_config.json", "model.safetensors",
                      "quantize_config.json", "special_tokens_map.json", "tokenizer.json",
                      "tokenizer_config.json", "nibble-receipt.json"}));
        folder.erase("files");
        const Json ofFile = readJson(at("out.gguf.receipt.json"));
        const Json inside = RawFile(at("out") / "model.safetensors").header["__metadata__"];
        QCOMPARE(inside["format"].get<std::string>(), std::string("pt"));
        QVERIFY(Json::parse(inside["nibble.receipt"].get<std::string>()) == folder);
        QVERIFY(
            Json::parse(openCheckpoint(at("out.gguf"))->metadata.stringOr("nibble.receipt", "")) ==
            ofFile);
        QCOMPARE(folder["container"].get<std::string>(), std::string("gptq"));
        QCOMPARE(ofFile["container"].get<std::string>(), std::string("gguf"));
        for (const Json& receipt : {folder, ofFile}) {
            QCOMPARE(receipt["base"]["name"].get<std::string>(), model->name);
            QCOMPARE(receipt["base"]["hash"].get<std::string>().size(), size_t(16));
            QCOMPARE(receipt["calibration"]["hash"].get<std::string>(), notes.calibration);
            QCOMPARE(receipt["measurements"]["kld_mean"].get<double>(), 0.0125);
            QVERIFY(!receipt["version"].get<std::string>().empty());
        }
        QVERIFY(Recipe::fromJson(folder["recipe"].dump(), "receipt") == recipe);
        // Another base has another hash, be it only by its codes.
        exportFolder(*model, recipe, "gptq", at("same"));
        const auto one = openCheckpoint(at("out")), same = openCheckpoint(at("same"));
        QCOMPARE(checkpointHash(*one), checkpointHash(*same));
        const fs::path file = at("same") / "model.safetensors";
        std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
        const RawFile raw(file);
        const auto begin = raw.header["model.layers.0.mlp.up_proj.qweight"]["data_offsets"][0];
        stream.seekp(std::streamoff(fs::file_size(file) - raw.bytes.size() + begin.get<size_t>()));
        stream.put('\x5a').put('\xa5');
        stream.close();
        QVERIFY(checkpointHash(*openCheckpoint(at("same"))) != checkpointHash(*one));
        QVERIFY(checkpointHash(*openCheckpoint(at("out.gguf"))) !=
                checkpointHash(*model->checkpoint));
        const Json without = Json::parse(receiptJson(*model, recipe, "gguf", nullptr, {}));
        QVERIFY(without["calibration"].is_null() && without["measurements"].is_null());
    }
};

QTEST_GUILESS_MAIN(TestExportFolders)
#include "test_export_folders.moc"
