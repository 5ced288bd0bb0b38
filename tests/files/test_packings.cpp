#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/random.h"
#include "core/files/packings.h"
#include "core/tensor/planes.h"
#include "tests/support/packed_folder.h"

#include <QTemporaryDir>
#include <QTest>
#include <bit>
#include <functional>

using namespace nibble;
using test::PackedFolder;

namespace {

constexpr int kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

std::vector<uint32_t> randomWords(int64_t count, Random& random) {
    std::vector<uint32_t> words(static_cast<size_t>(count));
    for (uint32_t& word : words)
        word = static_cast<uint32_t>(random.next() >> 16);
    return words;
}

/// Positive halves around 0.01, each of all its bits.
std::vector<uint16_t> randomScales(int64_t count, Random& random) {
    std::vector<uint16_t> scales(static_cast<size_t>(count));
    for (uint16_t& scale : scales)
        scale = static_cast<uint16_t>(0x2000 + (random.next() >> 20) % 0x400);
    return scales;
}

struct GptqShape {
    int bits;
    int64_t in, out, group; ///< −1: one group
    bool sym, v2, actOrder;

    int64_t groups() const { return group < 0 ? 1 : (in + group - 1) / group; }
    int64_t size() const { return group < 0 ? in : group; }
};

PackedFolder gptq(const GptqShape& s, uint64_t seed = 1) {
    Random random(seed);
    PackedFolder folder;
    folder.add("p.qweight", "I32", {s.in * s.bits / 32, s.out},
               randomWords(s.in * s.bits / 32 * s.out, random));
    std::vector<uint32_t> zeros = randomWords(s.groups() * s.out * s.bits / 32, random);
    if (s.sym) {
        // The middle (less one in v1) in every field, bit by bit.
        const uint32_t zero = (1u << (s.bits - 1)) - (s.v2 ? 0 : 1);
        for (size_t w = 0; w < zeros.size(); ++w) {
            zeros[w] = 0;
            for (int bit = 0; bit < 32; ++bit)
                zeros[w] |= (zero >> ((int64_t(w) * 32 + bit) % s.bits) & 1) << bit;
        }
    }
    folder.add("p.qzeros", "I32", {s.groups(), s.out * s.bits / 32}, zeros);
    folder.add("p.scales", "F16", {s.groups(), s.out}, randomScales(s.groups() * s.out, random));
    std::vector<int32_t> order(static_cast<size_t>(s.in));
    for (int64_t i = 0; i < s.in; ++i)
        order[static_cast<size_t>(i)] =
            static_cast<int32_t>((s.actOrder ? (i * 7 + 3) % s.in : i) / s.size());
    folder.add("p.g_idx", "I32", {s.in}, order);
    folder.quantizer("{\"quant_method\":\"gptq\",\"bits\":" + std::to_string(s.bits) +
                     ",\"group_size\":" + std::to_string(s.group) +
                     ",\"sym\":" + (s.sym ? "true" : "false") + ",\"checkpoint_format\":\"" +
                     (s.v2 ? "gptq_v2" : "gptq") + "\"}");
    return folder;
}

/// Bits [at, at + n) of a stream of words `stride` apart, one by one.
uint32_t bitsAt(const PackedFolder& folder, const std::string& name, int64_t first, int64_t stride,
                int64_t at, int n) {
    uint32_t value = 0;
    for (int i = 0; i < n; ++i) {
        const int64_t word = first + (at + i) / 32 * stride;
        value |= (folder.at<uint32_t>(name, word) >> ((at + i) % 32) & 1) << i;
    }
    return value;
}

/// From the published layout: w[i, o] = scales[g_idx[i], o] · (q − zero).
float gptqValue(const PackedFolder& f, const GptqShape& s, int64_t o, int64_t i) {
    const int64_t group = f.at<int32_t>("p.g_idx", i);
    const auto q = int(bitsAt(f, "p.qweight", o, s.out, i * s.bits, s.bits));
    auto zero = int(bitsAt(f, "p.qzeros", group * s.out * s.bits / 32, 1, o * s.bits, s.bits));
    if (!s.v2)
        zero = (zero + 1) % (1 << s.bits);
    return halfToFloat(f.at<uint16_t>("p.scales", group * s.out + o)) * float(q - zero);
}

PackedFolder awq(int64_t in, int64_t out, int64_t group) {
    Random random(5);
    PackedFolder folder;
    folder.add("p.qweight", "I32", {in, out / 8}, randomWords(in * out / 8, random));
    folder.add("p.qzeros", "I32", {in / group, out / 8}, randomWords(in / group * out / 8, random));
    folder.add("p.scales", "F16", {in / group, out}, randomScales(in / group * out, random));
    folder.quantizer("{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":" +
                     std::to_string(group) + ",\"zero_point\":true,\"version\":\"gemm\"}");
    return folder;
}

std::string compressedConfig(int bits, bool symmetric, const std::string& strategy, int64_t group,
                             bool activations) {
    return "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"group_0\":{\"targets\":["
           "\"Linear\"],\"weights\":{\"num_bits\":" +
           std::to_string(bits) +
           ",\"type\":\"int\",\"symmetric\":" + (symmetric ? "true" : "false") +
           ",\"strategy\":\"" + strategy +
           "\",\"group_size\":" + (group > 0 ? std::to_string(group) : "null") +
           "},\"input_activations\":" +
           (activations ? "{\"num_bits\":8,\"dynamic\":true,\"strategy\":\"token\"}" : "null") +
           "}},\"ignore\":[\"lm_head\"]}";
}

PackedFolder packQuantized(int bits, int64_t out, int64_t in, int64_t group, bool zeros,
                           const char* scaleType) {
    Random random(9);
    PackedFolder folder;
    const int64_t perWord = 32 / bits, words = (in + perWord - 1) / perWord, groups = in / group;
    folder.add("p.weight_packed", "I32", {out, words}, randomWords(out * words, random));
    folder.add("p.weight_shape", "I64", {2}, std::vector<int64_t>{out, in});
    std::vector<uint16_t> scales = randomScales(out * groups, random);
    if (std::string_view(scaleType) == "BF16")
        for (uint16_t& scale : scales)
            scale = static_cast<uint16_t>(0x3c00 + scale % 0x100);
    folder.add("p.weight_scale", scaleType, {out, groups}, scales);
    if (zeros)
        folder.add("p.weight_zero_point", "I32", {out / perWord, groups},
                   randomWords(out / perWord * groups, random));
    folder.quantizer(compressedConfig(bits, !zeros, "group", group, false));
    return folder;
}

PackedFolder intQuantized(bool zeros) {
    Random random(11);
    PackedFolder folder;
    std::vector<int8_t> codes(24 * 48);
    for (int8_t& code : codes)
        code = static_cast<int8_t>(random.next() >> 9);
    folder.add("p.weight", "I8", {24, 48}, codes);
    std::vector<uint16_t> scales(24);
    for (uint16_t& scale : scales)
        scale = static_cast<uint16_t>(0x3c00 + (random.next() >> 20) % 0x100);
    folder.add("p.weight_scale", "BF16", {24, 1}, scales);
    if (zeros) {
        std::vector<int8_t> points(24);
        for (int8_t& point : points)
            point = static_cast<int8_t>(random.next() >> 9);
        folder.add("p.weight_zero_point", "I8", {24, 1}, points);
    }
    folder.quantizer(compressedConfig(8, !zeros, "channel", 0, true));
    return folder;
}

/// The published table of QLoRA's NormalFloat4.
const std::vector<float> kNf4{
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

PackedFolder nf4(int64_t out, int64_t in, int64_t block, bool nested) {
    Random random(13);
    PackedFolder folder;
    std::vector<uint8_t> codes(static_cast<size_t>(out * in / 2));
    for (uint8_t& code : codes)
        code = static_cast<uint8_t>(random.next() >> 11);
    folder.add("p.weight", "U8", {out * in / 2, 1}, codes);
    folder.add("p.weight.quant_map", "F32", {16}, kNf4);
    const int64_t blocks = out * in / block;
    std::string state = "{\"quant_type\":\"nf4\",\"blocksize\":" + std::to_string(block) +
                        ",\"dtype\":\"float16\",\"shape\":[" + std::to_string(out) + "," +
                        std::to_string(in) + "]";
    if (nested) {
        std::vector<uint8_t> absmax(static_cast<size_t>(blocks));
        for (uint8_t& code : absmax)
            code = static_cast<uint8_t>(random.next() >> 11);
        folder.add("p.weight.absmax", "U8", {blocks}, absmax);
        std::vector<float> map(256), outer(static_cast<size_t>((blocks + 3) / 4));
        for (size_t i = 0; i < map.size(); ++i)
            map[i] = float(i) / 255 - 0.5f;
        for (size_t i = 0; i < outer.size(); ++i)
            outer[i] = 0.01f * float(i + 1);
        folder.add("p.weight.nested_quant_map", "F32", {256}, map);
        folder.add("p.weight.nested_absmax", "F32", {int64_t(outer.size())}, outer);
        state += ",\"nested_blocksize\":4,\"nested_dtype\":\"float32\",\"nested_offset\":0.0437";
    } else {
        std::vector<float> absmax(static_cast<size_t>(blocks));
        for (size_t i = 0; i < absmax.size(); ++i)
            absmax[i] = 0.03f + 0.001f * float(i);
        folder.add("p.weight.absmax", "F32", {blocks}, absmax);
    }
    state += "}";
    folder.add("p.weight.quant_state.bitsandbytes__nf4", "U8", {int64_t(state.size())},
               std::vector<char>(state.begin(), state.end()));
    folder.quantizer("{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}");
    return folder;
}

PackedFolder llmInt8() {
    Random random(17);
    PackedFolder folder;
    std::vector<int8_t> codes(8 * 32);
    for (int8_t& code : codes)
        code = static_cast<int8_t>(random.next() >> 9);
    folder.add("p.weight", "I8", {8, 32}, codes);
    folder.add("p.SCB", "F32", {8}, std::vector<float>{1, 2, 3, 0.5f, 0.25f, 7, 9, 11});
    folder.add("p.weight_format", "U8", {}, std::vector<uint8_t>{0});
    folder.quantizer("{\"quant_method\":\"bitsandbytes\",\"load_in_8bit\":true}");
    return folder;
}

} // namespace

class TestPackings : public QObject {
    Q_OBJECT
    QTemporaryDir m_root;
    int m_count = 0;

