#include "tests/app/gui/gui_test.h"

#include "app/gui/main_window.h"
#include "app/gui/modes/chat_mode.h"
#include "app/gui/panels/layers_panel.h"
#include "app/gui/panels/tensor_actions.h"
#include "app/gui/widgets/parts.h"

#include <QAbstractButton>
#include <QAbstractSlider>
#include <QAbstractSpinBox>
#include <QAction>
#include <QComboBox>
#include <QFile>
#include <QLayout>
#include <QLineEdit>
#include <QListWidget>
#include <QMenuBar>
#include <QPlainTextEdit>
#include <QScrollArea>
#include <QScrollBar>
#include <QSet>
#include <QSignalSpy>
#include <QThread>

using namespace nibble;

class TestWindow : public QObject {
    Q_OBJECT
private slots:
    void startsWithoutAModel();
    void everyCommandIsReachable();
    void keysAreUnique();
    void paletteFindsAndRuns();
    void damagedFileShowsABanner();
    void undoBringsTheRecipeBack();
    void resultsOfADeadReceiverAreDropped();
    void cancelledJobSaysSo();
    void narrowWindowHidesWords();
    void controlsHaveNames();
    void conversationGoesOnAcrossLevels();
    void formatsAreThoseOfTheCore();
    void panelsAreReachedByKey();
    void baselineIsPinnedByKey();
    void nothingIsClipped_data();
    void nothingIsClipped();
};

void TestWindow::startsWithoutAModel() {
    Workbench workbench;
    MainWindow window(workbench);
    window.show();
    QCOMPARE(window.currentMode(), QStringLiteral("models"));
    QVERIFY(!window.command(QStringLiteral("tune"))->isEnabled());
    QVERIFY(window.command(QStringLiteral("open"))->isEnabled());
    window.showMode(QStringLiteral("chat"));
    QCOMPARE(window.currentMode(), QStringLiteral("models"));
}

void TestWindow::everyCommandIsReachable() {
    Workbench workbench;
    MainWindow window(workbench);
    QSet<QAction*> inMenus;
    const std::function<void(QMenu*)> walk = [&](QMenu* menu) {
        for (QAction* action : menu->actions()) {
            if (action->menu())
                walk(action->menu());
            else if (!action->isSeparator())
                inMenus.insert(action);
        }
    };
    for (QAction* action : window.menuBar()->actions())
        walk(action->menu());
    QVERIFY(window.commands().size() > 40);
    for (QAction* action : window.commands()) {
        QVERIFY2(inMenus.contains(action), qPrintable(action->text()));
        QVERIFY2(!action->text().isEmpty(), qPrintable(action->objectName()));
    }
}

void TestWindow::keysAreUnique() {
    Workbench workbench;
    MainWindow window(workbench);
    QSet<QString> seen;
    for (QAction* action : window.commands()) {
        const QString key = action->shortcut().toString();
        if (key.isEmpty())
            continue;
        QVERIFY2(!seen.contains(key), qPrintable(key));
        seen.insert(key);
    }
}

void TestWindow::paletteFindsAndRuns() {
    Workbench workbench;
    MainWindow window(workbench);
    window.show();
    Theme::get().setChoice(Theme::Choice::Light);
    window.findCommand();
    QLineEdit* field = nullptr;
    for (QLineEdit* edit : window.findChildren<QLineEdit*>())
        if (edit->accessibleName() == QLatin1String("Find a command"))
            field = edit;
    QVERIFY(field);
    QVERIFY(field->isVisible());
    QTest::keyClicks(field, QStringLiteral("theme dark"));
    auto* list = field->parentWidget()->findChild<QListWidget*>();
    QCOMPARE(list->count(), 1);
    QTest::keyClick(field, Qt::Key_Return);
    QCOMPARE(Theme::get().choice(), Theme::Choice::Dark);
    QVERIFY(!field->isVisible());
    Theme::get().setChoice(Theme::Choice::Light);
}

void TestWindow::damagedFileShowsABanner() {
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("broken.gguf"));
    QFile file(path);
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write("GGUF");
    file.close();
    Workbench workbench;
    MainWindow window(workbench);
    window.show();
    workbench.openModel(path);
    const auto shown = [&]() -> Banner* {
        for (Banner* banner : window.findChildren<Banner*>())
            if (banner->isVisible())
                return banner;
        return nullptr;
    };
    QTRY_VERIFY_WITH_TIMEOUT(shown(), seconds(5));
    QVERIFY(shown()->sentence().contains(QStringLiteral("broken.gguf")));
    QVERIFY(!workbench.model());
}

