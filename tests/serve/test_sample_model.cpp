#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/base/resources.h"
#include "core/quant/apply.h"
#include "tests/support/shared_data.h"

#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QTest>
#include <cmath>

using namespace nibble;

namespace {

/// What the training script found for the file that it wrote, by its own forward pass.
QJsonObject expected() {
    const std::string text = readTextFile(resourcePath("sample_model/logits.json"), 1 << 24);
    return QJsonDocument::fromJson(QByteArray::fromStdString(text)).object();
}

std::vector<TokenId> tokensOf(const QJsonValue& array) {
    std::vector<TokenId> out;
    for (const QJsonValue& value : array.toArray())
        out.push_back(value.toInt());
    return out;
}

std::shared_ptr<const Model> sample() {
    static const auto model = openModel(sampleModelPath());
    return model;
}

} // namespace

class TestSampleModel : public QObject {
    Q_OBJECT
private slots:
    void itIsTheModelOfItsCard() {
        const ModelConfig& c = sample()->config;
        QCOMPARE(c.architecture, std::string("llama"));
        QCOMPARE(c.layers, 12);
        QCOMPARE(c.width, 256);
        QCOMPARE(c.feedForward, 768);
        QCOMPARE(c.heads, 4);
        QCOMPARE(c.kvHeads, 2);
        QCOMPARE(c.headSize, 64);
        QCOMPARE(c.contextLength, 512);
        QCOMPARE(c.vocabulary, 4096);
        QVERIFY(c.tiedEmbedding);
        QVERIFY(!sample()->chatTemplate.empty());
    }

    void logitsAreTheTrainingScripts_data() {
        QTest::addColumn<QString>("device");
        for (const char* device : {"cpu:scalar", "cpu"})
            QTest::newRow(device) << device;
    }
    void logitsAreTheTrainingScripts() {
        QFETCH(QString, device);
        const QJsonObject wanted = expected();
        const std::vector<TokenId> tokens = tokensOf(wanted["tokens"]);
        QCOMPARE(sample()->tokenizer->encode(wanted["prompt"].toString().toStdString(), true),
                 tokens);
        RunOptions options;
        options.placement = placeAll(*sample(), openDevice(device.toStdString()));
        options.context = 64;
        options.kFormat = options.vFormat = KvFormat::F32;
        Runner runner(sample(), options);
        applyRecipe(runner, Recipe{});
        Session session = runner.newSession();
        const std::vector<float> logits = runner.append(session, tokens);
        const QJsonArray values = wanted["logits"].toArray();
        QCOMPARE(qsizetype(logits.size()), values.size());
        double difference = 0, most = 0;
        for (size_t i = 0; i < logits.size(); ++i) {
            const double value = values[qsizetype(i)].toDouble();
            difference = std::max(difference, std::abs(double(logits[i]) - value));
            most = std::max(most, std::abs(value));
        }
        QVERIFY2(difference < 1e-3,
                 qPrintable(QString("off by %1 of %2").arg(difference).arg(most)));
        const auto top = std::max_element(logits.begin(), logits.end()) - logits.begin();
        QCOMPARE(int(top), wanted["argmax"].toInt());
    }

    void textIsSplitAsInTraining() {
        for (const QJsonValue& value : expected()["tokenization"].toArray())
            QCOMPARE(sample()->tokenizer->encode(value["text"].toString().toStdString(), true),
                     tokensOf(value["tokens"]));
    }
};

QTEST_APPLESS_MAIN(TestSampleModel)
#include "test_sample_model.moc"
