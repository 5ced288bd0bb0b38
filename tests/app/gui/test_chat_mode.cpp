#include "tests/app/gui/gui_test.h"

#include "app/gui/chat/chat_list.h"
#include "app/gui/chat/composer.h"
#include "app/gui/chat/conversation_view.h"
#include "app/gui/chat/flow_text.h"

#include <QAbstractItemModelTester>
#include <QClipboard>
#include <QDir>
#include <QElapsedTimer>
#include <QPlainTextEdit>
#include <QScrollBar>
#include <QSignalSpy>
#include <QTextDocument>

using namespace nibble;

namespace {

ChatTurn turn(const char* role, const QString& text) {
    ChatTurn t;
    t.role = QLatin1String(role);
    t.text = text;
    return t;
}

ChatRecord someChat(const char* id, const char* title) {
    ChatRecord chat;
    chat.id = QLatin1String(id);
    chat.title = QLatin1String(title);
    chat.variant = QStringLiteral("INT4");
    chat.changed = QDateTime::currentDateTime();
    chat.options.sampler.seed = 18446744073709551615ull;
    chat.options.sampler.temperature = 0.25;
    chat.turns = {turn("user", QStringLiteral("Rename my photos <b>now</b>")),
                  turn("assistant", QStringLiteral("Use `mv`:\n\n```bash\nmv a b\n```\nDone."))};
    chat.turns[1].tokens = 12;
    chat.turns[1].tokensPerSecond = 34.5;
    return chat;
}

} // namespace

class TestChatMode : public QObject {
    Q_OBJECT
private slots:
    void chatSurvivesTheDisk();
    void damagedChatIsSkippedAndNamed();
    void listSearchesTitlesAndText();
    void markdownIsSplitAtFences();
    void unfinishedFenceIsCode();
    void codeIsCopied();
    void promptIsNeverMarkup();
    void enterSendsAndShiftEnterDoesNot();
    void upInAnEmptyFieldEdits();
    void escapeStops();
    void readerIsNotMoved();
    void nothingIsLostByAskingAgain();
    void waysSurviveTheDisk();
    void footerOffersTheOtherWays();
    void escapeLeavesAnEdit();
    void longAnswersGrowAtTheEndOnly();
};

void TestChatMode::chatSurvivesTheDisk() {
    QTemporaryDir folder;
    ChatStore store(folder.path());
    bool saved = false;
    store.save(someChat("one", "Photos"), [&](const QString& problem) {
        QCOMPARE(problem, QString());
        saved = true;
    });
    QTRY_VERIFY_WITH_TIMEOUT(saved, seconds(5));
    const auto chats = ChatStore(folder.path()).load();
    QCOMPARE(chats.size(), size_t(1));
    QCOMPARE(chats[0].title, QStringLiteral("Photos"));
    QCOMPARE(chats[0].options.sampler.seed, 18446744073709551615ull);
    QCOMPARE(chats[0].options.sampler.temperature, 0.25);
    QCOMPARE(chats[0].turns.size(), size_t(2));
    QCOMPARE(chats[0].turns[1].text, someChat("", "").turns[1].text);
    QCOMPARE(chats[0].turns[1].tokens, 12);
    QCOMPARE(QDir(folder.path()).entryList(QDir::Files).size(), 1);
    store.remove(QStringLiteral("one"));
    store.flush();
    QVERIFY(ChatStore(folder.path()).load().empty());
}

void TestChatMode::damagedChatIsSkippedAndNamed() {
    QTemporaryDir folder;
    const QByteArray whole = ChatStore::encode(someChat("one", "Photos"));
    for (qsizetype cut = 0; cut < whole.size(); cut += 7) {
        ChatRecord record;
        QVERIFY(!ChatStore::decode(whole.left(cut), record));
    }
    QFile file(folder.filePath(QStringLiteral("bad.chat")));
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write(QByteArray::fromHex("ffffffff") + "nonsense");
    file.close();
    QStringList problems;
    QVERIFY(ChatStore(folder.path()).load(&problems).empty());
    QCOMPARE(problems.size(), 1);
    QVERIFY(problems[0].contains(QStringLiteral("bad.chat")));
    QVERIFY(QFile::exists(folder.filePath(QStringLiteral("bad.chat"))));
}