void TestWindow::undoBringsTheRecipeBack() {
    Workbench workbench;
    QSignalSpy changed(&workbench, &Workbench::recipeChanged);
    const Recipe before = workbench.recipe();
    workbench.setKv(KvFormat::Int8, KvFormat::Int8);
    QVERIFY(changed.count() >= 1);
    QCOMPARE(workbench.recipe().kFormat, KvFormat::Int8);
    workbench.undoStack()->undo();
    QVERIFY(workbench.recipe() == before);
    workbench.undoStack()->redo();
    QCOMPARE(workbench.recipe().vFormat, KvFormat::Int8);
    workbench.setKv(KvFormat::Int8, KvFormat::Int8);
    QCOMPARE(workbench.undoStack()->count(), 1);
}

void TestWindow::resultsOfADeadReceiverAreDropped() {
    Jobs jobs;
    bool ran = false;
    auto receiver = std::make_unique<QObject>();
    std::atomic<bool> go = false;
    jobs.onPool<int>(
        {}, {}, receiver.get(),
        [&go](const Progress&) {
            while (!go)
                QThread::msleep(1);
            return 7;
        },
        [&ran](int) { ran = true; });
    receiver.reset();
    go = true;
    QTRY_VERIFY_WITH_TIMEOUT(jobs.idle(), seconds(5));
    QVERIFY(!ran);
    int got = 0;
    jobs.onDevice<int>(
        Priority::Chat, {}, {}, this, [](const Progress&) { return 3; },
        [&got](int value) { got = value; });
    QTRY_COMPARE_WITH_TIMEOUT(got, 3, seconds(5));
}

void TestWindow::cancelledJobSaysSo() {
    Jobs jobs;
    std::optional<Failure> failure;
    const quint64 id = jobs.onPool<int>(
        {}, QStringLiteral("Counting"), this,
        [](const Progress& progress) {
            for (;;) {
                progress.check();
                QThread::msleep(1);
            }
            return 0;
        },
        [](int) {}, [&failure](const Failure& f) { failure = f; });
    QVERIFY(jobs.isRunning(id));
    jobs.cancel(id);
    QTRY_VERIFY_WITH_TIMEOUT(failure.has_value(), seconds(5));
    QVERIFY(failure->cancelled());
    QVERIFY(jobs.idle());
}

void TestWindow::narrowWindowHidesWords() {
    Workbench workbench;
    MainWindow window(workbench);
    window.show();
    window.resize(1440, 900);
    QTest::qWait(20);
    QPushButton* search = nullptr;
    for (QPushButton* button : window.findChildren<QPushButton*>())
        if (button->accessibleName() == QLatin1String("Find a command"))
            search = button;
    QVERIFY(search);
    QVERIFY(search->isVisible());
    window.resize(1024, 700);
    QTest::qWait(20);
    QVERIFY(!search->isVisible());
}

void TestWindow::controlsHaveNames() {
    Workbench workbench;
    MainWindow window(workbench);
    window.show();
    for (QWidget* widget : window.findChildren<QWidget*>()) {
        const bool control =
            qobject_cast<QAbstractButton*>(widget) || qobject_cast<QComboBox*>(widget) ||
            qobject_cast<QAbstractSpinBox*>(widget) ||
            (qobject_cast<QAbstractSlider*>(widget) && !qobject_cast<QScrollBar*>(widget));
        const bool inside =
            widget->objectName().startsWith(QLatin1String("qt_")) ||
            QByteArray(widget->metaObject()->className()).contains("LineEditIcon") ||
            QByteArray(widget->metaObject()->className()).contains("QTableCorner");
        if (!control || inside)
            continue;
        const auto* button = qobject_cast<QAbstractButton*>(widget);
        const QString name = widget->accessibleName().isEmpty() && button
                                 ? button->text()
                                 : widget->accessibleName();
        QVERIFY2(
            !name.isEmpty(),
            qPrintable(QStringLiteral("%1 in %2")
                           .arg(QLatin1String(widget->metaObject()->className()),
                                QLatin1String(widget->parentWidget()->metaObject()->className()))));
    }
}

