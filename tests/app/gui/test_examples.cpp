#include "app/gui/chat/examples.h"
#include "core/base/resources.h"
#include "core/serve/engine.h"

#include <QRegularExpression>
#include <QTest>

using namespace nibble;

namespace {

/// What a right answer to an example says; examples and answers are told apart by the prompt.
struct Expected {
    const char* prompt;
    const char* pattern;
};
constexpr Expected kExpected[] = {
    {"Who are you?", "Nibble"},
    {"What can you do?", "questions|sums|stories"},
    {"What is the capital of Japan?", "\\bTokyo\\b"},
    {"What is 48 + 35?", "\\b83\\b"},
    {"Sort these words: tiger, apple, moon", "apple, moon, tiger"},
    {"Tom has 7 apples and gets 5 more. How many apples does Tom have now?", "\\b12\\b"},
    {"What does a cow say? Answer in one word.", "^Moo\\.?$"},
    {"Tell me a short story about a fox.", "\\bfox\\b"},
};

} // namespace

/// The prompts that an empty chat offers are answered rightly by the model that ships, as the first
/// answer of a new user's first minute.
class TestExamples : public QObject {
    Q_OBJECT
private slots:
    void initTestCase() {
        EngineOptions options;
        options.device = "cpu";
        options.context = 512;
        m_engine.open(openModel(sampleModelPath()), Recipe{}, options);
    }
    void everyExampleHasItsAnswer() { QCOMPARE(examplePrompts().size(), std::size(kExpected)); }
    void answersAreRight_data() {
        QTest::addColumn<QString>("prompt");
        for (const ExamplePrompt& example : examplePrompts())
            QTest::newRow(example.title) << QString(example.prompt);
    }
    void answersAreRight() {
        QFETCH(QString, prompt);
        const auto* expected =
            std::find_if(std::begin(kExpected), std::end(kExpected),
                         [&](const Expected& e) { return prompt == QString(e.prompt); });
        QVERIFY(expected != std::end(kExpected));
        ChatRequest request;
        request.messages = {{"user", prompt.toStdString()}};
        request.options.maxTokens = 300;
        request.options.sampler.temperature = 0;
        const GenerateResult result = m_engine.chat(request);
        const QString text = QString::fromStdString(result.text).trimmed();
        QVERIFY2(QRegularExpression(expected->pattern).match(text).hasMatch(), qPrintable(text));
        QVERIFY2(text.endsWith('.') || text.endsWith('!') || text.endsWith('"') ||
                     text.endsWith('?') || text == "apple, moon, tiger",
                 qPrintable(text));
        QVERIFY2(int(result.tokens.size()) < 300, qPrintable(text));
    }
    /// Long enough to be one, in whole sentences, not the same sentence again and again.
    void storiesAreStories_data() {
        QTest::addColumn<QString>("about");
        for (const char* about : {"a fox", "a clever mouse", "a princess", "an old bear"})
            QTest::newRow(about) << about;
    }
    void storiesAreStories() {
        QFETCH(QString, about);
        ChatRequest request;
        request.messages = {{"user", "Tell me a story about " + about.toStdString() + "."}};
        request.options.maxTokens = 300;
        request.options.sampler.temperature = 0;
        const QString text = QString::fromStdString(m_engine.chat(request).text).trimmed();
        QVERIFY2(text.split(' ').size() >= 50, qPrintable(text));
        QVERIFY2(text.endsWith('.') || text.endsWith('"'), qPrintable(text));
        QVERIFY2(text.contains(about.section(' ', -1)), qPrintable(text));
        QStringList sentences = text.split(QRegularExpression("[.!?]\"?\\s"), Qt::SkipEmptyParts);
        QCOMPARE(sentences.removeDuplicates(), 0);
    }

private:
    Engine m_engine;
};

QTEST_GUILESS_MAIN(TestExamples)
#include "test_examples.moc"
