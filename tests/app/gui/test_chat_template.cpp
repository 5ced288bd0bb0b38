#include "tests/app/gui/gui_test.h"

#include "app/gui/modes/chat_mode.h"

#include <QMenu>
#include <QPushButton>
#include <QSignalSpy>
#include <QUndoStack>

using namespace nibble;

namespace {

/// The button that shows the template in use, which is the one with such a text.
QPushButton* templateButton(QWidget& within) {
    for (auto* button : within.findChildren<QPushButton*>())
        if (button->accessibleName().startsWith(QLatin1String("Template:")))
            return button;
    return nullptr;
}

QStringList fill(QMenu* menu) {
    emit menu->aboutToShow();
    QStringList texts;
    for (const QAction* action : menu->actions())
        if (!action->isSeparator())
            texts << action->text();
    return texts;
}

void pick(QWidget& within, const QString& text) {
    QMenu* menu = templateButton(within)->menu();
    fill(menu);
    for (QAction* action : menu->actions())
        if (action->text() == text)
            return action->trigger();
    QFAIL(qPrintable(QStringLiteral("no template ") + text));
}

} // namespace

class TestChatTemplate : public QObject {
    Q_OBJECT
private slots:
    void theButtonSaysWhatIsUsed() {
        Composer composer;
        QPushButton* button = templateButton(composer);
        QVERIFY(button);
        QCOMPARE(button->accessibleName(), QStringLiteral("Template: the model's"));
        composer.setUsualTemplate(QStringLiteral("chatml"));
        QCOMPARE(button->accessibleName(), QStringLiteral("Template: chatml, the model has none"));
        composer.setTemplateName(QStringLiteral("gemma"));
        QCOMPARE(button->accessibleName(), QStringLiteral("Template: gemma"));
        composer.setTemplateName(QStringLiteral("/some/where/mine.jinja"));
        QCOMPARE(button->accessibleName(), QStringLiteral("Template: mine.jinja"));
    }

    void everyTemplateCanBePicked() {
        Composer composer;
        QSignalSpy picked(&composer, &Composer::templatePicked);
        const QStringList texts = fill(templateButton(composer)->menu());
        QVERIFY(texts.contains(QStringLiteral("The model's own")));
        QVERIFY(texts.contains(QStringLiteral("From a file…")));
        for (const char* name : {"chatml", "llama-2", "llama-3", "mistral", "gemma", "phi-3",
                                 "zephyr", "alpaca", "plain"})
            QVERIFY2(texts.contains(QLatin1String(name)), name);
        pick(composer, QStringLiteral("phi-3"));
        QCOMPARE(picked.count(), 1);
        QCOMPARE(picked.first().first().toString(), QStringLiteral("phi-3"));
    }

    void aChoiceIsOneUndoableStep() {
        Workbench workbench;
        ChatMode chat(workbench, nullptr);
        const int steps = workbench.undoStack()->count();
        pick(chat, QStringLiteral("gemma"));
        QCOMPARE(workbench.undoStack()->count(), steps + 1);
        QCOMPARE(chat.chat().templateName, QStringLiteral("gemma"));
        QCOMPARE(chat.composer()->templateName(), QStringLiteral("gemma"));
        pick(chat, QStringLiteral("gemma")); // the same again is no step
        QCOMPARE(workbench.undoStack()->count(), steps + 1);
        workbench.undoStack()->undo();
        QCOMPARE(chat.composer()->templateName(), QString());
        QCOMPARE(templateButton(chat)->accessibleName(), QStringLiteral("Template: the model's"));
        workbench.undoStack()->redo();
        QCOMPARE(chat.chat().templateName, QStringLiteral("gemma"));
        chat.newChat();
        QCOMPARE(chat.composer()->templateName(), QString());
        workbench.undoStack()->undo(); // of a chat that was never kept: nothing to change
        QCOMPARE(chat.composer()->templateName(), QString());
    }
};

NIBBLE_GUI_TEST(TestChatTemplate)
#include "test_chat_template.moc"