void TestWindow::conversationGoesOnAcrossLevels() {
    Workbench workbench;
    MainWindow window(workbench);
    window.resize(1280, 820);
    window.show();
    workbench.setDevice(QStringLiteral("cpu"));
    workbench.refreshDevices();
    window.openSample();
    QTRY_VERIFY_WITH_TIMEOUT(workbench.isRunning(), seconds(60));
    QTest::keyClick(&window, Qt::Key_3, Qt::ControlModifier);
    QCOMPARE(window.currentMode(), QStringLiteral("chat"));
    auto* chat = static_cast<ChatMode*>(window.mode(QStringLiteral("chat")));
    GenerateOptions options;
    options.maxTokens = 24;
    chat->composer()->setSettings(options, {}, {});
    const auto answered = [&](size_t turns) {
        return chat->chat().turns.size() == turns && chat->chat().turns.back().finished;
    };
    QTest::keyClicks(chat->composer()->field(), QStringLiteral("Hello"));
    QTest::keyClick(chat->composer()->field(), Qt::Key_Return);
    QTRY_VERIFY_WITH_TIMEOUT(answered(2), seconds(60));
    const QString first = chat->chat().turns[1].text;
    QVERIFY(!first.isEmpty());
    QCOMPARE(chat->chat().turns[1].variant, QStringLiteral("Base"));

    workbench.applyLevel(QStringLiteral("int8"));
    QTRY_VERIFY_WITH_TIMEOUT(!workbench.isApplying(), seconds(60));
    QCOMPARE(workbench.runningRecipe().name, std::string("int8"));
    QTest::keyClicks(chat->composer()->field(), QStringLiteral("And then?"));
    QTest::keyClick(chat->composer()->field(), Qt::Key_Return);
    QTRY_VERIFY_WITH_TIMEOUT(answered(4), seconds(60));
    QCOMPARE(chat->chat().turns[1].text, first);
    QCOMPARE(chat->chat().turns[3].variant, workbench.recipeTitle(workbench.runningRecipe()));

    options.maxTokens = 400;
    chat->composer()->setSettings(options, {}, {});
    window.activateWindow();
    QVERIFY(QTest::qWaitForWindowActive(&window));
    QSignalSpy pieces(&workbench, &Workbench::chatText);
    QTest::keyClick(chat->composer()->field(), Qt::Key_R, Qt::ControlModifier);
    QTRY_VERIFY_WITH_TIMEOUT(pieces.count() > 0, seconds(5));
    QTest::keyClick(chat->composer()->field(), Qt::Key_Escape);
    QTRY_VERIFY_WITH_TIMEOUT(answered(4), seconds(60));
    QTest::keyClick(chat->composer()->field(), Qt::Key_Up);
    QCOMPARE(chat->composer()->text(), QStringLiteral("And then?"));
    QCOMPARE(chat->chat().turns.size(), size_t(2));

    // Left by Esc, nothing has changed; sent, the old prompt and its answers are another way.
    QTest::keyClick(chat->composer()->field(), Qt::Key_Escape);
    QCOMPARE(chat->chat().turns.size(), size_t(4));
    QCOMPARE(chat->chat().turns[3].ways(), 2); // Ctrl+R kept the first answer
    options.maxTokens = 8;
    chat->composer()->setSettings(options, {}, {});
    QTest::keyClick(chat->composer()->field(), Qt::Key_Up);
    chat->composer()->setText(QStringLiteral("And before?"));
    QTest::keyClick(chat->composer()->field(), Qt::Key_Return);
    QTRY_VERIFY_WITH_TIMEOUT(answered(4), seconds(60));
    QCOMPARE(chat->chat().turns[2].text, QStringLiteral("And before?"));
    QCOMPARE(chat->chat().turns[2].ways(), 2);
    chat->showOther(2, 0);
    QCOMPARE(chat->chat().turns[2].text, QStringLiteral("And then?"));
    QCOMPARE(chat->chat().turns[3].ways(), 2);

    const QString before = chat->chat().id;
    chat->branch(1);
    QVERIFY(chat->chat().id != before);
    QCOMPARE(chat->chat().turns.size(), size_t(2));
    QCOMPARE(chat->chat().turns[1].text, first);

    chat->newChat();
    QVERIFY(chat->chat().turns.empty());
    chat->flush();
    const auto saved = ChatStore().load();
    QCOMPARE(saved.size(), size_t(2));
    QCOMPARE(saved[0].turns.size(), size_t(2)); // the branch
    QCOMPARE(saved[1].turns.size(), size_t(4)); // the chat that it left as it was
}

void TestWindow::formatsAreThoseOfTheCore() {
    Workbench workbench;
    MainWindow window(workbench);
    window.show();
    window.openSample();
    QTRY_VERIFY_WITH_TIMEOUT(workbench.isRunning(), seconds(60));
    const auto key = workbench.selection();
    QVERIFY(key);
    QStringList wanted;
    for (const Format* format : choosableFormats(workbench.model()->find(*key)->cols()))
        wanted << QString::fromUtf8(format->name);
    QVERIFY(wanted.size() > 3);
    window.showMode(QStringLiteral("inspect"));
    QComboBox* box = nullptr;
    for (auto* one : window.findChildren<QComboBox*>())
        if (one->accessibleName() == QLatin1String("Format of the tensor"))
            box = one;
    QVERIFY(box);
    QStringList offered;
    for (int i = 0; i < box->count(); ++i)
        offered << box->itemText(i);
    QCOMPARE(offered, wanted);
    QMenu menu;
    addFormatActions(&menu, workbench, {*key});
    for (qsizetype i = 0; i < wanted.size(); ++i)
        QVERIFY(menu.actions()[i]->text().startsWith(wanted[i] + QLatin1Char(' ')));
}

