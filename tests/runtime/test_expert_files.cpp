// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1
#include "core/quant/recipe.h"
#include "tests/runtime/family_switches.h"
#include "tests/support/packed_folder.h"

#include <QTemporaryDir>

using namespace nibble;
using namespace nibble::test;

namespace {

/// Experts in MXFP4: codes of four bits, and a power of two for 32 of them.
struct Mxfp4 {
    std::vector<uint8_t> codes, exponents;

    float value(size_t i) const {
        constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
        const float size = kValues[codes[i] & 7] * std::ldexp(1.0f, exponents[i / 32] - 127);
        return codes[i] & 8 ? -size : size;
    }
};

using Mxfp4s = std::map<std::string, Mxfp4>; ///< by the name in PlainTensors

/// Puts random ones in the places of the experts' matrices.
Mxfp4s makePacked(PlainTensors& tensors) {
    Mxfp4s all;
    Random random(77);
    for (auto& [name, tensor] : tensors) {
        if (!isOfExpert(name) || !name.ends_with(".weight"))
            continue;
        Mxfp4& packed = all[name];
        for (size_t i = 0; i < tensor.values.size(); ++i) {
            packed.codes.push_back(static_cast<uint8_t>(random.next() >> 60));
            if (i % 32 == 0)
                packed.exponents.push_back(static_cast<uint8_t>(122 + (random.next() >> 40) % 3));
        }
        for (size_t i = 0; i < tensor.values.size(); ++i)
            tensor.values[i] = packed.value(i);
    }
    return all;
}

/// The folder of a model whose experts are packed, as OpenAI publishes it.
PackedFolder packedFolder(const Family& f, const PlainTensors& tensors, const Mxfp4s& packed) {
    PackedFolder folder;
    for (const auto& [name, tensor] : withStacks(f, tensors))
        if (name.ends_with("_proj"))
            continue;
        else
            folder.add(name, "F32", tensor.dims, tensor.values);
    const auto put = [&](const std::string& in, const std::string& to,
                         std::initializer_list<const char*> roles) {
        std::vector<uint8_t> blocks, scales;
        std::vector<int64_t> dims;
        for (int e = 0; e < f.shape.experts; ++e) {
            const std::string one = in + std::to_string(e) + ".";
            dims = tensors.at(one + *roles.begin() + ".weight").dims;
            for (int64_t row = 0; row < dims[0]; ++row)
                for (const char* role : roles) {
                    const Mxfp4& m = packed.at(one + role + ".weight");
                    for (int64_t i = row * dims[1]; i < (row + 1) * dims[1]; i += 2)
                        blocks.push_back(
                            static_cast<uint8_t>(m.codes[size_t(i)] | m.codes[size_t(i + 1)] << 4));
                    const auto from = m.exponents.begin() + row * dims[1] / 32;
                    scales.insert(scales.end(), from, from + dims[1] / 32);
                }
        }
        const int64_t rows = dims[0] * int64_t(roles.size()), groups = dims[1] / 32;
        folder.add(in + to + "_blocks", "U8", {f.shape.experts, rows, groups, 16}, blocks);
        folder.add(in + to + "_scales", "U8", {f.shape.experts, rows, groups}, scales);
    };
    for (int layer = 0; layer < f.shape.layers; ++layer) {
        const std::string in = "model.layers." + std::to_string(layer) + ".mlp.experts.";
        put(in, "gate_up_proj", {"gate_proj", "up_proj"});
        put(in, "down_proj", {"down_proj"});
    }
    Json config = configOf(f);
    config["quantization_config"] = {{"quant_method", "mxfp4"},
                                     {"modules_to_not_convert", {"model.layers.*.self_attn"}}};
    folder.config = config.dump();
    return folder;
}

/// Blocks of a GGUF file: the exponent, then values i and i + 16 in a byte.
std::vector<uint8_t> blocksOf(const Mxfp4& packed) {
    std::vector<uint8_t> out;
    for (size_t block = 0; block < packed.exponents.size(); ++block) {
        out.push_back(packed.exponents[block]);
        const uint8_t* codes = packed.codes.data() + block * 32;
        for (int i = 0; i < 16; ++i)
            out.push_back(static_cast<uint8_t>(codes[i] | codes[i + 16] << 4));
    }
    return out;
}

/// gpt-oss as a GGUF file, its experts stacked (and packed, where `packed` has them).
void writeGptOss(const Family& f, const PlainTensors& tensors, const std::filesystem::path& path,
                 const Mxfp4s& packed = {}) {
    Metadata m;
    const auto put = [&](const char* key, auto value, uint32_t type) {
        m.entries[key] = {.value = value, .storedType = type};
    };
    constexpr uint32_t kUint32 = 4, kFloat32 = 6, kText = 8;
    put("general.architecture", std::string("gpt-oss"), kText);
    const std::pair<const char*, int64_t> counts[] = {
        {"gpt-oss.block_count", f.shape.layers},
        {"gpt-oss.embedding_length", f.shape.width},
        {"gpt-oss.feed_forward_length", f.shape.feedForward},
        {"gpt-oss.expert_feed_forward_length", f.shape.feedForward},
        {"gpt-oss.attention.head_count", f.shape.heads},
        {"gpt-oss.attention.head_count_kv", f.shape.kvHeads},
        {"gpt-oss.attention.key_length", f.shape.headSize},
        {"gpt-oss.attention.value_length", f.shape.headSize},
        {"gpt-oss.context_length", 256},
        {"gpt-oss.expert_count", f.shape.experts},
        {"gpt-oss.expert_used_count", f.shape.expertsUsed},
        {"gpt-oss.attention.sliding_window", 8},
        {"gpt-oss.rope.scaling.original_context_length", 32}};
    for (const auto& [key, value] : counts)
        put(key, value, kUint32);
    const std::pair<const char*, double> numbers[] = {
        {"gpt-oss.attention.layer_norm_rms_epsilon", 1e-5},
        {"gpt-oss.rope.freq_base", 10000},
        {"gpt-oss.rope.scaling.factor", 4},
        {"gpt-oss.rope.scaling.yarn_beta_fast", 4},
        {"gpt-oss.rope.scaling.yarn_beta_slow", 1}};
    for (const auto& [key, value] : numbers)
        put(key, value, kFloat32);
    put("gpt-oss.rope.scaling.type", std::string("yarn"), kText);

    std::vector<GgufTensor> table;
    std::vector<Bytes> contents;
    const auto write = [&](const std::string& name, std::vector<int64_t> dims,
                           std::vector<float> values) {
        contents.push_back(Bytes::of(std::move(values)));
        table.push_back(
            {name, std::move(dims), blockTypeOf(getFormat("f32")), contents.back().size()});
    };
    const auto copy = [&](const std::string& name, const std::string& from) {
        write(name, tensors.at(from).dims, tensors.at(from).values);
    };
    copy("token_embd.weight", "model.embed_tokens.weight");
    copy("output_norm.weight", "model.norm.weight");
    copy("output.weight", "lm_head.weight");
    for (int layer = 0; layer < f.shape.layers; ++layer) {
        const std::string in = "model.layers." + std::to_string(layer) + ".",
                          to = "blk." + std::to_string(layer) + ".";
        copy(to + "attn_norm.weight", in + "input_layernorm.weight");
        copy(to + "post_attention_norm.weight", in + "post_attention_layernorm.weight");
        copy(to + "attn_sinks.weight", in + "self_attn.sinks");
        for (const std::string part : {".weight", ".bias"}) {
            copy(to + "attn_q" + part, in + "self_attn.q_proj" + part);
            copy(to + "attn_k" + part, in + "self_attn.k_proj" + part);
            copy(to + "attn_v" + part, in + "self_attn.v_proj" + part);
            copy(to + "attn_output" + part, in + "self_attn.o_proj" + part);
            copy(to + "ffn_gate_inp" + part, in + "mlp.router" + part);
            for (const std::string role : {"gate", "up", "down"}) {
                std::vector<float> all;
                std::vector<uint8_t> blocks;
                std::vector<int64_t> dims;
                for (int e = 0; e < f.shape.experts; ++e) {
                    const std::string name =
                        in + "mlp.experts." + std::to_string(e) + "." + role + "_proj" + part;
                    const PlainTensor& one = tensors.at(name);
                    all.insert(all.end(), one.values.begin(), one.values.end());
                    dims = one.dims;
                    if (const auto at = packed.find(name); at != packed.end()) {
                        const std::vector<uint8_t> own = blocksOf(at->second);
                        blocks.insert(blocks.end(), own.begin(), own.end());
                    }
                }
                dims.insert(dims.begin(), f.shape.experts);
                const std::string name = to + "ffn_" + role + "_exps" + part;
                if (blocks.empty()) {
                    write(name, dims, std::move(all));
                    continue;
                }
                contents.push_back(Bytes::of(std::move(blocks)));
                table.push_back(
                    {name, dims, blockTypeOf(getFormat("mxfp4")), contents.back().size()});
            }
        }
    }
    writeGguf(path, m, table, [&](size_t index) { return contents[index]; });
}

/// The same file as it was before experts were stacked, with one tensor for each; `change` may
/// change tensors, or leave them out (false).
void unstack(const Checkpoint& file, const std::filesystem::path& path,
             const std::function<bool(GgufTensor&, Bytes&)>& change = {}) {
    std::vector<GgufTensor> table;
    std::vector<Bytes> contents;
    const auto add = [&](GgufTensor tensor, Bytes bytes) {
        if (change && !change(tensor, bytes))
            return;
        table.push_back(std::move(tensor));
        contents.push_back(std::move(bytes));
    };
    for (const TensorInfo& info : file.tensors) {
        const size_t at = info.name.find("_exps");
        if (at == std::string::npos) {
            add({info.name, info.dims, info.type, info.bytes.size()}, info.bytes);
            continue;
        }
        const uint64_t each = info.bytes.size() / static_cast<uint64_t>(info.experts());
        for (int64_t e = 0; e < info.experts(); ++e) {
            std::string name = info.name;
            name.replace(at, 5, "." + std::to_string(e));
            add({name, {info.dims[1], info.dims[2]}, info.type, each},
                info.bytes.slice(static_cast<uint64_t>(e) * each, each));
        }
    }
    writeGguf(path, file.metadata, table, [&](size_t index) { return contents[index]; });
}

} // namespace

