// ctest: FIXTURES_REQUIRED=calibration TIMEOUT=900 COST=65
#include "tests/app/gui/gui_test.h"
#include "tests/support/kept_calibration.h"

#include "app/gui/export_menu.h"
#include "app/gui/models/column_model.h"
#include "app/gui/panels/layers_panel.h"
#include "app/gui/panels/ledger_panel.h"
#include "app/gui/panels/level_plane.h"
#include "app/gui/panels/levels_panel.h"
#include "app/gui/panels/tensor_table.h"
#include "app/gui/workbench.h"

#include "core/base/resources.h"

#include <QAbstractItemModelTester>
#include <QClipboard>
#include <QMenu>
#include <QSignalSpy>

using namespace nibble;

/// Panels by themselves, on the sample model.
class TestPanels : public QObject {
    Q_OBJECT
private slots:
    void initTestCase();
    void stripMarksRanges();
    void formatOfARangeIsOneStep();
    void lockedTensorsKeepTheirFormat();
    void filterUnderstandsItsWords();
    void tableYieldsColumnsAndQuotesCsv();
    void barsAdaptToASmallModel();
    void baselineIsTold();
    void rightAnswersOfEveryLevel();
    void plotsAreExportedAndShownAsTables();
    void variantsAreExported();

private:
    QString format(TensorKey key) { return QString::fromUtf8(m_bench.choice(key)->format->name); }
    const test::KeptCalibration m_kept;
    Workbench m_bench;
};

void TestPanels::initTestCase() {
    m_bench.setDevice(QStringLiteral("cpu"));
    m_bench.refreshDevices();
    m_bench.openModel(QString::fromStdString(sampleModelPath().string()));
    QTRY_VERIFY_WITH_TIMEOUT(m_bench.isRunning(), seconds(60));
    QVERIFY(m_bench.model()->config.layers >= 3);
}

/// As a file and as folders; what does not fit is greyed, and says why.
void TestPanels::variantsAreExported() {
    QWidget parent;
    QMenu* menu = makeExportMenu(m_bench, &parent);
    const auto entry = [menu](size_t index) {
        emit menu->aboutToShow();
        return menu->actions().at(qsizetype(index));
    };
    m_bench.setLevel(QStringLiteral("q4_k_m"));
    QCOMPARE(exportKinds().size(), size_t(4));
    QVERIFY(entry(0)->isEnabled());
    for (size_t i = 1; i < exportKinds().size(); ++i) {
        QVERIFY(!entry(i)->isEnabled());
        QVERIFY2(entry(i)->toolTip().contains(QStringLiteral("cannot hold")),
                 qPrintable(entry(i)->toolTip()));
    }
    // Which levels fit is found in the background.
    QTRY_VERIFY_WITH_TIMEOUT(
        entry(1)->toolTip().contains(QStringLiteral("Levels of this model that a GPTQ folder")) &&
            entry(1)->toolTip().contains(QStringLiteral("int4")),
        seconds(60));
    m_bench.setLevel(QStringLiteral("int4"));
    const QTemporaryDir folder;
    for (size_t i = 0; i < exportKinds().size(); ++i) {
        const char* container = exportKinds()[i].container;
        QVERIFY2(entry(i)->isEnabled(), container);
        QString path = folder.filePath(QLatin1String(container));
        if (i == 0)
            path += QStringLiteral(".gguf");
        QSignalSpy written(&m_bench, &Workbench::exported);
        m_bench.exportVariant(path, container);
        QTRY_COMPARE_WITH_TIMEOUT(written.size(), 1, seconds(60));
        QCOMPARE(written.front().front().toString(), path);
        const auto model = openModel(path.toStdString());
        QCOMPARE(model->unsupported, std::string());
        const std::string stored = model->get({Role::Up, 0}).storedText();
        QVERIFY2(stored.find('4') != std::string::npos, stored.c_str());
    }
    QSignalSpy problems(&m_bench, &Workbench::problem);
    m_bench.exportVariant(QStringLiteral("/proc/no/such/place"), "gptq");
    QTRY_COMPARE_WITH_TIMEOUT(problems.size(), 1, seconds(60));
}

