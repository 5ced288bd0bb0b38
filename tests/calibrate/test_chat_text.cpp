#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/calibrate/calibrate.h"
#include "core/calibrate/chat_text.h"
#include "core/model/chat_format.h"

#include <QFile>
#include <QTemporaryDir>
#include <QTest>

using namespace nibble;

namespace {

std::shared_ptr<const Model> sample() {
    static const auto model = openModel(resourcePath("sample_model/nibble-sample-f16.gguf"));
    return model;
}

constexpr const char* kChat = R"({"version":1,"id":"a","system_prompt":"Be brief.","turns":[
    {"role":"user","text":"Hello."},
    {"role":"assistant","text":"Good day.","others":[[{"role":"assistant","text":"No."}]]}]})";

} // namespace

class TestChatText : public QObject {
    Q_OBJECT
private slots:
    void aChatIsRenderedAsTheModelReadsIt() {
        write("one.chat", qCompress(kChat));
        const EvaluationText text = chatText(*sample(), path("one.chat"));
        const std::vector<ChatMessage> messages = {
            {"system", "Be brief."}, {"user", "Hello."}, {"assistant", "Good day."}};
        QCOMPARE(text.text, chatPrompt(*sample(), chatFormat(*sample()), messages, false).text);
        QVERIFY(text.special);
        QCOMPARE(text.label, std::string("own chats (1 conversation)"));
    }

    void aFolderIsReadInTheOrderOfNames() {
        const EvaluationText one = chatText(*sample(), path("one.chat"));
        write("two.chat", qCompress(R"({"turns":[{"role":"user","text":"And now?"}]})"));
        write("bad.chat", "damaged");
        write("notes.txt", "not a chat");
        const EvaluationText all = chatText(*sample(), m_folder.path().toStdString());
        QVERIFY(all.text.starts_with(one.text) && all.text.size() > one.text.size());
        QCOMPARE(all.label, std::string("own chats (2 conversations)"));
    }

    void badFilesAreNamed_data() {
        QTest::addColumn<QByteArray>("bytes");
        QTest::newRow("empty") << QByteArray();
        QTest::newRow("no zlib") << QByteArray("four then something");
        QTest::newRow("cut") << qCompress(kChat).chopped(9);
        QTest::newRow("no JSON") << qCompress("turns");
        QTest::newRow("no object") << qCompress("[1]");
        QTest::newRow("no turns") << qCompress(R"({"turns":7})");
        QTest::newRow("nothing said") << qCompress(R"({"turns":[{"role":"user","text":""}]})");
        QTest::newRow("too deep") << qCompress(QByteArray(5000, '['));
    }
    void badFilesAreNamed() {
        QFETCH(QByteArray, bytes);
        write("hurt.chat", bytes);
        try {
            chatText(*sample(), path("hurt.chat"));
            QFAIL("read");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
        }
        QTemporaryDir empty;
        QVERIFY_EXCEPTION_THROWN(chatText(*sample(), empty.path().toStdString()), Error);
    }

    /// Less than one window says how much there is, and how much is needed.
    void fewChatsAskForMore() {
        try {
            CalibrateOptions options;
            options.cached = false;
            calibrate(sample(), chatText(*sample(), path("one.chat")), options);
            QFAIL("calibrated");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            const QString said = error.what();
            QVERIFY2(said.contains("own chats") && said.contains("at least one window of"),
                     error.what());
        }
    }

    /// Chats are a text like any other: methods that need second moments get them, too.
    void aFolderOfChatsCalibrates() {
        QTemporaryDir chats;
        const std::string folder = chats.path().toStdString();
        QString said;
        for (int i = 0; i < 400; ++i)
            said += QStringLiteral("There were %1 boats in the harbour. ").arg(i);
        QFile file(chats.filePath("long.chat"));
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write(qCompress(
            QStringLiteral(R"({"turns":[{"role":"user","text":"%1"}]})").arg(said).toUtf8()));
        file.close();
        const CalibrationChoice choice = lookAtCalibration(sample(), folder);
        QCOMPARE(choice.label, std::string("own chats (1 conversation)"));
        QVERIFY(choice.tokens > 512);
        CalibrateOptions options;
        options.cached = false;
        options.windows = 1;
        const auto calibration = calibrationFromFile(sample(), folder, {}, options);
        QCOMPARE(calibration->text, choice.label);
        QCOMPARE(calibration->tokens, int64_t(512));
        const auto moments = calibration->moments({Role::Down, 1}, {});
        QVERIFY(moments && moments->size == sample()->config.feedForward);
        QCOMPARE(calibrationText(*sample(), folder + "/long.chat").text,
                 chatText(*sample(), folder).text);
    }

    /// A choice is refused when it is made, not when a level is.
    void aChoiceIsLookedAt() {
        QCOMPARE(lookAtCalibration(sample(), {}).label, std::string("shipped calibration text"));
        QVERIFY_EXCEPTION_THROWN(lookAtCalibration(sample(), path("one.chat")), Error);
        QVERIFY_EXCEPTION_THROWN(lookAtCalibration(sample(), path("absent.txt")), Error);
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

QTEST_APPLESS_MAIN(TestChatText)
#include "test_chat_text.moc"