void TestChatMode::listSearchesTitlesAndText() {
    ChatList list;
    QAbstractItemModelTester tester(&list, QAbstractItemModelTester::FailureReportingMode::QtTest);
    ChatRecord other = someChat("two", "Cron or a timer?");
    other.turns.resize(1);
    other.turns[0].text = QStringLiteral("When?");
    list.setChats({someChat("one", "Photos"), other});
    QCOMPARE(list.rowCount(), 2);
    list.search(QStringLiteral("RENAME"));
    QCOMPARE(list.rowCount(), 1);
    QCOMPARE(list.index(0).data().toString(), QStringLiteral("Photos"));
    QVERIFY(list.index(0).data(ChatList::HitRole).toString().contains(QStringLiteral("Rename")));
    list.search(QStringLiteral("timer"));
    QCOMPARE(list.index(0).data().toString(), QStringLiteral("Cron or a timer?"));
    list.search({});
    list.put(other);
    QCOMPARE(list.index(0).data(ChatList::IdRole).toString(), QStringLiteral("two"));
    list.remove(QStringLiteral("two"));
    QCOMPARE(list.rowCount(), 1);
}

void TestChatMode::markdownIsSplitAtFences() {
    const auto parts = splitMarkdown(QStringLiteral("One\n\n```cpp\nint x;\n\n```\ntwo"));
    const std::vector<MarkdownPart> wanted{{false, {}, QStringLiteral("One")},
                                           {true, QStringLiteral("cpp"), QStringLiteral("int x;")},
                                           {false, {}, QStringLiteral("two")}};
    QCOMPARE(parts.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i)
        QVERIFY(parts[i] == wanted[i]);
    QVERIFY(splitMarkdown({}).empty());
}

void TestChatMode::unfinishedFenceIsCode() {
    const auto parts = splitMarkdown(QStringLiteral("a\n```py\nprint("));
    QCOMPARE(parts.size(), size_t(2));
    QVERIFY(parts[1].code);
    QCOMPARE(parts[1].text, QStringLiteral("print("));
}

void TestChatMode::codeIsCopied() {
    MessageView view(someChat("one", "").turns[1]);
    view.resize(600, 400);
    QPushButton* copy = nullptr;
    for (QPushButton* button : view.findChildren<QPushButton*>())
        if (button->accessibleName() == QLatin1String("Copy this code"))
            copy = button;
    QVERIFY(copy);
    QTest::mouseClick(copy, Qt::LeftButton);
    QCOMPARE(QApplication::clipboard()->text(), QStringLiteral("mv a b"));
}

void TestChatMode::promptIsNeverMarkup() {
    MessageView view(someChat("one", "").turns[0]);
    const auto texts = view.findChildren<FlowText*>();
    QCOMPARE(texts.size(), 1);
    QCOMPARE(texts[0]->toPlainText(), QStringLiteral("Rename my photos <b>now</b>"));
}

void TestChatMode::enterSendsAndShiftEnterDoesNot() {
    Composer composer;
    composer.resize(800, 200);
    composer.show();
    composer.setReady(true);
    QSignalSpy sent(&composer, &Composer::send);
    QTest::keyClicks(composer.field(), QStringLiteral("Hello"));
    QTest::keyClick(composer.field(), Qt::Key_Return, Qt::ShiftModifier);
    QTest::keyClicks(composer.field(), QStringLiteral("you"));
    QCOMPARE(sent.count(), 0);
    QCOMPARE(composer.text(), QStringLiteral("Hello\nyou"));
    QTest::keyClick(composer.field(), Qt::Key_Return);
    QCOMPARE(sent.count(), 1);
    composer.setReady(false);
    QTest::keyClick(composer.field(), Qt::Key_Return);
    QCOMPARE(sent.count(), 1);
}