/// The ways in which files keep the experts of gpt-oss and mixtral.
class TestExpertFiles : public QObject {
    Q_OBJECT
    std::vector<Family> m_families = families();

private slots:

    void gptOssFromGguf() {
        const Family f = gptOss();
        const PlainTensors tensors = randomTensors(f);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        writeGptOss(f, tensors, path / "model.gguf");
        const std::vector<TokenId> tokens = prompt();
        const std::vector<float> expected =
            PlainDecoder(f.facts, f.shape, f.names, tensors)
                .logits(std::vector<int>(tokens.begin(), tokens.end()));
        const auto model = openModel(path / "model.gguf");
        QCOMPARE(model->unsupported, std::string());
        checkBackends(model, expected);
        checkSwitches(model, expected);
        exportGguf(*model, Recipe{}, path / "again.gguf", {});
        QVERIFY(logitsOf(openModel(path / "again.gguf"), openCpu()) == logitsOf(model, openCpu()));
        NIBBLE_NEED_LAVAPIPE(backend);
        QVERIFY(relativeError(logitsOf(model, backend), expected) < kRounding);
        checkApart(model, backend, expected);
    }

    /// Packed experts run as they are: the planes are those of the same model in a GGUF file.
    void gptOssPacked() {
        const Family f = gptOss();
        PlainTensors tensors = randomTensors(f);
        const Mxfp4s packed = makePacked(tensors);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const auto model = openModel(packedFolder(f, tensors, packed).write(path / "folder"));
        QCOMPARE(model->unsupported, std::string());
        const std::vector<TokenId> tokens = prompt();
        checkBackends(model, PlainDecoder(f.facts, f.shape, f.names, tensors)
                                 .logits(std::vector<int>(tokens.begin(), tokens.end())));
        QCOMPARE(model->get({Role::Up, 0, 0}).storedText(), std::string("mxfp4"));
        writeGptOss(f, tensors, path / "model.gguf", packed);
        const auto file = openModel(path / "model.gguf");
        int compared = 0;
        for (const TensorKey key : model->keys()) {
            const Tensor a = model->load(key), b = file->load(key);
            QCOMPARE(std::string(a.format->name), std::string(b.format->name));
            QVERIFY(sameBytes(a.codes, b.codes) && sameBytes(a.scales, b.scales));
            compared += a.format == &getFormat("mxfp4");
        }
        QCOMPARE(compared, 3 * f.shape.layers * f.shape.experts);
        const auto logits = logitsOf(model, openCpu());
        QVERIFY(logitsOf(file, openCpu()) == logits);
        exportGguf(*model, Recipe{}, path / "again.gguf", {});
        const auto again = openModel(path / "again.gguf");
        QCOMPARE(std::string(again->get({Role::Up, 0, 0}).type->name), std::string("mxfp4"));
        QVERIFY(logitsOf(again, openCpu()) == logits);
        NIBBLE_NEED_LAVAPIPE(backend);
        QVERIFY(relativeError(logitsOf(model, backend), logits) < kRounding);
    }

