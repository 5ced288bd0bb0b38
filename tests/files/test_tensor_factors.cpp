#include "core/base/error.h"
#include "core/files/checkpoint.h"
#include "core/tensor/planes.h"
#include "tests/files/gguf_bytes.h"

#include <QTemporaryDir>
#include <QTest>
#include <fstream>
#include <limits>

using namespace nibble;
using nibble::test::GgufBytes;

namespace {

constexpr uint32_t kF32 = 0, kF16 = 1, kNvfp4 = 40;

/// "w.weight": two experts of 2 rows of 64 values. In each block: scale 1.5 (0x3c) for the first
/// group, 0.25 (0x28) for the second; codes 7 (6) and 9 (−0.5) are its first two bytes' low
/// nibbles.
GgufBytes& weights(GgufBytes& file) {
    for (int row = 0; row < 4; ++row) {
        file.put(uint8_t(0x3c)).put(uint8_t(0x28)).put(uint16_t(0));
        for (int byte = 0; byte < 32; ++byte)
            file.put(uint8_t(byte % 8 == 0 ? 7 : byte % 8 == 1 ? 9 : 0));
    }
    return file.pad();
}

/// The weights and one tensor of 32 bytes of data at most beside them.
GgufBytes withSidecar(const char* name, std::vector<float> values, uint32_t type = kF32) {
    GgufBytes file(2, 0);
    file.tensor("w.weight", {64, 2, 2}, kNvfp4, 0)
        .tensor(name, {type == kF16 ? values.size() * 2 : values.size()}, type, 160)
        .pad();
    weights(file);
    for (const float value : values)
        file.put(value);
    return file.pad();
}

} // namespace

class TestTensorFactors : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;

    std::shared_ptr<const Checkpoint> open(const std::string& bytes) {
        const auto path = std::filesystem::path(m_folder.path().toStdString()) / "model.gguf";
        std::ofstream(path, std::ios::binary) << bytes;
        return openCheckpoint(path);
    }
    std::string refusal(const std::string& bytes) {
        try {
            open(bytes);
            return "opened";
        } catch (const Error& e) {
            return e.kind() == ErrorKind::BadInput ? e.what() : "wrong kind";
        }
    }

private slots:
    void factorsMultiplyTheValues_data() {
        QTest::addColumn<QString>("name");
        QTest::addColumn<QList<float>>("factors");
        QTest::newRow("one") << "w.scale" << QList<float>{0.1f};
        QTest::newRow("one, another converter's name") << "w.weight.scale" << QList<float>{0.1f};
        QTest::newRow("for each expert") << "w.scale" << QList<float>{0.1f, -3e-4f};
    }
    void factorsMultiplyTheValues() {
        QFETCH(QString, name);
        QFETCH(QList<float>, factors);
        const auto checkpoint =
            open(withSidecar(name.toUtf8().constData(), {factors.begin(), factors.end()}).bytes());
        const TensorInfo& info = checkpoint->get("w.weight");
        QCOMPARE(info.storedText(), std::string("nvfp4, runs as nvfp4_f32"));
        QCOMPARE(checkpoint->get(name.toStdString()).owner, std::string("w.weight"));
        QVERIFY(checkpoint->conversionNote().find("1 of nvfp4 run as nvfp4_f32") !=
                std::string::npos);
        const Tensor tensor = loadTensor(info);
        QCOMPARE(tensor.format, &getFormat("nvfp4_f32"));
        QCOMPARE(tensor.experts, 2);
        const auto values = decode(tensor);
        for (int row = 0; row < 4; ++row) {
            const float factor = factors[factors.size() == 2 ? row / 2 : 0];
            const auto at = [&](int column) {
                return values[static_cast<size_t>(row * 64 + column)];
            };
            // Codes of a group lie in 8 bytes: low nibbles its first 8 values, high its last.
            QCOMPARE(at(0), factor * 1.5f * 6);
            QCOMPARE(at(1), factor * 1.5f * -0.5f);
            QCOMPARE(at(2), 0.0f);
            QCOMPARE(at(16), factor * 0.25f * 6);
            QCOMPARE(at(17), factor * 0.25f * -0.5f);
        }
    }
    void withoutFactorsNothingChanges() {
        GgufBytes file(1, 0);
        file.tensor("w.weight", {64, 2, 2}, kNvfp4, 0).pad();
        const auto checkpoint = open(weights(file).bytes());
        const TensorInfo& info = checkpoint->get("w.weight");
        QCOMPARE(info.storedText(), std::string("nvfp4"));
        QVERIFY(checkpoint->conversionNote().empty());
        QCOMPARE(loadTensor(info).format, &getFormat("nvfp4"));
        QCOMPARE(decode(loadTensor(info))[0], 9.0f);
    }
    void scalesOfActivationsAreSetAside() {
        const auto checkpoint = open(withSidecar("w.input_scale", {0.5f}).bytes());
        QCOMPARE(checkpoint->get("w.input_scale").owner, std::string("w.weight"));
        QCOMPARE(decode(loadTensor(checkpoint->get("w.weight")))[0], 9.0f);
    }
    void otherTensorsAreLeftAlone() {
        // Named like a scale, but of no weight.
        const auto checkpoint = open(withSidecar("v.scale", {0.5f}).bytes());
        QVERIFY(checkpoint->get("v.scale").owner.empty());
        QCOMPARE(decode(loadTensor(checkpoint->get("w.weight")))[0], 9.0f);
    }

    void wrongFactorsAreRefused() {
        const auto says = [&](const GgufBytes& file, const char* what) {
            const QString sentence = QString::fromStdString(refusal(file.bytes()));
            QVERIFY2(sentence.contains("\"w.scale\"") && sentence.contains(what) &&
                         sentence.count('\n') == 0,
                     qPrintable(sentence));
        };
        says(withSidecar("w.scale", {1, 2, 3}), "holds 3 values");
        says(withSidecar("w.scale", {1}, kF16), "of type f16");
        says(withSidecar("w.scale", {std::numeric_limits<float>::quiet_NaN()}), "holds nan");
        says(withSidecar("w.scale", {std::numeric_limits<float>::infinity()}), "holds inf");
    }
    void everyPrefixIsRefused() {
        const std::string bytes = withSidecar("w.scale", {0.1f, 0.2f}).bytes();
        const size_t end = bytes.size() - 32 + 2 * sizeof(float); // the rest is padding
        for (size_t n = 0; n < end; ++n) {
            const std::string sentence = refusal(bytes.substr(0, n));
            QVERIFY2(sentence.find("model.gguf: ") == 0,
                     qPrintable(QString("prefix %1: %2").arg(n).arg(sentence.c_str())));
        }
        QCOMPARE(refusal(bytes.substr(0, end)), std::string("opened"));
    }
    void flippedBitsNeverCrash() {
        const std::string bytes = withSidecar("w.scale", {0.1f, 0.2f}).bytes();
        const size_t header = bytes.size() - 192; // 160 bytes of weights, 32 of factors
        for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
            if (bit / 8 >= header && bit / 8 < header + 156)
                continue; // any bits are weights
            std::string damaged = bytes;
            damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
            try {
                const auto checkpoint = open(damaged);
                for (const TensorInfo& info : checkpoint->tensors)
                    if (info.format())
                        loadTensor(info);
            } catch (const Error& e) {
                QCOMPARE(e.kind(), ErrorKind::BadInput);
            }
        }
    }
};

QTEST_GUILESS_MAIN(TestTensorFactors)
#include "test_tensor_factors.moc"