void TestChatMode::upInAnEmptyFieldEdits() {
    Composer composer;
    composer.show();
    QSignalSpy edit(&composer, &Composer::editLast);
    QTest::keyClicks(composer.field(), QStringLiteral("x"));
    QTest::keyClick(composer.field(), Qt::Key_Up);
    QCOMPARE(edit.count(), 0);
    composer.setText({});
    QTest::keyClick(composer.field(), Qt::Key_Up);
    QCOMPARE(edit.count(), 1);
}

void TestChatMode::escapeStops() {
    Composer composer;
    composer.show();
    QSignalSpy stop(&composer, &Composer::stop);
    QTest::keyClick(composer.field(), Qt::Key_Escape);
    QCOMPARE(stop.count(), 0);
    composer.setAnswering(true);
    QTest::keyClick(composer.field(), Qt::Key_Escape);
    QCOMPARE(stop.count(), 1);
}

void TestChatMode::readerIsNotMoved() {
    ConversationView view;
    view.resize(600, 300);
    view.show();
    std::vector<ChatTurn> turns;
    for (int i = 0; i < 12; ++i) {
        turns.push_back(turn("user", QStringLiteral("Question %1").arg(i)));
        turns.push_back(turn("assistant", QStringLiteral("Some words. ").repeated(40)));
    }
    view.setTurns(turns);
    QTRY_VERIFY_WITH_TIMEOUT(view.verticalScrollBar()->maximum() > 300, seconds(5));
    view.scrollToEnd();
    turns.back().text += QStringLiteral("More words. ").repeated(80);
    view.setTurns(turns);
    QTest::qWait(50);
    QVERIFY(view.atEnd());
    view.verticalScrollBar()->setValue(100);
    turns.back().text += QStringLiteral("Even more words. ").repeated(80);
    view.setTurns(turns);
    QTest::qWait(50);
    QCOMPARE(view.verticalScrollBar()->value(), 100);
}

void TestChatMode::nothingIsLostByAskingAgain() {
    const auto texts = [](const std::vector<ChatTurn>& turns) {
        QStringList all;
        for (const ChatTurn& t : turns)
            all << t.text;
        return all.join(QLatin1Char(','));
    };
    std::vector<ChatTurn> turns{turn("user", "p"), turn("assistant", "a1"), turn("user", "q"),
                                turn("assistant", "b")};
    addWay(turns, 1, turn("assistant", "a2"));
    addWay(turns, 1, turn("assistant", "a3"));
    QCOMPARE(texts(turns), QStringLiteral("p,a3"));
    QCOMPARE(turns[1].ways(), 3);
    QCOMPARE(turns[1].place, 2);
    showWay(turns, 1, 0); // the first answer comes back with what followed it
    QCOMPARE(texts(turns), QStringLiteral("p,a1,q,b"));
    QCOMPARE(turns[1].place, 0);
    addWay(turns, 2, turn("user", "q2")); // a prompt written anew inside one of the ways
    showWay(turns, 1, 1);
    QCOMPARE(texts(turns), QStringLiteral("p,a2"));
    showWay(turns, 1, 0);
    QCOMPARE(texts(turns), QStringLiteral("p,a1,q2"));
    QCOMPARE(turns[2].ways(), 2);
    showWay(turns, 2, 0);
    QCOMPARE(texts(turns), QStringLiteral("p,a1,q,b"));
    showWay(turns, 1, 9); // there is none
    showWay(turns, 7, 0);
    QCOMPARE(texts(turns), QStringLiteral("p,a1,q,b"));
}

void TestChatMode::waysSurviveTheDisk() {
    ChatRecord chat = someChat("one", "Photos");
    addWay(chat.turns, 1, turn("assistant", "Another answer"));
    ChatRecord back;
    QVERIFY(ChatStore::decode(ChatStore::encode(chat), back));
    QCOMPARE(back.turns.size(), size_t(2));
    QCOMPARE(back.turns[1].text, QStringLiteral("Another answer"));
    QCOMPARE(back.turns[1].place, 1);
    showWay(back.turns, 1, 0);
    QCOMPARE(back.turns[1].text, someChat("", "").turns[1].text);
    QCOMPARE(back.turns[1].tokens, 12);
}