    void gptOssDamageIsNamed_data() {
        QTest::addColumn<QString>("tensor");
        QTest::addColumn<int>("halves"); ///< this dimension; −1: the tensor is missing
        QTest::addColumn<QString>("says");
        const QString in = "model.layers.1.mlp.experts.";
        QTest::addRow("scales are missing") << in + "down_proj_scales" << -1 << "is missing beside";
        QTest::addRow("blocks are missing")
            << in + "gate_up_proj_blocks" << -1 << "\"" + in + "gate_up_proj_blocks\" is missing";
        QTest::addRow("a bias is missing")
            << in + "gate_up_proj_bias" << -1 << "\"" + in + "gate_up_proj_bias\" is missing";
        QTest::addRow("blocks of another width")
            << in + "down_proj_blocks" << 3 << "[4, 64, 3, 8], where [4, 64, 3, 16]";
        QTest::addRow("fewer blocks than scales")
            << in + "gate_up_proj_blocks" << 1 << "[4, 96, 2, 16], where [4, 192, 2, 16]";
        QTest::addRow("scales of fewer experts")
            << in + "gate_up_proj_scales" << 0 << "[4, 192, 2, 16], where [2, 192, 2, 16]";
        QTest::addRow("biases of fewer rows") << in + "gate_up_proj_bias" << 1
                                              << "is [4, 96], but the model's configuration asks "
                                                 "for [4, 192]";
    }
    void gptOssDamageIsNamed() {
        QFETCH(QString, tensor);
        QFETCH(int, halves);
        QFETCH(QString, says);
        const Family f = gptOss();
        PlainTensors tensors = randomTensors(f);
        const Mxfp4s packed = makePacked(tensors);
        PackedFolder folder = packedFolder(f, tensors, packed);
        const auto at = folder.tensors.find(tensor.toStdString());
        QVERIFY(at != folder.tensors.end());
        if (halves < 0) {
            folder.tensors.erase(at);
        } else {
            at->second.dims[size_t(halves)] /= 2;
            at->second.bytes.resize(at->second.bytes.size() / 2);
        }
        const QTemporaryDir place;
        const auto path = folder.write(place.path().toStdString());
        try {
            openModel(path);
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(QString(error.what()).contains(says), error.what());
            return;
        }
        QFAIL("it was opened");
    }

