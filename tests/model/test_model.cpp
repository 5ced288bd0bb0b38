#include "core/base/error.h"
#include "core/model/architectures.h"
#include "core/model/names.h"
#include "tests/support/shared_data.h"

#include <QTest>

#include <cmath>
#include <functional>
#include <numbers>

using namespace nibble;
using namespace nibble::test;

namespace {

/// A copy of the tiny synthetic checkpoint as the change leaves it.
std::shared_ptr<Checkpoint> changed(const std::function<void(Checkpoint&)>& change) {
    auto copy = std::make_shared<Checkpoint>(*makeSyntheticModel("tiny")->checkpoint);
    change(*copy);
    copy->byName.clear();
    for (size_t i = 0; i < copy->tensors.size(); ++i)
        copy->byName[copy->tensors[i].name] = i;
    return copy;
}

std::string refusal(const std::function<void(Checkpoint&)>& change) {
    try {
        understand(changed(change));
    } catch (const Error& error) {
        return error.kind() == ErrorKind::BadInput ? error.what() : "wrong kind";
    }
    return {};
}

void remove(Checkpoint& checkpoint, std::string_view name) {
    std::erase_if(checkpoint.tensors, [&](const TensorInfo& t) { return t.name == name; });
}

Metadata llama3Config() {
    Metadata m;
    m.source = "config.json";
    const auto integer = [&](const char* key, int64_t value) { m.entries[key].value = value; };
    integer("num_hidden_layers", 1);
    integer("hidden_size", 4096);
    integer("intermediate_size", 14336);
    integer("num_attention_heads", 32);
    integer("num_key_value_heads", 8);
    integer("vocab_size", 128256);
    integer("max_position_embeddings", 131072);
    m.entries["rope_theta"].value = 500000.0;
    m.entries["rope_scaling.rope_type"].value = std::string("llama3");
    m.entries["rope_scaling.factor"].value = 8.0;
    m.entries["rope_scaling.low_freq_factor"].value = 1.0;
    m.entries["rope_scaling.high_freq_factor"].value = 4.0;
    integer("rope_scaling.original_max_position_embeddings", 8192);
    return m;
}

} // namespace

class TestModel : public QObject {
    Q_OBJECT
private slots:
    void syntheticModelIsComplete() {
        const auto model = makeSyntheticModel("tiny");
        QCOMPARE(model->unsupported, std::string());
        QCOMPARE(model->keys().size(), size_t(1 + 2 * 9 + 2));
        QCOMPARE(model->keys().front(), (TensorKey{Role::TokenEmbedding, -1}));
        QCOMPARE(model->keys().back(), (TensorKey{Role::Output, -1}));
        QVERIFY(!model->config.tiedEmbedding);
        const Tensor up = model->load({Role::Up, 1});
        QCOMPARE(up.rows, 160);
        QCOMPARE(up.cols, 64);
        double sum = 0, squares = 0;
        for (const float value : decode(up)) {
            sum += double(value);
            squares += double(value) * double(value);
        }
        // σ = 1/√64 with 10240 values: mean within 5 σ/√n, variance within 5 √(2/n).
        const double n = 160 * 64;
        QVERIFY(std::fabs(sum / n) < 5 * 0.125 / std::sqrt(n));
        QVERIFY(std::fabs(squares / n * 64 - 1) < 5 * std::sqrt(2 / n));
        QVERIFY(decode(model->load({Role::Up, 0})) != decode(up));
        QVERIFY(decode(makeSyntheticModel("tiny")->load({Role::Up, 1})) == decode(up));
        QVERIFY(decode(makeSyntheticModel("tiny", 2)->load({Role::Up, 1})) != decode(up));
        QVERIFY_EXCEPTION_THROWN(makeSyntheticModel("huge"), Error);
    }

    void namesAndRolesAgree() {
        const auto model = makeSyntheticModel("tiny");
        for (const TensorKey key : model->keys()) {
            QVERIFY(tensorKey(tensorName(key)) == key);
            const auto keys = model->keysOf(model->get(key).name);
            QVERIFY(keys.size() == 1 && keys.front() == key);
        }
        QVERIFY(model->keysOf("blk.0.unknown").empty());
        QVERIFY_EXCEPTION_THROWN(model->get({Role::Up, 9}), Error);
    }

    void missingTensorsAreNamed() {
        const std::string message =
            refusal([](Checkpoint& c) { remove(c, "blk.1.ffn_down.weight"); });
        QVERIFY2(message.find("blk.1.ffn_down.weight") != std::string::npos, message.c_str());
    }

    void missingHeadMeansTied() {
        const auto model = understand(changed([](Checkpoint& c) { remove(c, "output.weight"); }));
        QVERIFY(model->config.tiedEmbedding);
        QCOMPARE(model->headKey(), (TensorKey{Role::TokenEmbedding, -1}));
    }

    void wrongShapesAreNamed() {
        for (const char* name :
             {"blk.0.attn_k.weight", "blk.1.attn_norm.weight", "output.weight"}) {
            const std::string message = refusal([&](Checkpoint& c) {
                for (TensorInfo& tensor : c.tensors)
                    if (tensor.name == name)
                        ++tensor.dims.back();
            });
            QVERIFY2(message.find(name) != std::string::npos, message.c_str());
        }
    }