void TestChatMode::footerOffersTheOtherWays() {
    ConversationView view;
    view.resize(700, 500);
    std::vector<ChatTurn> turns = someChat("one", "").turns;
    addWay(turns, 1, turn("assistant", "Another answer"));
    view.setTurns(turns);
    view.show();
    const auto named = [&](const char* name) -> QAbstractButton* {
        for (auto* button : view.findChildren<QAbstractButton*>())
            if (button->accessibleName() == QLatin1String(name) && button->isVisible())
                return button;
        return nullptr;
    };
    QSignalSpy way(&view, &ConversationView::wantsWay), edit(&view, &ConversationView::wantsEdit),
        branch(&view, &ConversationView::wantsBranch), again(&view, &ConversationView::wantsAgain);
    QVERIFY(named("Later answer") && !named("Later answer")->isEnabled());
    QTest::mouseClick(named("Earlier answer"), Qt::LeftButton);
    QCOMPARE(way.value(0), QVariantList({1, 0}));
    QTest::mouseClick(named("Edit"), Qt::LeftButton);
    QCOMPARE(edit.value(0), QVariantList({0}));
    QTest::mouseClick(named("Branch"), Qt::LeftButton);
    QCOMPARE(branch.value(0), QVariantList({1}));
    QTest::mouseClick(named("Again"), Qt::LeftButton);
    QCOMPARE(again.value(0), QVariantList({1}));
    turns.back().finished = false; // nothing changes a conversation while an answer is written
    view.setTurns(turns);
    for (const char* name : {"Earlier answer", "Edit", "Branch", "Again"})
        QVERIFY2(!named(name), name);
}

void TestChatMode::escapeLeavesAnEdit() {
    Composer composer;
    composer.show();
    QSignalSpy cancelled(&composer, &Composer::cancelEdit);
    QTest::keyClick(composer.field(), Qt::Key_Escape);
    QCOMPARE(cancelled.count(), 0);
    composer.setEditing(true);
    QTest::keyClick(composer.field(), Qt::Key_Escape);
    QCOMPARE(cancelled.count(), 1);
}

void TestChatMode::longAnswersGrowAtTheEndOnly() {
    const QString paragraph =
        QStringLiteral("Some **bold** words that follow each other. ").repeated(8);
    QString text;
    for (int i = 0; i < 60; ++i)
        text += paragraph + (i % 7 == 6 ? QStringLiteral("\n\n- a point\n\n- another\n\n")
                                        : QStringLiteral("\n\n"));
    ChatTurn answer = turn("assistant", text.left(text.size() / 2));
    answer.finished = false;
    MessageView view(answer);
    view.resize(700, 4000);
    view.show();
    const auto texts = [&] { return view.findChildren<FlowText*>(); };
    const FlowText* first = texts().front();
    QVERIFY(texts().size() > 3);
    const int firstHeight = first->height();
    int parsed = 0;
    connect(first->document(), &QTextDocument::contentsChanged, this, [&parsed] { ++parsed; });
    QElapsedTimer clock;
    clock.start();
    constexpr int kUpdates = 100;
    for (int i = 1; i <= kUpdates; ++i) {
        answer.text = text.left(text.size() / 2 + text.size() / 2 * i / kUpdates);
        view.setTurn(answer);
    }
    qInfo("one update of an answer of %lld characters: %.2f ms", qlonglong(text.size()),
          double(clock.elapsed()) / kUpdates);
    QCOMPARE(parsed, 0); // the beginning was left alone
    QCOMPARE(texts().front(), first);
    QCOMPARE(first->height(), firstHeight);
    QString joined;
    for (const FlowText* one : texts())
        joined += one->toPlainText().remove(u'\n');
    QTextDocument whole;
    whole.setMarkdown(text);
    QCOMPARE(joined, whole.toPlainText().remove(u'\n'));
}

NIBBLE_GUI_TEST(TestChatMode)
#include "test_chat_mode.moc"