void TestPanels::rightAnswersOfEveryLevel() {
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("questions.jsonl"));
    QFile file(path);
    QVERIFY(file.open(QIODevice::WriteOnly));
    for (const char* asked : {"What is the capital of France?", "What is the capital of Nowhere?"})
        file.write(
            QStringLiteral("{\"category\": \"capitals\", \"messages\": [{\"role\": \"user\", "
                           "\"content\": \"%1\"}], \"answer\": \"Paris\"}\n")
                .arg(QLatin1String(asked))
                .toUtf8());
    file.close();
    LedgerPanel ledger(m_bench);
    LevelsPanel panel(m_bench, &ledger);
    panel.resize(1400, 500);
    panel.show();
    auto* table = panel.findChild<ColumnTable*>();
    const auto column = [&] {
        for (int i = 0; i < table->model()->columnCount(); ++i)
            if (table->model()->headerData(i, Qt::Horizontal).toString().startsWith("Right"))
                return i;
        return -1;
    };
    QVERIFY(column() >= 0);
    QVERIFY(table->isColumnHidden(column())); // nothing was asked yet
    m_bench.measureLadder(1, path);
    QTRY_VERIFY_WITH_TIMEOUT(!m_bench.isMeasuringLadder(), seconds(400));
    QTRY_VERIFY_WITH_TIMEOUT(!table->isColumnHidden(column()), seconds(5));
    for (int row = 0; row < table->model()->rowCount(); ++row) {
        const QModelIndex cell = table->model()->index(row, column());
        QVERIFY2(cell.data(Qt::ToolTipRole).toString().startsWith("capitals: ") &&
                     cell.data(Qt::ToolTipRole).toString().endsWith(" of 2"),
                 qPrintable(cell.data(Qt::ToolTipRole).toString()));
    }
    // A damaged file is one sentence, and the figures stay.
    QSignalSpy problems(&m_bench, &Workbench::problem);
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write("{");
    file.close();
    m_bench.measureLadder(1, path);
    QTRY_COMPARE_WITH_TIMEOUT(problems.count(), 1, seconds(60));
    QVERIFY(problems[0][1].toString().contains("questions.jsonl"));
    QVERIFY(!table->isColumnHidden(column()));
}

void TestPanels::stripMarksRanges() {
    LayersPanel panel(m_bench);
    panel.resize(900, 300);
    panel.show();
    LayerStrip* strip = panel.strip();
    const auto click = [&](TensorKey key, Qt::KeyboardModifiers with = {}) {
        QTest::mouseClick(strip->viewport(), Qt::LeftButton, with, strip->cellRect(key).center());
    };
    click({Role::Query, 0});
    QCOMPARE(strip->marked().size(), size_t(1));
    QCOMPARE(m_bench.selection(), (TensorKey{Role::Query, 0}));
    QTest::keyClick(strip, Qt::Key_Right, Qt::ShiftModifier);
    QTest::keyClick(strip, Qt::Key_Down, Qt::ShiftModifier);
    QCOMPARE(strip->marked().size(), size_t(4)); // q and k of two blocks
    QCOMPARE(m_bench.selection(), (TensorKey{Role::Key, 1}));
    QVERIFY(strip->accessibleDescription().contains(QStringLiteral("one of 4")));
    click({Role::Down, 2}, Qt::ControlModifier);
    QCOMPARE(strip->marked().size(), size_t(5));
    QTest::keyClick(strip, Qt::Key_Left);
    QCOMPARE(strip->marked().size(), size_t(1));
    // A drag from one cell to another is a range, too.
    QTest::mousePress(strip->viewport(), Qt::LeftButton, {},
                      strip->cellRect({Role::Query, 0}).center());
    QMouseEvent move(QEvent::MouseMove, strip->cellRect({Role::Query, 2}).center(), QPointF(),
                     Qt::NoButton, Qt::LeftButton, {});
    QApplication::sendEvent(strip->viewport(), &move);
    QCOMPARE(strip->marked().size(), size_t(3));
}