    /// Stacks of floats of other shapes, and settings that the forward pass does not have.
    void gptOssMisfitsAreNamed() {
        const Family f = gptOss();
        const QTemporaryDir place;
        const std::filesystem::path path = place.path().toStdString();
        Family other = f;
        other.config["swiglu_limit"] = 5.0;
        writeFolder(other, randomTensors(f), path);
        QVERIFY(openModel(path)->unsupported.find("\"swiglu_limit\" of 5") != std::string::npos);
        other = f;
        other.config["num_local_experts"] = 3;
        writeFolder(other, randomTensors(f), path);
        QVERIFY_EXCEPTION_THROWN(openModel(path), Error);
        other = f;
        other.shape.feedForward = 48;
        writeFolder(other, randomTensors(f), path);
        try {
            openModel(path);
            QFAIL("it was opened");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(QString(error.what()).contains("asks for [4, 48, 64]"), error.what());
        }
    }

    /// Old files keep one tensor an expert; what is written from them is stacked.
    void unstackedExperts() {
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const Family& f =
            *std::ranges::find(m_families, "MixtralForCausalLM", &Family::huggingFaceClass);
        writeFolder(f, randomTensors(f), path);
        exportGguf(*openModel(path), Recipe{}, path / "stacked.gguf", {});
        const auto stacked = openModel(path / "stacked.gguf");
        unstack(*stacked->checkpoint, path / "old.gguf");
        const auto old = openModel(path / "old.gguf");
        QCOMPARE(old->unsupported, std::string());
        QVERIFY(!old->checkpoint->find("blk.0.ffn_gate_exps.weight"));
        QCOMPARE(old->get({Role::Gate, 1, 3}).name, std::string("blk.1.ffn_gate.3.weight"));
        QVERIFY(std::ranges::equal(old->keys(), stacked->keys()));
        const auto logits = logitsOf(stacked, openCpu());
        QVERIFY(logitsOf(old, openCpu()) == logits);

        Recipe recipe;
        recipe.rules.push_back({.match = "blk.*.ffn_*", .format = "q8_0"});
        for (const Recipe& each : {Recipe{}, recipe}) {
            exportGguf(*stacked, each, path / "a.gguf", {});
            exportGguf(*old, each, path / "b.gguf", {});
            const auto a = openCheckpoint(path / "a.gguf"), b = openCheckpoint(path / "b.gguf");
            QCOMPARE(a->tensors.size(), b->tensors.size());
            for (const TensorInfo& info : a->tensors) {
                QCOMPARE(b->get(info.name).dims, info.dims);
                QCOMPARE(b->get(info.name).type, info.type);
                QVERIFY2(sameBytes(b->get(info.name).bytes, info.bytes), info.name.c_str());
            }
        }
    }

