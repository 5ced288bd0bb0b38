#include "tests/tokenizer/oracle_cases.h"

#include "core/base/error.h"
#include "core/tokenizer/chat_template.h"

using namespace nibble;
using namespace nibble::test;

namespace {

const std::vector<ChatMessage> kTurns = {
    {"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello."}, {"user", "Bye"}};

} // namespace

class TestChatTemplate : public QObject {
    Q_OBJECT

private slots:
    void asTheModelsOwnTemplates_data() {
        QTest::addColumn<QByteArray>("model");
        QTest::addColumn<QByteArray>("format");
        QTest::addColumn<bool>("withoutAnswerToo"); ///< also without the opening of an answer
        QTest::addColumn<bool>("withSystem");
        const auto row = [](const char* model, const char* format, bool closed, bool system) {
            QTest::newRow(model) << QByteArray(model) << QByteArray(format) << closed << system;
        };
        row("Qwen-Qwen3-0.6B", "chatml", true, true);
        row("LFM2-8B-A1B", "chatml", true, true);
        row("Qwen-Qwen2.5-7B-Instruct", "qwen2.5", true, true);
        row("meta-llama-Llama-3.1-8B-Instruct", "llama-3.1", true, true);
        row("mistralai-Mistral-Nemo-Instruct-2407", "mistral", true, true);
        row("google-gemma-2-2b-it", "gemma", true, false); // refuses a system message
        row("microsoft-Phi-3.5-mini-instruct", "phi-3", false,
            true); // ends closed prompts with its EOS
    }
    void asTheModelsOwnTemplates() {
        NIBBLE_NEED_SHARED("oracles/templates/expected.json");
        QFETCH(QByteArray, model);
        QFETCH(QByteArray, format);
        QFETCH(bool, withoutAnswerToo);
        QFETCH(bool, withSystem);
        const std::string jinja =
            readWhole(sharedPath("oracles/templates") / (model.toStdString() + ".jinja"));
        const ChatTemplate& found = detectChatTemplate(jinja);
        QCOMPARE(QByteArray(found.name), format);
        const auto oracle =
            nlohmann::json::parse(readWhole(sharedPath("oracles/templates/expected.json")));
        for (const auto& [name, conversation] : oracle["conversations"].items()) {
            std::vector<ChatMessage> messages;
            for (const auto& message : conversation)
                messages.push_back({message["role"], message["content"]});
            if (!withSystem && messages.front().role == "system")
                continue;
            for (const bool open : {true, false}) {
                if (!open && !withoutAnswerToo)
                    continue;
                std::string expected =
                    oracle["expected"][model.toStdString()][name + (open ? "/gen" : "/nogen")];
                if (expected.starts_with("<s>")) // the oracle's BOS, which is the caller's to add
                    expected = expected.substr(3);
                QCOMPARE(found.render(messages, open), expected);
            }
        }
    }

    void rendered_data() {
        QTest::addColumn<QByteArray>("format");
        QTest::addColumn<QByteArray>("expected");
        const auto row = [](const char* format, const char* expected) {
            QTest::newRow(format) << QByteArray(format) << QByteArray(expected);
        };
        row("llama-3", "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                       "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                       "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
                       "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
                       "<|start_header_id|>assistant<|end_header_id|>\n\n");
        row("llama-2",
            "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Bye [/INST]");
        row("mistral-v1", "[INST] Be brief.\n\nHi [/INST] Hello.</s>[INST] Bye [/INST]");
        row("gemma",
            "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello."
            "<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n");
        row("plain", "Be brief.\nHiHello.\nBye");
    }
    void rendered() {
        QFETCH(QByteArray, format);
        QFETCH(QByteArray, expected);
        QCOMPARE(
            QByteArray::fromStdString(getChatTemplate(format.toStdString()).render(kTurns, true)),
            expected);
    }

    void detection() {
        const auto detect = [](const char* jinja) {
            return std::string(detectChatTemplate(jinja).name);
        };
        QCOMPARE(detect(""), std::string("plain"));
        QCOMPARE(detect("{{ messages }}"), std::string("plain"));
        QCOMPARE(detect("'<|start_header_id|>' + role"), std::string("llama-3"));
        QCOMPARE(detect("'[INST] <<SYS>>\\n'"), std::string("llama-2"));
        QCOMPARE(detect("'[INST] ' + content + ' [/INST]'"), std::string("mistral-v1"));
    }

    void emptyConversations() {
        for (const ChatTemplate& format : chatTemplates()) {
            QCOMPARE(&getChatTemplate(format.name), &format);
            format.render({}, true);
            const std::vector<ChatMessage> system = {{"system", "x"}};
            format.render(system, false);
        }
        QVERIFY_THROWS_EXCEPTION(Error, getChatTemplate("no such format"));
    }
};

QTEST_GUILESS_MAIN(TestChatTemplate)
#include "test_chat_template.moc"
