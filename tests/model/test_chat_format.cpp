#include "core/base/error.h"
#include "core/model/chat_format.h"
#include "core/template/template_error.h"
#include "tests/support/shared_data.h"

#include <QTemporaryDir>
#include <QTest>
#include <nlohmann/json.hpp>

#include <fstream>

using namespace nibble;
using namespace nibble::test;

namespace {

const std::vector<ChatMessage> kTurns = {
    {"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello."}, {"user", "Bye"}};

/// A model with a byte-level vocabulary that has these control tokens, "<s>" and "</s>" first.
Model modelWith(const std::vector<std::string>& marks, const std::string& jinja = {},
                bool addBos = false) {
    std::vector<std::string> tokens = {"<s>", "</s>"};
    tokens.insert(tokens.end(), marks.begin(), marks.end());
    std::vector<int32_t> types(tokens.size(), 3);
    for (int byte = 33; byte < 127; ++byte) {
        tokens.emplace_back(1, static_cast<char>(byte));
        types.push_back(1);
    }
    for (const char* one : {"Ġ", "Ċ"}) {
        tokens.emplace_back(one);
        types.push_back(1);
    }
    Tokenizer::Info info;
    info.bos = 0;
    info.eos = 1;
    info.addBos = addBos;
    Model model;
    model.name = "Testling";
    model.tokenizer = makeBpeTokenizer(tokens, types, {}, "gpt-2", info);
    model.chatTemplate = jinja;
    return model;
}

std::string render(const Model& model, std::string_view name, bool open = true) {
    return chatPrompt(model, chatFormat(model, name), kTurns, open).text;
}

constexpr const char* kNoSystem =
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not "
    "supported') }}{% endif %}{{ '[' + m.role + ':' + m.content + ']' }}{% endfor %}";

} // namespace

class TestChatFormat : public QObject {
    Q_OBJECT

private slots:
    void builtIn_data() {
        QTest::addColumn<QByteArray>("name");
        QTest::addColumn<QByteArray>("expected");
        const auto row = [](const char* name, const char* expected) {
            QTest::newRow(name) << QByteArray(name) << QByteArray(expected);
        };
        row("chatml", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                      "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
                      "<|im_start|>assistant\n");
        row("llama-3", "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                       "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                       "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
                       "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
                       "<|start_header_id|>assistant<|end_header_id|>\n\n");
        row("llama-2", "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] "
                       "Bye [/INST]");
        row("mistral", "<s>[INST]Hi[/INST]Hello.</s>[INST]Be brief.\n\nBye[/INST]");
        row("mistral-v1", "<s>[INST] Be brief.\n\nHi [/INST] Hello.</s>[INST] Bye [/INST]");
        row("gemma", "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n"
                     "Hello.<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n"
                     "<start_of_turn>model\n");
        row("phi-3", "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello."
                     "<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n");
        row("zephyr", "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n"
                      "<|user|>\nBye</s>\n<|assistant|>\n");
        row("alpaca", "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello.\n\n"
                      "### Instruction:\nBye\n\n### Response:\n");
        row("plain", "Be brief.\nHiHello.\nBye");
    }
    void builtIn() {
        QFETCH(QByteArray, name);
        QFETCH(QByteArray, expected);
        const Model model = modelWith({});
        QCOMPARE(QByteArray::fromStdString(render(model, name.toStdString())), expected);
        chatPrompt(model, chatFormat(model, name.toStdString()), {}, false); // nothing said yet
    }
    void everyBuiltInIsTested() { QCOMPARE(builtInTemplates().size(), size_t(10)); }