    std::shared_ptr<const Checkpoint> open(const PackedFolder& folder) {
        return openCheckpoint(folder.write(std::filesystem::path(m_root.path().toStdString()) /
                                           std::to_string(m_count++)));
    }
    Tensor load(const PackedFolder& folder) { return loadTensor(open(folder)->get("p.weight")); }

    /// The weight's values against a decoder of its own, and its shape and format.
    void compare(const PackedFolder& folder, const char* format, int64_t rows, int64_t cols,
                 const std::function<float(int64_t row, int64_t col)>& value) {
        const auto checkpoint = open(folder);
        QCOMPARE(checkpoint->tensors.size(), size_t(1));
        const TensorInfo& info = checkpoint->get("p.weight");
        QCOMPARE(info.dims, (std::vector<int64_t>{rows, cols}));
        QCOMPARE(std::string(info.format()->name), std::string(format));
        QVERIFY(info.storedBytes() > 0 && checkpoint->conversionNote().empty());
        const Tensor tensor = loadTensor(info);
        QCOMPARE(tensor.format, info.format());
        const std::vector<float> values = decode(tensor);
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t col = 0; col < cols; ++col)
                if (const float got = values[size_t(row * cols + col)]; got != value(row, col))
                    QFAIL(qPrintable(QString("row %1, column %2: %3, not %4")
                                         .arg(row)
                                         .arg(col)
                                         .arg(double(got))
                                         .arg(double(value(row, col)))));
    }
    void refuses(const PackedFolder& folder, const char* says) {
        try {
            load(folder);
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(std::string(error.what()).find(says) != std::string::npos, error.what());
            return;
        }
        QFAIL(says);
    }
    /// Opens, cannot be run, and says why.
    void isNotRead(const PackedFolder& folder, const char* says) {
        const auto checkpoint = open(folder);
        QVERIFY2(checkpoint->unsupported.find(says) != std::string::npos,
                 checkpoint->unsupported.c_str());
        QVERIFY(!checkpoint->find("p.weight") || !checkpoint->get("p.weight").packed);
    }

private slots:
    void gptqDecodes_data() {
        QTest::addColumn<int>("bits");
        QTest::addColumn<int>("in");
        QTest::addColumn<int>("out");
        QTest::addColumn<int>("group");
        QTest::addColumn<int>("flags"); // 1 symmetric, 2 version 2, 4 act-order
        QTest::addColumn<QString>("format");
        QTest::newRow("4 bits") << 4 << 256 << 72 << 128 << 1 << "int4_g128";
        QTest::newRow("4 bits, version 2") << 4 << 128 << 64 << 32 << 3 << "int4_g32";
        QTest::newRow("4 bits, zero points") << 4 << 128 << 136 << 64 << 0 << "int4_g64z";
        QTest::newRow("zero points, version 2") << 4 << 64 << 8 << 16 << 2 << "int4_g16z";
        QTest::newRow("act-order") << 4 << 256 << 72 << 64 << 5 << "int4_g64";
        QTest::newRow("act-order, zero points") << 4 << 96 << 8 << 32 << 4 << "int4_g32z";
        QTest::newRow("2 bits") << 2 << 128 << 16 << 64 << 0 << "int2_g64z";
        QTest::newRow("3 bits") << 3 << 128 << 32 << 64 << 1 << "int3_g64";
        QTest::newRow("3 bits, zero points") << 3 << 96 << 64 << 32 << 0 << "int3_g32z";
        QTest::newRow("8 bits") << 8 << 96 << 12 << 32 << 1 << "int8_g32";
        QTest::newRow("8 bits, zero points") << 8 << 96 << 12 << 32 << 2 << "int8_g32z";
        QTest::newRow("whole rows") << 4 << 96 << 8 << -1 << 1 << "int4";
        QTest::newRow("whole rows, zero points") << 8 << 96 << 8 << -1 << 0 << "int8z";
        QTest::newRow("groups of 512") << 4 << 1024 << 8 << 512 << 1 << "int4_g256";
        QTest::newRow("groups of 48") << 4 << 96 << 8 << 48 << 5 << "int4_g16";
        QTest::newRow("a short last group") << 4 << 96 << 8 << 64 << 4 << "int4_g64z";
    }
    void gptqDecodes() {
        QFETCH(int, bits);
        QFETCH(int, in);
        QFETCH(int, out);
        QFETCH(int, group);
        QFETCH(int, flags);
        QFETCH(QString, format);
        const GptqShape shape{
            bits, in, out, group, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0};
        const PackedFolder folder = gptq(shape);
        compare(folder, format.toUtf8().constData(), out, in,
                [&](int64_t row, int64_t col) { return gptqValue(folder, shape, row, col); });
        QCOMPARE(load(folder).columnOrder != nullptr, (flags & 4) != 0);
    }
    void gptqWordsByHand() {
        const GptqShape four{4, 16, 8, 16, true, false, false};
        PackedFolder folder = gptq(four);
        // The first column of words: 0…7, then 15…8.
        std::vector<uint32_t> words(16, 0x88888888);
        words[0] = 0x76543210;
        words[8] = 0x89abcdef;
        folder.add("p.qweight", "I32", {2, 8}, words);
        folder.add("p.qzeros", "I32", {1, 1}, std::vector<uint32_t>{0x77777777});
        folder.add("p.scales", "F16", {1, 8}, std::vector<uint16_t>(8, 0x3c00));
        const std::vector<float> row{-8, -7, -6, -5, -4, -3, -2, -1, 7, 6, 5, 4, 3, 2, 1, 0};
        std::vector<float> values = decode(load(folder));
        values.resize(16);
        QCOMPARE(values, row);
        // 0x88888888 under the name of version 1: symmetric files of version 2 that say 1.
        folder.add("p.qzeros", "I32", {1, 1}, std::vector<uint32_t>{0x88888888});
        values = decode(load(folder));
        values.resize(16);
        QCOMPARE(values, row);

        // 0 1 … 7 four times in 3 bits: three words, values 10 and 21 over their ends.
        PackedFolder three = gptq({3, 32, 32, 32, true, true, false});
        std::vector<uint32_t> streams(3 * 32, 0);
        streams[0] = 0x88fac688;
        streams[32] = 0xc688fac6;
        streams[64] = 0xfac688fa;
        three.add("p.qweight", "I32", {3, 32}, streams);
        three.add("p.qzeros", "I32", {1, 3},
                  std::vector<uint32_t>{0x24924924, 0x49249249, 0x92492492}); // 4 throughout
        three.add("p.scales", "F16", {1, 32}, std::vector<uint16_t>(32, 0x3c00));
        values = decode(load(three));
        for (int i = 0; i < 32; ++i)
            QCOMPARE(values[size_t(i)], float(i % 8 - 4));
        QCOMPARE(values[32], -4.0f);
    }
    void gptqTraps() {
        const GptqShape shape{4, 128, 8, 32, false, false, false};
        const PackedFolder good = gptq(shape);
        const std::vector<float> values = decode(load(good));
        // Groups that are not told are neighbours.
        PackedFolder folder = good;
        folder.add("p.g_idx", "I32", {128}, std::vector<int32_t>(128, 0));
        QCOMPARE(decode(load(folder)), values);
        folder.tensors.erase("p.g_idx");
        QCOMPARE(decode(load(folder)), values);
        // A bias of zeros is no tensor; another one is.
        folder.add("p.bias", "F16", {8}, std::vector<uint16_t>(8, 0));
        QVERIFY(!open(folder)->find("p.bias"));
        folder.add("p.bias", "F16", {8}, std::vector<uint16_t>(8, 0x3c00));
        QVERIFY(open(folder)->find("p.bias"));
        // The configuration in a file of its own, as it used to be.
        const auto path = folder.write(m_root.path().toStdString() + "/old");
        std::ofstream(path / "config.json") << "{}";
        std::ofstream(path / "quantize_config.json")
            << "{\"bits\":4,\"group_size\":32,\"sym\":false,\"desc_act\":false}";
        QCOMPARE(decode(loadTensor(openCheckpoint(path)->get("p.weight"))), values);
        // Layers of other widths, which "dynamic" announces.
        folder = gptq({8, 128, 8, 32, false, false, false});
        folder.quantizer("{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"sym\":false,"
                         "\"dynamic\":{\"+:p\":{\"bits\":8}}}");
        QCOMPARE(std::string(load(folder).format->name), std::string("int8_g32z"));
    }
    void awqDecodes() {
        const int64_t in = 96, out = 80, group = 32;
        const PackedFolder folder = awq(in, out, group);
        compare(folder, "int4_g32z", out, in, [&](int64_t row, int64_t col) {
            int shift = 0;
            while (kAwqOrder[shift] != row % 8)
                ++shift;
            const auto nibble = [&](const char* name, int64_t line) {
                return int(folder.at<uint32_t>(name, line * out / 8 + row / 8) >> (4 * shift) & 15);
            };
            return halfToFloat(folder.at<uint16_t>("p.scales", col / group * out + row)) *
                   float(nibble("p.qweight", col) - nibble("p.qzeros", col / group));
        });
    }
    void awqWordsByHand() {
        PackedFolder folder = awq(32, 8, 32);
        std::vector<uint32_t> words(32, 0);
        words[0] = 0x75316420; // 0 … 7 down the rows
        folder.add("p.qweight", "I32", {32, 1}, words);
        folder.add("p.qzeros", "I32", {1, 1}, std::vector<uint32_t>{0x75316420});
        folder.add("p.scales", "F16", {1, 8}, std::vector<uint16_t>(8, 0x3c00));
        const std::vector<float> values = decode(load(folder));
        for (int row = 0; row < 8; ++row) {
            QCOMPARE(values[size_t(row * 32)], 0.0f);
            QCOMPARE(values[size_t(row * 32 + 1)], float(-row));
        }
    }
    void packQuantizedDecodes_data() {
        QTest::addColumn<int>("bits");
        QTest::addColumn<bool>("zeros");
        QTest::addColumn<QString>("scales");
        QTest::addColumn<QString>("format");
        QTest::newRow("4 bits") << 4 << false << "F16"
                                << "int4_g32";
        QTest::newRow("4 bits, zero points") << 4 << true << "F16"
                                             << "int4_g32z";
        QTest::newRow("4 bits, bf16") << 4 << false << "BF16"
                                      << "int4_g32_f32";
        QTest::newRow("zero points, bf16") << 4 << true << "BF16"
                                           << "int4_g32z_f32";
        QTest::newRow("8 bits") << 8 << false << "BF16"
                                << "int8_g32_f32";
        QTest::newRow("2 bits") << 2 << true << "F16"
                                << "int2_g32z";
    }
    void packQuantizedDecodes() {
        QFETCH(int, bits);
        QFETCH(bool, zeros);
        QFETCH(QString, scales);
        QFETCH(QString, format);
        const int64_t out = 32, in = 96, group = 32, groups = in / group, perWord = 32 / bits;
        const PackedFolder f =
            packQuantized(bits, out, in, group, zeros, scales.toUtf8().constData());
        compare(f, format.toUtf8().constData(), out, in, [&](int64_t row, int64_t col) {
            const uint32_t mask = (1u << bits) - 1;
            const int middle = 1 << (bits - 1);
            const auto q =
                int(f.at<uint32_t>("p.weight_packed", row * (in / perWord) + col / perWord) >>
                        (col % perWord * bits) &
                    mask);
            int zero = middle;
            if (zeros)
                zero = int(
                    f.at<uint32_t>("p.weight_zero_point", row / perWord * groups + col / group) >>
                        (row % perWord * bits) &
                    mask);
            const auto scale = f.at<uint16_t>("p.weight_scale", row * groups + col / group);
            return (scales == "BF16" ? bfloatToFloat(scale) : halfToFloat(scale)) *
                   float(q - middle - (zero - middle));
        });
    }
    void rowsThatFillNoWordDecode() {
        PackedFolder folder = packQuantized(4, 2, 32, 32, false, "F16");
        folder.add("p.weight_packed", "I32", {2, 3},
                   std::vector<uint32_t>{0x76543210, 0xfedcba98, 0x00000008, 0, 0, 0});
        folder.add("p.weight_shape", "I64", {2}, std::vector<int64_t>{2, 17});
        folder.add("p.weight_scale", "F16", {2, 1}, std::vector<uint16_t>(2, 0x3c00));
        const std::vector<float> values = decode(load(folder));
        QCOMPARE(values.size(), size_t(34));
        for (int i = 0; i < 16; ++i)
            QCOMPARE(values[size_t(i)], float(i - 8));
        QCOMPARE(values[16], 0.0f);
    }
    void intQuantizedDecodes() {
        for (const bool zeros : {false, true}) {
            const PackedFolder f = intQuantized(zeros);
            compare(f, zeros ? "int8z" : "int8", 24, 48, [&](int64_t row, int64_t col) {
                const int zero = zeros ? f.at<int8_t>("p.weight_zero_point", row) : 0;
                return bfloatToFloat(f.at<uint16_t>("p.weight_scale", row)) *
                       float(f.at<int8_t>("p.weight", row * 48 + col) - zero);
            });
            QVERIFY(open(f)->get("p.weight").packed->tokenActivations);
            PackedFolder fixed = f;
            fixed.add("p.input_scale", "BF16", {1}, std::vector<uint16_t>{0x3c00});
            QCOMPARE(open(fixed)->tensors.size(), size_t(1));
            QVERIFY(open(fixed)->conversionNote().find("scales of activations") !=
                    std::string::npos);

            // Where the configuration says that it is static, the scale is what runs.
            const auto config = [&](const char* activations) {
                std::string text = compressedConfig(8, !zeros, "channel", 0, true);
                const std::string was = "\"num_bits\":8,\"dynamic\":true,\"strategy\":\"token\"";
                return text.replace(text.find(was), was.size(), activations);
            };
            constexpr const char* kStatic =
                "\"num_bits\":8,\"dynamic\":false,\"strategy\":\"tensor\"";
            for (const bool wide : {false, true}) {
                PackedFolder given = f;
                if (wide)
                    given.add("p.input_scale", "F32", {1}, std::vector<float>{0.0125f});
                else
                    given.add("p.input_scale", "BF16", {1}, std::vector<uint16_t>{0x3c4d});
                given.quantizer(config(kStatic));
                const float expected = wide ? 0.0125f : bfloatToFloat(0x3c4d);
                QVERIFY(open(given)->get("p.weight").packed->staticActivations);
                QVERIFY(open(given)->conversionNote().empty());
                QCOMPARE(load(given).inputScale, expected);
                given.add("p.input_zero_point", "I8", {1}, std::vector<int8_t>{0});
                QVERIFY(open(given)->get("p.weight").packed->staticActivations);
            }
            PackedFolder shifted = f;
            shifted.add("p.input_scale", "F32", {1}, std::vector<float>{0.0125f});
            shifted.add("p.input_zero_point", "I8", {1}, std::vector<int8_t>{3});
            shifted.quantizer(config(kStatic));
            QVERIFY(!open(shifted)->get("p.weight").packed->staticActivations);
            for (const float bad : {0.0f, -1.0f, HUGE_VALF}) {
                PackedFolder broken = f;
                broken.add("p.input_scale", "F32", {1}, std::vector<float>{bad});
                broken.quantizer(config(kStatic));
                QVERIFY_EXCEPTION_THROWN(open(broken), Error);
            }
        }
    }
    void nf4Decodes() {
        for (const bool nested : {false, true})
            for (const int64_t block : {64, 128}) {
                const int64_t out = 6, in = 192;
                const PackedFolder f = nf4(out, in, block, nested);
                compare(f, "nf4", out, in, [&](int64_t row, int64_t col) {
                    const int64_t index = row * in + col, b = index / block;
                    const auto byte = f.at<uint8_t>("p.weight", index / 2);
                    const int code = index % 2 == 0 ? byte >> 4 : byte & 15;
                    float absmax;
                    if (nested) {
                        absmax = f.at<float>("p.weight.nested_quant_map",
                                             f.at<uint8_t>("p.weight.absmax", b)) *
                                 f.at<float>("p.weight.nested_absmax", b / 4);
                        absmax += 0.0437f;
                    } else {
                        absmax = f.at<float>("p.weight.absmax", b);
                    }
                    return float(double(absmax) * double(kNf4[size_t(code)]));
                });
            }
        // The high half of a byte is the first value.
        PackedFolder folder = nf4(1, 64, 64, false);
        std::vector<uint8_t> codes(32, 0x77);
        codes[0] = 0x0f;
        folder.add("p.weight", "U8", {32, 1}, codes);
        folder.add("p.weight.absmax", "F32", {1}, std::vector<float>{2});
        std::vector<float> values = decode(load(folder));
        values.resize(3);
        QCOMPARE(values, (std::vector<float>{-2, 2, 0}));
    }
    void llmInt8Decodes() {
        const PackedFolder f = llmInt8();
        compare(f, "int8", 8, 32, [&](int64_t row, int64_t col) {
            return f.at<float>("p.SCB", row) / 127.0f *
                   float(f.at<int8_t>("p.weight", row * 32 + col));
        });
    }

