#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/calibrate/calibrate.h"
#include "core/calibrate/imatrix.h"

#include <QFile>
#include <QTemporaryDir>
#include <QTest>
#include <cmath>
#include <cstring>

using namespace nibble;

namespace {

std::shared_ptr<const Model> sample() {
    static const auto model = openModel(resourcePath("sample_model/nibble-sample-f16.gguf"));
    return model;
}

/// llama.cpp's older container, by hand.
class OldFile {
public:
    void number(int32_t value) { m_bytes.append(reinterpret_cast<const char*>(&value), 4); }
    void entry(const char* name, int32_t calls, const std::vector<float>& values) {
        number(static_cast<int32_t>(std::strlen(name)));
        m_bytes.append(name);
        number(calls);
        number(static_cast<int32_t>(values.size()));
        m_bytes.append(reinterpret_cast<const char*>(values.data()),
                       static_cast<qsizetype>(values.size() * sizeof(float)));
    }
    QByteArray bytes() const { return m_bytes; }

private:
    QByteArray m_bytes;
};

} // namespace

class TestImatrix : public QObject {
    Q_OBJECT
private slots:
    void whatIsWrittenIsReadBack() {
        CalibrateOptions options;
        options.context = 64;
        options.windows = 4;
        options.moments = false;
        const auto made = calibrate(sample(), shippedCalibrationText(), options);
        writeImatrix(*sample(), *made, path("made.gguf"));
        QVERIFY(isImatrix(path("made.gguf")));
        const auto read = readImatrix(*sample(), path("made.gguf"));
        QCOMPARE(read->tokens, made->tokens);
        QCOMPARE(read->inputs.size(), made->inputs.size());
        for (const auto& [key, statistics] : made->inputs) {
            const InputStatistics& back = read->get(key);
            QCOMPARE(back.absMax, statistics.absMax);
            QCOMPARE(back.meanAbs, statistics.meanAbs);
            QCOMPARE(back.percentiles, statistics.percentiles);
            QCOMPARE(back.percentiles.size(), back.absMax.size() * std::size(kPercentiles));
            for (size_t c = 0; c < back.meanSquare.size(); ++c) // multiplied and divided once
                QVERIFY(std::abs(back.meanSquare[c] - statistics.meanSquare[c]) <=
                        0x1p-22f * statistics.meanSquare[c]);
        }
        QVERIFY(!read->moments);
    }

    /// Σx² · calls / count, as llama.cpp wrote it until 2025.
    void theOlderContainerIsRead() {
        std::vector<float> energies(256);
        for (size_t i = 0; i < energies.size(); ++i)
            energies[i] = static_cast<float>(i) * 8;
        OldFile file;
        file.number(1);
        file.entry("blk.1.attn_q.weight", 8, energies);
        file.number(8); // what follows is not needed
        write("old.dat", file.bytes());
        QVERIFY(isImatrix(path("old.dat")));
        const auto read = readImatrix(*sample(), path("old.dat"));
        const InputStatistics& found = read->get({Role::Value, 1}); // shares the input of q
        QCOMPARE(found.meanSquare[3], 3.0f);
        QCOMPARE(found.meanSquare[255], 255.0f);
        QVERIFY(read->find({Role::Down, 1}) == nullptr);
        QVERIFY_EXCEPTION_THROWN(read->get({Role::Down, 1}), Error);
    }

    void everyPrefixIsRefused() {
        OldFile file;
        file.number(2);
        file.entry("blk.0.attn_q.weight", 1, std::vector<float>(256, 1.0f));
        file.entry("blk.1.attn_q.weight", 1, std::vector<float>(256, 1.0f));
        for (qsizetype size = 16; size < file.bytes().size(); size += 7) {
            write("cut.dat", file.bytes().first(size));
            try {
                readImatrix(*sample(), path("cut.dat"));
                QFAIL("read");
            } catch (const Error& error) {
                QCOMPARE(error.kind(), ErrorKind::BadInput);
            }
        }
    }

    void wrongContentsAreNamed_data() {
        QTest::addColumn<QByteArray>("bytes");
        QTest::addColumn<QString>("named");
        const auto with = [](const char* name, std::vector<float> values, int32_t entries = 1) {
            OldFile file;
            file.number(entries);
            file.entry(name, 1, values);
            return file.bytes();
        };
        QTest::newRow("another width")
            << with("blk.0.attn_q.weight", std::vector<float>(100, 1.0f)) << "100 channels";
        QTest::newRow("another model")
            << with("encoder.weight", std::vector<float>(256, 1.0f)) << "names no tensor";
        std::vector<float> bad(256, 1.0f);
        bad[7] = NAN;
        QTest::newRow("not a number") << with("blk.0.attn_q.weight", bad) << "nan";
        bad[7] = -1;
        QTest::newRow("negative") << with("blk.0.attn_q.weight", bad) << "-1";
        OldFile many;
        many.number(1);
        many.number(19);
        QByteArray huge = many.bytes() + "blk.0.attn_q.weight";
        const int32_t calls = 1, values = 2000000000;
        huge.append(reinterpret_cast<const char*>(&calls), 4);
        huge.append(reinterpret_cast<const char*>(&values), 4);
        QTest::newRow("more values than any file") << huge << "number of values";
    }
    void wrongContentsAreNamed() {
        QFETCH(QByteArray, bytes);
        QFETCH(QString, named);
        write("bad.dat", bytes);
        try {
            readImatrix(*sample(), path("bad.dat"));
            QFAIL("read");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(QString(error.what()).contains(named), error.what());
        }
    }

    void otherEncodingsAreRefused_data() {
        QTest::addColumn<QByteArray>("bytes");
        QTest::newRow("UTF-16") << QByteArray("O\0n\0c\0e\0 \0u\0p\0o\0n\0 \0a\0", 22);
        QTest::newRow("Latin-1") << QByteArray("Il \xe9tait une fois un petit pr\xefnce.");
    }
    void otherEncodingsAreRefused() {
        QFETCH(QByteArray, bytes);
        write("text.txt", bytes);
        try {
            calibrationFromFile(sample(), path("text.txt"));
            QFAIL("read");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY2(QString(error.what()).contains("UTF-8"), error.what());
        }
    }

private:
    std::filesystem::path path(const char* name) const {
        return m_folder.path().toStdString() + "/" + name;
    }
    void write(const char* name, const QByteArray& bytes) {
        QFile file(QString::fromStdString(path(name).string()));
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write(bytes);
    }
    QTemporaryDir m_folder;
};

QTEST_APPLESS_MAIN(TestImatrix)
#include "test_imatrix.moc"
