#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/base/resources.h"
#include "core/evaluate/probes.h"
#include "core/quant/apply.h"

#include <QTest>

using namespace nibble;

namespace {

std::string refusal(std::string_view text) {
    try {
        parseProbes(text, "mine.jsonl");
    } catch (const Error& error) {
        return error.exitCode() == 3 ? error.what() : "another exit code";
    }
    return "accepted";
}

constexpr std::string_view kGood =
    R"({"category":"sums","messages":[{"role":"user","content":"1 + 1?"}],"answer":"2"})";

} // namespace

class TestProbes : public QObject {
    Q_OBJECT
private slots:
    void answersAreComparedByWords() {
        QVERIFY(isRightAnswer("A cow says moo.", "moo"));
        QVERIFY(isRightAnswer("It is THIRTY-four!", "thirty four"));
        QVERIFY(isRightAnswer("34", "34"));
        QVERIFY(!isRightAnswer("134", "34"));
        QVERIFY(!isRightAnswer("moonlight", "moo"));
        QVERIFY(!isRightAnswer("four thirty", "thirty four"));
        QVERIFY(!isRightAnswer("", "2"));
        QVERIFY(isRightAnswer("Er heißt Jörg.", "jörg"));
        QVERIFY(!isRightAnswer("Er heißt Jörgen.", "jörg"));
    }
    void damagedFilesAreRefusedByLine_data() {
        QTest::addColumn<QByteArray>("text");
        QTest::addColumn<QByteArray>("says");
        const QByteArray good(kGood.data(), qsizetype(kGood.size()));
        QTest::newRow("empty") << QByteArray("\n \n") << QByteArray("no questions");
        QTest::newRow("no json") << good + "\n\nnonsense" << QByteArray("line 3");
        QTest::newRow("array") << QByteArray("[1]") << QByteArray("line 1");
        QTest::newRow("no answer")
            << QByteArray(R"({"category":"x","messages":[{"role":"user","content":"y"}]})")
            << QByteArray("\"answer\"");
        QTest::newRow("answer without words")
            << QByteArray(
                   R"({"category":"x","messages":[{"role":"user","content":"y"}],"answer":"?!"})")
            << QByteArray("\"answer\"");
        QTest::newRow("no messages") << QByteArray(R"({"category":"x","messages":[],"answer":"2"})")
                                     << QByteArray("\"messages\"");
        QTest::newRow("message is text")
            << QByteArray(R"({"category":"x","messages":["y"],"answer":"2"})")
            << QByteArray("\"role\"");
        QTest::newRow("ends with an answer")
            << QByteArray(
                   R"({"category":"x","messages":[{"role":"assistant","content":"y"}],"answer":"2"})")
            << QByteArray("last message");
    }
    void damagedFilesAreRefusedByLine() {
        QFETCH(QByteArray, text);
        QFETCH(QByteArray, says);
        const std::string reason = refusal(text.toStdString());
        QVERIFY2(reason.find(says.toStdString()) != std::string::npos, reason.c_str());
        QVERIFY2(reason.find("mine.jsonl") != std::string::npos, reason.c_str());
    }
    void everyPrefixOfALineIsRefused() {
        for (size_t length = 0; length < kGood.size(); ++length)
            QVERIFY(refusal(kGood.substr(0, length)) != "accepted");
        QCOMPARE(refusal(kGood), std::string("accepted"));
    }
    void theSampleAnswersItsProbes() {
        if (!std::filesystem::exists(sampleModelPath()))
            QSKIP("no sample model here");
        const auto model = openModel(sampleModelPath());
        std::vector<Probe> probes = readProbes(resourcePath("sample_model/probes.jsonl"));
        QVERIFY(probes.size() >= 300);
        // Every tenth, for time; the sample's card promises more than four fifths of all.
        std::vector<Probe> some;
        for (size_t i = 0; i < probes.size(); i += 10)
            some.push_back(probes[i]);
        RunOptions options;
        options.placement = placeAll(*model, openCpu());
        options.context = 512;
        Runner runner(model, options);
        applyRecipe(runner, {});
        int64_t replies = 0, right = 0;
        const ProbeReport report =
            measureProbes(runner, some, {}, [&](const Probe&, std::string_view reply, bool good) {
                replies += !reply.empty();
                right += good;
            });
        QCOMPARE(report.count, int64_t(some.size()));
        QCOMPARE(replies, report.count);
        int64_t counted = 0, correct = 0;
        for (const auto& category : report.categories) {
            counted += category.count;
            correct += category.correct;
            QVERIFY(category.correct <= category.count);
        }
        QCOMPARE(counted, report.count);
        QCOMPARE(correct, right);
        QCOMPARE(report.accuracy, double(right) / double(report.count));
        QVERIFY2(report.accuracy > 0.6, qPrintable(QString::number(report.accuracy)));
    }
    void theShippedTextsHoldNoProbe_data() {
        QTest::addColumn<QString>("file");
        QTest::addRow("calibration") << "text/calibration.txt.z";
        QTest::addRow("evaluation") << "text/evaluation.txt.z";
    }
    void theShippedTextsHoldNoProbe() {
        QFETCH(QString, file);
        const std::string text =
            inflateText(mapFile(resourcePath(file.toStdString())).view(), limits::kTextBytes);
        QVERIFY(text.size() > 100'000);
        for (const Probe& probe : readProbes(resourcePath("sample_model/probes.jsonl"))) {
            std::string asked;
            for (const ChatMessage& message : probe.messages)
                asked += "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n";
            QVERIFY2(text.find(asked) == std::string::npos, asked.c_str());
        }
    }
    void questionsBeyondTheContextAreRefused() {
        if (!std::filesystem::exists(sampleModelPath()))
            QSKIP("no sample model here");
        const auto model = openModel(sampleModelPath());
        RunOptions options;
        options.placement = placeAll(*model, openCpu());
        options.context = 32;
        Runner runner(model, options);
        applyRecipe(runner, {});
        const std::vector<Probe> probes{{"x", {{"user", std::string(2000, 'a')}}, "b"}};
        QVERIFY_EXCEPTION_THROWN(measureProbes(runner, probes), Error);
    }
    void cancelling() {
        if (!std::filesystem::exists(sampleModelPath()))
            QSKIP("no sample model here");
        const auto model = openModel(sampleModelPath());
        RunOptions options;
        options.placement = placeAll(*model, openCpu());
        options.context = 512;
        Runner runner(model, options);
        applyRecipe(runner, {});
        Progress progress;
        progress.cancel = std::make_shared<std::atomic<bool>>(true);
        try {
            measureProbes(runner, parseProbes(kGood, "x"), progress);
            QFAIL("cancelled");
        } catch (const Error& error) {
            QVERIFY(error.kind() == ErrorKind::Cancelled);
        }
    }
};

QTEST_GUILESS_MAIN(TestProbes)
#include "test_probes.moc"