    void whatIsWrittenIsReadBack_data() {
        QTest::addColumn<QString>("packing");
        QTest::addColumn<QString>("format");
        const std::pair<const char*, std::vector<const char*>> rows[] = {
            {"gptq",
             {"int2_g64", "int3_g32z", "int4_g128", "int4_g32z", "int8_g32", "int8_g64z",
              "int3_g64"}},
            {"awq", {"int4_g32z", "int4_g128z", "int4_g64z"}},
            {"pack-quantized", {"int4_g32", "int4_g64z", "int8_g128", "int8_g32z"}},
            {"int-quantized", {"int8"}}};
        for (const auto& [packing, formats] : rows)
            for (const char* format : formats)
                QTest::addRow("%s %s", packing, format) << packing << format;
    }
    void whatIsWrittenIsReadBack() {
        QFETCH(QString, packing);
        QFETCH(QString, format);
        const Format& f = getFormat(format.toStdString());
        const int64_t rows = 32, cols = 384;
        Random random(3);
        TensorBuilder builder("p.weight", f, rows, cols);
        std::vector<uint8_t> codes(static_cast<size_t>(cols));
        const uint32_t mask = (1u << f.bits) - 1;
        for (int64_t row = 0; row < rows; ++row) {
            for (uint8_t& code : codes)
                code = static_cast<uint8_t>(random.next() >> 13 & mask);
            builder.setCodes(row, codes.data());
            for (int64_t g = 0; g < f.groupCount(cols); ++g) {
                const float scale = 0.01f + 0.001f * static_cast<float>(random.normal());
                builder.setScale(row, g,
                                 f.scale == ScaleKind::F32 ? std::bit_cast<uint32_t>(scale)
                                                           : floatToHalf(scale));
                if (f.offset == OffsetKind::Zero) // version 1 of GPTQ cannot say 0
                    builder.setOffset(row, g, static_cast<uint16_t>(1 + random.next() % mask));
            }
        }
        const Tensor tensor = builder.finish();
        const PackingWriter* writer = nullptr;
        for (const PackingWriter* each :
             {&kGptqWriter, &kAwqWriter, &kPackQuantizedWriter, &kIntQuantizedWriter})
            if (packing == each->name)
                writer = each;
        QCOMPARE(writer->refuses(f, rows, cols, false), std::string());
        PackedFolder folder;
        const auto parts = writer->parts(f, rows, cols, false);
        const auto bytes = writer->pack(tensor);
        QCOMPARE(parts.size(), bytes.size());
        for (size_t i = 0; i < parts.size(); ++i) {
            const auto view = bytes[i].view();
            folder.add(std::string("p") + parts[i].suffix, parts[i].dtype, parts[i].dims,
                       std::vector<std::byte>(view.begin(), view.end()));
        }
        const std::string group = std::to_string(f.group), bits = std::to_string(f.bits);
        const bool zeros = f.offset == OffsetKind::Zero;
        if (packing == "gptq")
            folder.quantizer("{\"quant_method\":\"gptq\",\"bits\":" + bits + ",\"group_size\":" +
                             group + ",\"sym\":" + (zeros ? "false" : "true") + "}");
        else if (packing == "awq")
            folder.quantizer("{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":" + group + "}");
        else
            folder.quantizer(compressedConfig(f.bits, !zeros, f.group == 0 ? "channel" : "group",
                                              f.group, f.group == 0));
        const Tensor back = load(folder);
        QCOMPARE(back.format, &f);
        QVERIFY(std::ranges::equal(back.codes.view(), tensor.codes.view()));
        QVERIFY(std::ranges::equal(back.scales.view(), tensor.scales.view()));
        QVERIFY(std::ranges::equal(back.offsets.view(), tensor.offsets.view()));
    }
    void zeroPointsThatVersionOneCannotSay() {
        TensorBuilder builder("p.weight", getFormat("int4_g32z"), 8, 32);
        for (int64_t row = 0; row < 8; ++row)
            builder.setScale(row, 0, row == 5 ? 0x3c00 : 0);
        const Tensor tensor = builder.finish();
        try {
            kGptqWriter.pack(tensor);
            QFAIL("a zero point of 0 with a scale of 1");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::Usage);
            QVERIFY2(std::string(error.what()).find("row 5, group 0") != std::string::npos,
                     error.what());
        }
        QCOMPARE(kAwqWriter.pack(tensor).size(), size_t(3));
    }
    void otherKindsAreNamed() {
        PackedFolder folder = gptq({4, 64, 8, 32, true, false, false});
        folder.quantizer("{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,"
                         "\"checkpoint_format\":\"marlin\"}");
        isNotRead(folder, "layout \"marlin\"");
        folder.quantizer("{\"quant_method\":\"fp8\"}");
        isNotRead(folder, "quantized by \"fp8\"");
        folder = awq(64, 16, 32);
        folder.quantizer("{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32,"
                         "\"version\":\"GEMV\"}");
        isNotRead(folder, "\"gemv\" kernels");
        folder = packQuantized(4, 32, 64, 32, false, "F16");
        std::string floats = compressedConfig(4, true, "group", 32, false);
        floats.replace(floats.find("\"int\""), 5, "\"float\"");
        folder.quantizer(floats);
        isNotRead(folder, "packed as floats");
        folder = intQuantized(false);
        folder.quantizer(floats);
        isNotRead(folder, "float-quantized");
        folder = nf4(2, 96, 64, false);
        isNotRead(folder, "rows of 96 values");
        folder = nf4(2, 64, 64, false);
        folder.tensors["p.weight.quant_state.bitsandbytes__fp4"] =
            folder.tensors["p.weight.quant_state.bitsandbytes__nf4"];
        folder.tensors.erase("p.weight.quant_state.bitsandbytes__nf4");
        isNotRead(folder, "FP4");
        folder = llmInt8();
        folder.add("p.weight_format", "U8", {}, std::vector<uint8_t>{1});
        isNotRead(folder, "tile layout");
    }
    void damagedGptqIsRefused() {
        const GptqShape shape{4, 128, 8, 32, true, false, true};
        for (const char* part : {"p.qzeros", "p.scales"}) {
            PackedFolder folder = gptq(shape);
            folder.tensors.erase(part);
            refuses(folder, part);
        }
        PackedFolder folder = gptq(shape);
        folder.add("p.qzeros", "I32", {4, 1},
                   std::vector<uint32_t>{0x77777777, 0x77777777, 0x77787777, 0x77777777});
        refuses(folder, "\"sym\": true");
        folder = gptq(shape);
        folder.add("p.scales", "F16", {4, 7}, std::vector<uint16_t>(28, 0x3c00));
        refuses(folder, "\"p.scales\" is f16 [4, 7], where [4, 8]");
        folder = gptq(shape);
        folder.add("p.scales", "I32", {4, 8}, std::vector<uint32_t>(32, 1));
        refuses(folder, "f16 or bf16 or f32");
        std::vector<int32_t> order(128);
        for (int i = 0; i < 128; ++i)
            order[size_t(i)] = i / 32;
        for (const int32_t wrong : {-1, 4, INT32_MAX}) {
            order[5] = wrong;
            folder = gptq(shape);
            folder.add("p.g_idx", "I32", {128}, order);
            refuses(folder, "puts column 5 into group");
        }
        order[5] = 1;
        folder.add("p.g_idx", "I32", {128}, order);
        refuses(folder, "31 columns into group 0");
        for (const char* config :
             {R"({"quant_method":"gptq","bits":5,"group_size":32})",
              R"({"quant_method":"gptq","group_size":32})",
              R"({"quant_method":"gptq","bits":4,"group_size":0})",
              R"({"quant_method":"gptq","bits":4,"group_size":-9})",
              R"({"quant_method":"gptq","bits":4,"group_size":24})",
              R"({"quant_method":"gptq","bits":4})", R"({"quant_method":"gptq","bits":"4"})"}) {
            folder.quantizer(config);
            refuses(folder, "config.json: \"quantization_config.");
        }
        // Rows that claim to be many while there are no columns.
        folder = {};
        folder.quantizer(R"({"quant_method":"gptq","bits":4,"group_size":32})");
        folder.add("p.qweight", "I32", {0, 1 << 30}, std::vector<uint32_t>{});
        folder.add("p.qzeros", "I32", {0, 1 << 27}, std::vector<uint32_t>{});
        folder.add("p.scales", "F16", {0, 1 << 30}, std::vector<uint16_t>{});
        refuses(folder, "not empty");
        // One where a matrix is expected.
        folder = gptq(shape);
        folder.add("p.qweight", "I32", {128}, std::vector<uint32_t>(128));
        refuses(folder, "of 1 dimensions");
    }
    void otherDamageIsRefused() {
        PackedFolder folder = awq(64, 16, 32);
        folder.tensors.erase("p.qzeros");
        refuses(folder, "p.qzeros");
        folder = awq(64, 16, 32);
        folder.quantizer(R"({"quant_method":"awq","bits":4,"group_size":16})");
        refuses(folder, "\"p.qzeros\" is i32 [2, 2], where [4, 2]");

        folder = packQuantized(4, 32, 64, 32, true, "F16");
        folder.tensors.erase("p.weight_zero_point");
        refuses(folder, "p.weight_zero_point");
        folder = packQuantized(4, 32, 64, 32, false, "F16");
        for (const auto& shape :
             {std::vector<int64_t>{32, 56}, {32, 65}, {31, 64}, {32, -1}, {32, INT64_MAX}}) {
            folder.add("p.weight_shape", "I64", {2}, shape);
            refuses(folder, "p.weight_shape");
        }
        folder = packQuantized(4, 32, 64, 32, false, "F16");
        folder.add("p.weight_g_idx", "I32", {64}, std::vector<int32_t>(64, 7));
        refuses(folder, "puts column 0 into group 7");
        folder.quantizer("{\"quant_method\":\"compressed-tensors\"}");
        refuses(folder, "config_groups");

        folder = nf4(4, 64, 64, true);
        folder.tensors.erase("p.weight.nested_absmax");
        refuses(folder, "p.weight.nested_absmax");
        folder = nf4(4, 64, 64, false);
        folder.add("p.weight.quant_map", "F32", {16}, std::vector<float>(16, 0.5f));
        refuses(folder, "where NF4 has");
        for (const char* state :
             {"", "[]", "{", R"({"shape":[4,64]})", R"({"shape":[4,-64],"blocksize":64})",
              R"({"shape":[1000000000,1000000000],"blocksize":64})",
              R"({"shape":[4,64,1],"blocksize":64})", R"({"shape":[4,128],"blocksize":64})"}) {
            folder = nf4(4, 64, 64, false);
            const std::string text = state;
            folder.add("p.weight.quant_state.bitsandbytes__nf4", "U8", {int64_t(text.size())},
                       std::vector<char>(text.begin(), text.end()));
            refuses(folder, "p.weight");
        }
        folder = llmInt8();
        folder.add("p.SCB", "F32", {7}, std::vector<float>(7, 1));
        refuses(folder, "\"p.SCB\" is of 7 values");
    }
    void everyTruncationIsRefused() {
        const auto path =
            gptq({4, 32, 8, 32, true, false, false}).write(m_root.path().toStdString() + "/whole");
        std::ifstream in(path / "model.safetensors", std::ios::binary);
        const std::string whole((std::istreambuf_iterator<char>(in)), {});
        for (size_t length = 0; length < whole.size(); length += 7) {
            std::ofstream(path / "model.safetensors", std::ios::binary) << whole.substr(0, length);
            QVERIFY_EXCEPTION_THROWN(openCheckpoint(path), Error);
        }
    }
};

QTEST_GUILESS_MAIN(TestPackings)
#include "test_packings.moc"