    void usual_data() {
        QTest::addColumn<QStringList>("marks");
        QTest::addColumn<QByteArray>("name");
        const auto row = [](const char* name, const QStringList& marks) {
            QTest::newRow(name) << marks << QByteArray(name);
        };
        row("chatml", {"<|im_start|>", "<|im_end|>"});
        row("llama-3", {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"});
        row("gemma", {"<start_of_turn>", "<end_of_turn>"});
        row("phi-3", {"<|user|>", "<|assistant|>", "<|end|>"});
        row("zephyr", {"<|user|>", "<|assistant|>"});
        row("mistral", {"[INST]", "[/INST]"});
        row("plain", {"<|im_start|>"}); // half of the marks is none
    }
    void usual() {
        QFETCH(QStringList, marks);
        QFETCH(QByteArray, name);
        std::vector<std::string> tokens;
        for (const QString& mark : marks)
            tokens.push_back(mark.toStdString());
        const ChatFormat format = chatFormat(modelWith(tokens));
        QCOMPARE(QByteArray::fromStdString(format.name), name);
        QCOMPARE(int(format.origin), int(ChatFormat::Origin::BuiltIn));
        QVERIFY(format.note.find("has no chat template") != std::string::npos);
        QCOMPARE(format.fits, name != "plain");
    }

    void ownComesFirst() {
        const Model model = modelWith({"<|im_start|>", "<|im_end|>"}, "{{ messages|length }}");
        const ChatFormat format = chatFormat(model);
        QCOMPARE(format.name, std::string("own"));
        QVERIFY(format.note.empty());
        QCOMPARE(render(model, ""), std::string("4"));
        QVERIFY(render(model, "chatml").starts_with("<|im_start|>system"));
        QVERIFY(chatFormat(model, "chatml").fits);
        QVERIFY(!chatFormat(model, "gemma").fits);
        QVERIFY(!chatFormat(model, "gemma").note.empty());
    }
    void aFileCanBeTheTemplate() {
        QTemporaryDir folder;
        const std::string file = folder.filePath("mine.jinja").toStdString();
        std::ofstream(file) << "{{ messages[0].content }}!";
        const Model model = modelWith({});
        QCOMPARE(chatFormat(model, file).name, std::string("mine.jinja"));
        QCOMPARE(render(model, file), std::string("Be brief.!"));
    }
    void unknownNamesAreRefused() {
        try {
            chatFormat(modelWith({}), "no-such");
            QFAIL("no error");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::Usage);
            QVERIFY(std::string(error.what()).find("chatml") != std::string::npos);
        }
        QVERIFY_EXCEPTION_THROWN(chatFormat(modelWith({}), "own"), Error);
        QVERIFY_EXCEPTION_THROWN(chatFormat(modelWith({}, "{{")), TemplateError);
    }

    void aRefusedSystemMessageIsMoved() {
        const Model model = modelWith({}, kNoSystem);
        const ChatPrompt prompt = chatPrompt(model, chatFormat(model), kTurns, true);
        QCOMPARE(prompt.text, std::string("[user:Be brief.\n\nHi][assistant:Hello.][user:Bye]"));
        QVERIFY(prompt.note.find("System role not supported") != std::string::npos);
        const std::vector<ChatMessage> alone = {{"system", "Be brief."}};
        QVERIFY_EXCEPTION_THROWN(chatPrompt(model, chatFormat(model), alone, true), TemplateError);
    }
    void partsAreJoinedWhereATemplateTakesText() {
        const auto messages = chatMessages(
            OrderedJson::parse(R"([{"role":"user","content":[{"type":"text","text":"a"},
                {"type":"image"},{"type":"text","text":"b"}]}])"),
            "test");
        const Model text = modelWith({}, kNoSystem);
        const ChatPrompt joined = chatPrompt(text, chatFormat(text), messages, true);
        QCOMPARE(joined.text, std::string("[user:ab]"));
        QVERIFY(!joined.note.empty());
        const Model parts =
            modelWith({}, "{{ messages[0].content|map(attribute='type')|join(' ') }}");
        const ChatPrompt whole = chatPrompt(parts, chatFormat(parts), messages, true);
        QCOMPARE(whole.text, std::string("text image text"));
        QVERIFY(whole.note.empty());
    }
    void templatesSeeAllFields() {
        const auto messages = chatMessages(
            OrderedJson::parse(R"([{"role":"assistant","content":null,"reasoning_content":"r",
                "thinking":"t","tool_calls":[{"function":{"name":"f","arguments":{"z":1,"a":2}}}]},
                {"role":"tool","name":"f","content":"4"}])"),
            "test");
        const Model model = modelWith(
            {}, "{% set m = messages[0] %}{{ m.content is none }} {{ m.reasoning_content }} "
                "{{ m.thinking }} {{ m.tool_calls[0].function.arguments|tojson }} "
                "{{ messages[1].name }} {{ messages[1].content }} {{ tools is none }} "
                "{{ bos_token }}{{ eos_token }}");
        QCOMPARE(chatPrompt(model, chatFormat(model), messages, true).text,
                 std::string("True r t {\"z\": 1, \"a\": 2} f 4 True <s></s>"));
    }
    void badMessagesAreNamed() {
        for (const char* list : {"3", "[3]", "[{}]", R"([{"role":1}])", R"([{"role":"user"}])",
                                 R"([{"role":"user","content":5}])"})
            QVERIFY_EXCEPTION_THROWN(chatMessages(OrderedJson::parse(list), "x.json"), Error);
    }

    void bosStandsThereOnce() {
        const Model model = modelWith({}, {}, true);
        const auto once = encodeChat(model, "a"), written = encodeChat(model, "<s>a");
        QCOMPARE(once, written);
        QCOMPARE(once.front(), 0);
        QCOMPARE(once.size(), size_t(2));
        QCOMPARE(encodeChat(modelWith({}), "a").size(), size_t(1));
    }

    /// Ends of turns are known by the model's own vocabulary.
    void stops() {
        for (const char* end :
             {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eom_id|>", "<|endoftext|>",
              "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<turn|>"}) {
            const Model model = modelWith({end, "<|other|>"});
            QCOMPARE(model.tokenizer->info().stops, (std::vector<TokenId>{1, 2}));
        }
    }
};

QTEST_GUILESS_MAIN(TestChatFormat)
#include "test_chat_format.moc"