void TestPanels::formatOfARangeIsOneStep() {
    LayersPanel panel(m_bench);
    panel.resize(900, 300);
    panel.show();
    m_bench.setLevel(QStringLiteral("int8"));
    const TensorKey first{Role::Query, 0}, second{Role::Query, 1};
    const QString before = format(first);
    m_bench.setSelection(first);
    QTest::keyClick(panel.strip(), Qt::Key_Right, Qt::ShiftModifier);
    QTest::keyClick(panel.strip(), Qt::Key_F);
    QMenu* menu = panel.findChild<QMenu*>(QString(), Qt::FindDirectChildrenOnly);
    QVERIFY(menu);
    QAction* other = nullptr;
    for (QAction* action : menu->actions())
        if (action->text().startsWith(QLatin1String("f16 ")))
            other = action;
    QVERIFY(other);
    const int steps = m_bench.undoStack()->index();
    other->trigger();
    menu->close();
    QCOMPARE(format(first), QStringLiteral("f16"));
    QCOMPARE(format(second), QStringLiteral("f16"));
    QCOMPARE(m_bench.undoStack()->index(), steps + 1);
    m_bench.undoStack()->undo();
    QCOMPARE(format(first), before);
    QCOMPARE(format(second), before);
}

void TestPanels::lockedTensorsKeepTheirFormat() {
    LayersPanel panel(m_bench);
    panel.resize(900, 300);
    panel.show();
    m_bench.setLevel(QStringLiteral("int8"));
    const TensorKey key{Role::Down, 0}, free{Role::Down, 1};
    m_bench.setSelection(key);
    QTest::keyClick(panel.strip(), Qt::Key_L);
    QVERIFY(m_bench.isLocked(key));
    const QString kept = format(key);
    m_bench.setLevel(QStringLiteral("int4"));
    QCOMPARE(format(key), kept);
    QVERIFY(format(free) != kept);
    m_bench.setTensorFormat(key, QStringLiteral("f16"));
    QCOMPARE(format(key), kept);
    QTest::keyClick(panel.strip(), Qt::Key_L);
    QVERIFY(!m_bench.isLocked(key));
    m_bench.setLevel(QStringLiteral("int4"));
    QCOMPARE(format(key), format(free));
}

void TestPanels::filterUnderstandsItsWords() {
    TensorFilter filter;
    const TensorFilter::Row bad{"blk.0.ffn_down", "int4_g32", 0.09, 20, 4.5, 1.5, 3},
        fine{"blk.1.ffn_down", "int8", 0.01, 40, 8, 3, 0}, unknown{"blk.0.attn_q", "int4_g32"};
    const auto found = [&](const char* line) {
        const QString wrong = filter.parse(QLatin1String(line));
        QString rows = wrong.isEmpty() ? QString() : QStringLiteral("wrong");
        for (const auto& [row, name] : {std::pair(bad, 'b'), {fine, 'f'}, {unknown, 'u'}})
            if (wrong.isEmpty() && filter.accepts(row))
                rows += QLatin1Char(name);
        return rows;
    };
    QCOMPARE(found(""), QStringLiteral("bfu"));
    QCOMPARE(found("down"), QStringLiteral("bf"));
    QCOMPARE(found("down error>0.05"), QStringLiteral("b"));
    QCOMPARE(found("outlier"), QStringLiteral("b"));
    QCOMPARE(found("down error>0.05 outlier or unmeasured"), QStringLiteral("bu"));
    QCOMPARE(found("outliers<1"), QStringLiteral("f")); // unmeasured is not zero
    QCOMPARE(found("mb>2"), QStringLiteral("f"));
    QCOMPARE(found("colour>2"), QStringLiteral("wrong"));
}

void TestPanels::tableYieldsColumnsAndQuotesCsv() {
    std::vector<Column> columns;
    columns.push_back({"Name", {}, [](int i) { return QString(8, QChar('a' + i)); }, {}, {}});
    columns.push_back({"Long", {}, [](int) { return QStringLiteral("1,234 \"x\""); }, {}, {}, 2});
    columns.push_back({"Short", {}, [](int) { return QStringLiteral("7"); }, {}, {}, 1});
    ColumnModel model(std::move(columns));
    QAbstractItemModelTester tester(&model, QAbstractItemModelTester::FailureReportingMode::QtTest);
    model.setRows(2);
    ColumnTable table(&model, QStringLiteral("Test"));
    table.resize(600, 200);
    table.show();
    QVERIFY(!table.isColumnHidden(1) && !table.isColumnHidden(2));
    table.resize(150, 200);
    QTRY_VERIFY_WITH_TIMEOUT(table.isColumnHidden(1), seconds(5));
    QVERIFY(!table.isColumnHidden(0));
    table.resize(600, 200);
    QTRY_VERIFY_WITH_TIMEOUT(!table.isColumnHidden(1), seconds(5));
    QCOMPARE(table.asText(u',').split('\n')[1], QStringLiteral("aaaaaaaa,\"1,234 \"\"x\"\"\",7"));
    QTest::keyClick(&table, Qt::Key_C, Qt::ControlModifier);
    QCOMPARE(QApplication::clipboard()->text(), table.asText(u'\t'));
}