    void wrongNumbersAreNamed() {
        for (const char* key : {"llama.block_count", "llama.attention.head_count",
                                "llama.attention.head_count_kv", "llama.rope.dimension_count"})
            for (const int64_t value : {int64_t(0), int64_t(-1), int64_t(3), INT64_MAX}) {
                const std::string message =
                    refusal([&](Checkpoint& c) { c.metadata.entries[key].value = value; });
                QVERIFY2(!message.empty() && message != "wrong kind",
                         qPrintable(QStringLiteral("%1 = %2").arg(key).arg(value)));
            }
    }

    void unknownThingsOpenForInspection() {
        const auto check = [](const std::function<void(Checkpoint&)>& change, const char* word) {
            const auto model = understand(changed(change));
            QVERIFY2(model->unsupported.find(word) != std::string::npos,
                     model->unsupported.c_str());
            QVERIFY_EXCEPTION_THROWN(model->requireRunnable(), Error);
        };
        check(
            [](Checkpoint& c) {
                c.metadata.entries["general.architecture"].value = std::string("mamba");
            },
            "mamba");
        check(
            [](Checkpoint& c) {
                c.metadata.entries["llama.rope.scaling.type"].value = std::string("dynamic");
            },
            "dynamic");
        check(
            [](Checkpoint& c) {
                c.tensors.push_back(c.tensors.back());
                c.tensors.back().name = "blk.0.attn_q_norm.weight";
            },
            "attn_q_norm");
    }

    /// A mixture without experts that are used, and more of them than there are.
    void wrongMixturesAreNamed() {
        for (const int64_t used : {int64_t(0), int64_t(9)}) {
            const std::string message = refusal([used](Checkpoint& c) {
                c.metadata.entries["llama.expert_count"].value = int64_t(8);
                c.metadata.entries["llama.expert_used_count"].value = used;
            });
            QVERIFY2(message.find("of 8 experts") != std::string::npos, message.c_str());
        }
    }

    /// Llama 3.1: pairs that turn more than 4 times within 8192 tokens keep their frequency, those
    /// that turn less than once get an eighth, those between are blended.
    void llama3ScalingOfPositions() {
        const ModelConfig config = kLlama.readHuggingFace(llama3Config());
        QCOMPARE(config.headSize, 128);
        QCOMPARE(config.ropeStyle, RopeStyle::Halves);
        QCOMPARE(config.rope.factors.size(), size_t(64));
        QCOMPARE(config.rope.factors.front(), 1.0f);
        QCOMPARE(config.rope.factors.back(), 8.0f);
        for (size_t i = 0; i < 64; ++i) {
            const double turns =
                8192 * std::pow(500000.0, -2.0 * double(i) / 128) / (2 * std::numbers::pi);
            const bool blended = turns <= 4 && turns >= 1;
            QCOMPARE(config.rope.factors[i] > 1 && config.rope.factors[i] < 8, blended);
        }
        const auto frequencies = config.ropeFrequencies();
        QCOMPARE(frequencies[0], 1.0f);
        QVERIFY(std::fabs(frequencies[63] * 8 * float(std::pow(500000.0, 126.0 / 128)) - 1) <
                8 * 0x1p-24f);
    }

    /// The first of LFM2's configurations name the width before two thirds of it are rounded up,
    /// and the layers that attend by number. Widths are those of the published models.
    void lfm2AsPublished() {
        for (const auto& [said, inner] : {std::pair{6656, 4608}, {10240, 6912}, {12288, 8192}}) {
            Metadata m = llama3Config();
            std::erase_if(m.entries, [](const auto& entry) {
                return entry.first.starts_with("rope") || entry.first == "intermediate_size";
            });
            m.entries["num_hidden_layers"].value = int64_t(4);
            m.entries["block_ff_dim"].value = int64_t(said);
            m.entries["full_attn_idxs"].value = MetadataValue::Integers{1, 2};
            ModelConfig config = kLfm2.readHuggingFace(m);
            QCOMPARE(config.feedForward, inner);
            QCOMPARE(config.rope.base, 1e6f);
            QCOMPARE(config.normEpsilon, 1e-5f);
            QCOMPARE(config.convolutionTaps, 3);
            QVERIFY(config.tiedEmbedding);
            for (const int32_t layer : {0, 1, 2, 3})
                QCOMPARE(config.layer(layer).mixer == Mixer::Attention, layer == 1 || layer == 2);
            m.entries["block_auto_adjust_ff_dim"].value = false;
            QCOMPARE(kLfm2.readHuggingFace(m).feedForward, said);
            m.entries["conv_bias"].value = true;
            QVERIFY_EXCEPTION_THROWN(kLfm2.readHuggingFace(m), UnsupportedModel);
        }
    }

    void linearScalingOfPositions() {
        Metadata m = llama3Config();
        m.entries["rope_scaling.rope_type"].value = std::string("linear");
        m.entries["rope_scaling.factor"].value = 4.0;
        const ModelConfig config = kLlama.readHuggingFace(m);
        QVERIFY(config.rope.factors.empty());
        QCOMPARE(config.ropeFrequencies()[0], 0.25f);
        m.entries["rope_scaling.rope_type"].value = std::string("dynamic");
        QVERIFY_EXCEPTION_THROWN(kLlama.readHuggingFace(m), UnsupportedModel);
    }
};

QTEST_GUILESS_MAIN(TestModel)
#include "test_model.moc"