    void unstackedExpertsThatDoNotFit_data() {
        QTest::addColumn<QString>("from"); ///< the tensor that has `to` as its name
        QTest::addColumn<QString>("to");
        QTest::addColumn<QString>("says");
        QTest::addRow("one is missing") << "blk.1.ffn_up.3.weight"
                                        << ""
                                        << "\"blk.1.ffn_up_exps.weight\" is missing";
        QTest::addRow("one too many") << "blk.1.ffn_up.3.weight"
                                      << "blk.1.ffn_up.4.weight"
                                      << "\"blk.1.ffn_up.4.weight\" that the forward pass";
        QTest::addRow("another shape") << "blk.0.attn_k.weight"
                                       << "blk.1.ffn_up.3.weight"
                                       << "\"blk.1.ffn_up.3.weight\" has 32 x 64 values";
        QTest::addRow("another format")
            << "blk.1.ffn_up.3.weight"
            << "f16"
            << "keeps expert 3 of \"blk.1.ffn_up\" as f16 and the first as f32";
    }
    void unstackedExpertsThatDoNotFit() {
        QFETCH(QString, from);
        QFETCH(QString, to);
        QFETCH(QString, says);
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const Family& f =
            *std::ranges::find(m_families, "MixtralForCausalLM", &Family::huggingFaceClass);
        writeFolder(f, randomTensors(f), path);
        exportGguf(*openModel(path), Recipe{}, path / "stacked.gguf", {});
        const std::string was = from.toStdString(), is = to.toStdString();
        unstack(*openCheckpoint(path / "stacked.gguf"), path / "old.gguf",
                [&](GgufTensor& tensor, Bytes& bytes) {
                    if (tensor.name == is)
                        return false;
                    if (tensor.name != was)
                        return true;
                    if (is == "f16") {
                        tensor.type = blockTypeOf(getFormat("f16"));
                        tensor.bytes /= 2;
                        bytes = bytes.slice(0, tensor.bytes);
                    } else {
                        tensor.name = is;
                    }
                    return !is.empty();
                });
        const auto model = openForInspection(path / "old.gguf");
        QVERIFY2(QString::fromStdString(model->unsupported).contains(says),
                 model->unsupported.c_str());
    }
};

QTEST_GUILESS_MAIN(TestExpertFiles)
#include "test_expert_files.moc"