void TestPanels::barsAdaptToASmallModel() {
    LedgerPanel ledger(m_bench);
    QTRY_VERIFY_WITH_TIMEOUT(m_bench.predictedLedger(), seconds(5));
    ledger.resize(340, 420);
    ledger.show();
    QString scale;
    for (const Label* label : ledger.findChildren<Label*>())
        if (label->text().startsWith(QLatin1String("bars end at")))
            scale = label->text();
    // The sample is a hair's breadth of any machine's memory: its bar has a scale of its own.
    QVERIFY(!scale.isEmpty());
    QVERIFY2(!scale.contains(QLatin1String("all there is")), qPrintable(scale));
    const Ledger& after = *m_bench.predictedLedger();
    QCOMPARE(after.use.total() + after.other + after.free(), after.budget);
}

void TestPanels::baselineIsTold() {
    QSignalSpy told(&m_bench, &Workbench::baselineChanged);
    QVERIFY(m_bench.baseline().rules.empty());
    m_bench.setLevel(QStringLiteral("int8"));
    m_bench.setBaseline(m_bench.recipe());
    QCOMPARE(told.count(), 1);
    QCOMPARE(m_bench.baseline().name, std::string("int8"));
}

void TestPanels::plotsAreExportedAndShownAsTables() {
    LevelPlane plane;
    plane.resize(400, 300);
    plane.setPoints({{"a", "A", 2e6, 0.02, 0.001, 30, 4.5, true},
                     {"b", "B", 4e6, 0.001, 0.0001, 20, 8.5, true}},
                    0, {});
    plane.show();
    QTemporaryDir folder;
    const std::pair<const char*, QByteArray> kinds[] = {
        {"PNG", "\x89PNG"}, {"SVG", "<?xml"}, {"PDF", "%PDF"}, {"CSV", "level,"}};
    for (const auto& [kind, begins] : kinds) {
        const QString path = folder.filePath(QLatin1String(kind));
        QVERIFY2(plane.saveAs(QLatin1String(kind), path), kind);
        QFile file(path);
        QVERIFY(file.open(QIODevice::ReadOnly));
        QVERIFY2(file.readAll().startsWith(begins), kind);
        QVERIFY(!plane.saveAs(QLatin1String(kind), folder.filePath("no/such/folder")));
    }
    const auto menu = [&] { return plane.findChild<QMenu*>(); };
    QVERIFY(!menu());
    QTest::keyClick(&plane, Qt::Key_S, Qt::ControlModifier); // all of it without a pointer
    QVERIFY(menu() && menu()->isVisible());
    QStringList texts;
    for (const QAction* action : menu()->actions())
        texts << action->text().remove(u'&');
    for (const char* wanted : {"Save as PNG…", "Save as SVG…", "Save as PDF…", "Save as CSV…",
                               "Copy picture", "Copy values", "Show as table"})
        QVERIFY2(texts.contains(QString::fromUtf8(wanted)), wanted);
    menu()->close();
    plane.showTable();
    auto* table = plane.findChild<ColumnTable*>();
    QVERIFY(table);
    QCOMPARE(table->model()->rowCount(), 2);
    QCOMPARE(table->model()->index(1, 0).data().toString(), QStringLiteral("b"));
    QTest::keyClick(&plane, Qt::Key_C, Qt::ControlModifier);
    QVERIFY(QApplication::clipboard()->text().startsWith(QLatin1String("level,bytes")));
    const QCPRange home = plane.xAxis->range();
    QTest::keyClick(&plane, Qt::Key_Plus);
    QVERIFY(plane.xAxis->range().size() < home.size());
    QTest::keyClick(&plane, Qt::Key_Home);
    QCOMPARE(plane.xAxis->range().size(), home.size());
}

NIBBLE_GUI_TEST(TestPanels)
#include "test_panels.moc"
