#include "core/base/error.h"
#include "core/files/packings.h"
#include "core/tensor/planes.h"
#include "tests/support/packed_folder.h"

#include <QTemporaryDir>
#include <QTest>
#include <cmath>
#include <fstream>

using namespace nibble;
using test::PackedFolder;

namespace {

/// Two experts of three rows of 64 values: nibbles count up from value to value, exponents from
/// group to group.
PackedFolder small() {
    PackedFolder folder;
    std::vector<uint8_t> blocks, scales;
    for (int row = 0; row < 6; ++row)
        for (int group = 0; group < 2; ++group) {
            scales.push_back(static_cast<uint8_t>(120 + row * 2 + group));
            for (int i = 0; i < 32; i += 2)
                blocks.push_back(static_cast<uint8_t>((i + row) % 16 | (i + 1 + row) % 16 << 4));
        }
    folder.add("e.p_blocks", "U8", {2, 3, 2, 16}, blocks);
    folder.add("e.p_scales", "U8", {2, 3, 2}, scales);
    folder.add("e.p_bias", "F32", {2, 3}, std::vector<float>(6));
    folder.quantizer("{\"quant_method\":\"mxfp4\"}");
    return folder;
}

float expected(int64_t row, int64_t col) {
    constexpr float kValues[] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                 -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    return kValues[(col % 32 + row) % 16] *
           std::ldexp(1.0f, static_cast<int>(120 + row * 2 + col / 32 - 127));
}

} // namespace

/// Experts that folders of gpt-oss keep in MXFP4.
class TestMxfp4Folder : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;

    std::shared_ptr<const Checkpoint> opened(const PackedFolder& folder) const {
        return openCheckpoint(folder.write(m_folder.path().toStdString()));
    }
    void refuses(const PackedFolder& folder, const char* says) const {
        try {
            opened(folder);
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(std::string(error.what()).find(says) != std::string::npos, error.what());
            return;
        }
        QFAIL("nothing was refused");
    }

private slots:
    void stacksAreOneTensor() {
        const auto checkpoint = opened(small());
        QCOMPARE(checkpoint->unsupported, std::string());
        QCOMPARE(checkpoint->tensors.size(), size_t(2));
        const TensorInfo& info = checkpoint->get("e.p");
        QCOMPARE(info.dims, (std::vector<int64_t>{2, 3, 64}));
        QCOMPARE(info.storedText(), std::string("mxfp4 (gpt-oss blocks)"));
        QCOMPARE(info.storedBytes(), uint64_t(6 * 2 * 17));
        const Tensor tensor = loadTensor(info);
        QCOMPARE(tensor.experts, int64_t(2));
        const std::vector<float> values = decode(tensor);
        QCOMPARE(values.size(), size_t(6 * 64));
        for (int64_t row = 0; row < 6; ++row)
            for (int64_t col = 0; col < 64; ++col)
                QCOMPARE(values[size_t(row * 64 + col)], expected(row, col));
    }

    void someRowsAreThoseOfAll() {
        const TensorInfo info = opened(small())->get("e.p");
        const Tensor rows = info.packed->loadRows("r", 1, 2, 3);
        QCOMPARE(rows.rows, int64_t(2));
        QCOMPARE(rows.experts, int64_t(1));
        const std::vector<float> values = decode(rows);
        for (int64_t row = 0; row < 2; ++row)
            for (int64_t col = 0; col < 64; ++col)
                QCOMPARE(values[size_t(row * 64 + col)], expected(1 + row * 3, col));
    }

    void everyExponentIsKept() {
        PackedFolder folder;
        std::vector<uint8_t> scales(256);
        for (int i = 0; i < 256; ++i)
            scales[size_t(i)] = static_cast<uint8_t>(i);
        folder.add("e.p_blocks", "U8", {1, 256, 1, 16}, std::vector<uint8_t>(256 * 16, 0x22));
        folder.add("e.p_scales", "U8", {1, 256, 1}, scales);
        folder.quantizer("{\"quant_method\":\"mxfp4\"}");
        const Tensor tensor = loadTensor(opened(folder)->get("e.p"));
        for (int i = 0; i < 256; ++i)
            QCOMPARE(rawScale(tensor, i, 0), uint32_t(i));
        QCOMPARE(decode(tensor)[130 * 32], 8.0f); // 1 · 2³
    }

    void damageIsNamed() {
        PackedFolder folder = small();
        folder.tensors.erase("e.p_scales");
        refuses(folder, "\"e.p_scales\" is missing");
        folder = small();
        folder.tensors.erase("e.p_blocks");
        refuses(folder, "\"e.p_blocks\" is missing");
        folder = small();
        folder.tensors["e.p_scales"].dims = {6, 2};
        refuses(folder, "\"e.p_scales\" is of 2 dimensions, where 3");
        folder = small();
        folder.tensors["e.p_blocks"].dims = {2, 3, 4, 8};
        refuses(folder, "\"e.p_blocks\" is u8 [2, 3, 4, 8], where [2, 3, 2, 16]");
        folder = small();
        folder.tensors["e.p_blocks"].dims = {2, 3, 32};
        refuses(folder, "\"e.p_blocks\" is u8 [2, 3, 32]");
        folder = small();
        folder.tensors["e.p_scales"].dtype = "I8";
        refuses(folder, "\"e.p_scales\" is i8");
        folder = small();
        folder.tensors["e.p_blocks"] = {"U8", {2, 3, 0, 16}, ""};
        refuses(folder, "\"e.p_blocks\"");
    }

    void everyTruncationIsRefused() {
        const std::filesystem::path path =
            small().write(m_folder.path().toStdString()) / "model.safetensors";
        const auto size = std::filesystem::file_size(path);
        for (auto length = size; length-- > 0;) {
            std::filesystem::resize_file(path, length);
            QVERIFY_EXCEPTION_THROWN(openCheckpoint(path.parent_path()), Error);
        }
    }
};

QTEST_GUILESS_MAIN(TestMxfp4Folder)
#include "test_mxfp4_folder.moc"