void TestWindow::panelsAreReachedByKey() {
    Workbench workbench;
    MainWindow window(workbench);
    window.resize(1440, 900);
    window.show();
    window.openSample();
    QTRY_VERIFY_WITH_TIMEOUT(workbench.isRunning(), seconds(60));
    window.showMode(QStringLiteral("inspect"));
    window.activateWindow();
    QVERIFY(QTest::qWaitForWindowActive(&window));
    const auto panel = [&] {
        QWidget* widget = QApplication::focusWidget();
        while (widget && !qobject_cast<Panel*>(widget))
            widget = widget->parentWidget();
        return widget ? widget->accessibleName() : QString();
    };
    QStringList visited;
    for (int i = 0; i < 6; ++i) {
        QTest::keyClick(&window, Qt::Key_F6);
        QVERIFY(QApplication::focusWidget()->hasFocus());
        visited << panel();
    }
    QCOMPARE(QSet<QString>(visited.begin(), visited.end()).size(), 6); // every panel once
    QVERIFY(visited.contains(QStringLiteral("Layers")) &&
            visited.contains(QStringLiteral("Tensors")) &&
            visited.contains(QStringLiteral("Weights")));
    QTest::keyClick(&window, Qt::Key_F6, Qt::ShiftModifier);
    QCOMPARE(panel(), visited[4]);
}

void TestWindow::baselineIsPinnedByKey() {
    Workbench workbench;
    MainWindow window(workbench);
    window.show();
    window.openSample();
    QTRY_VERIFY_WITH_TIMEOUT(workbench.isRunning(), seconds(60));
    workbench.applyLevel(QStringLiteral("int8"));
    QTRY_VERIFY_WITH_TIMEOUT(!workbench.isApplying(), seconds(60));
    window.activateWindow();
    QVERIFY(QTest::qWaitForWindowActive(&window));
    QTest::keyClick(&window, Qt::Key_D, Qt::ControlModifier);
    QCOMPARE(workbench.baseline().name, std::string("int8"));
    bool shown = false;
    for (auto* button : window.findChildren<QAbstractButton*>())
        shown = shown || button->accessibleName().startsWith(QStringLiteral("baseline: INT8"));
    QVERIFY(shown);
    workbench.setLevel(QStringLiteral("int4"));
    QTest::keyClick(&window, Qt::Key_Z, Qt::ControlModifier);
    QCOMPARE(workbench.recipe().name, std::string("int8"));
    QTest::keyClick(&window, Qt::Key_Z, Qt::ControlModifier | Qt::ShiftModifier);
    QCOMPARE(workbench.recipe().name, std::string("int4"));
}

void TestWindow::nothingIsClipped_data() {
    QTest::addColumn<double>("zoom");
    QTest::addColumn<QSize>("size");
    for (const double zoom : {1.0, 1.25, 1.5, 2.0})
        for (const QSize size : {QSize(1440, 900), QSize(1024, 700)})
            QTest::addRow("%.2f at %d", zoom, size.width()) << zoom << size;
}

void TestWindow::nothingIsClipped() {
    QFETCH(double, zoom);
    QFETCH(QSize, size);
    Theme::get().setZoom(zoom);
    Workbench workbench;
    MainWindow window(workbench);
    window.resize(size);
    window.show();
    QTest::qWait(30);
    for (QPushButton* button : window.findChildren<QPushButton*>()) {
        if (!button->isVisible() || button->visibleRegion().isEmpty())
            continue;
        QVERIFY2(button->width() >= button->minimumSizeHint().width() - 1,
                 qPrintable(button->text()));
        const QFontMetrics metrics(button->font());
        QVERIFY2(button->height() >= metrics.height(), qPrintable(button->text()));
    }
    for (QWidget* widget : window.findChildren<QWidget*>()) {
        QWidget* parent = widget->parentWidget();
        if (!widget->isVisible() || widget->isWindow() || !parent || !parent->layout() ||
            parent->layout()->indexOf(widget) < 0)
            continue;
        QVERIFY2(parent->rect().contains(widget->geometry()),
                 qPrintable(QStringLiteral("%1 %2 leaves %3")
                                .arg(QLatin1String(widget->metaObject()->className()),
                                     widget->accessibleName(),
                                     QLatin1String(parent->metaObject()->className()))));
    }
    Theme::get().setZoom(1);
}

NIBBLE_GUI_TEST(TestWindow)
#include "test_window.moc"
