#include "tests/app/gui/gui_test.h"

#include "app/gui/modes/model_detail.h"
#include "app/gui/panels/metadata_panel.h"
#include "app/gui/panels/tensor_panel.h"
#include "app/gui/panels/tensor_table.h"
#include "app/gui/workbench.h"

#include "core/base/resources.h"
#include "tests/files/gguf_bytes.h"

#include <QAbstractItemModelTester>
#include <QClipboard>
#include <QFile>
#include <QLineEdit>
#include <QSignalSpy>

#include <numeric>

using namespace nibble;

/// Models that are looked at: what is known of them, their metadata, and the weights of those that
/// cannot be run.
class TestLooking : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;

    QString stranger() {
        test::GgufBytes file(2, 3);
        file.key("general.architecture", 8).text("zebra");
        file.key("tokenizer.ggml.model", 8).text("gpt2");
        file.key("zebra.stripes", 4).put(7u);
        file.tensor("small.bias", {8}, 0, 0).tensor("stripes.weight", {8, 4}, 0, 32).pad();
        for (int i = 0; i < 40; ++i)
            file.put(float(i));
        const QString path = m_folder.filePath(QStringLiteral("zebra.gguf"));
        QFile out(path);
        if (out.open(QIODevice::WriteOnly))
            out.write(QByteArray::fromStdString(file.bytes()));
        return path;
    }
    static QString texts(const QWidget& widget) {
        QStringList all;
        for (const auto* label : widget.findChildren<QLabel*>())
            if (label->isVisibleTo(&widget))
                all << label->text() << label->toolTip();
        return all.join(QLatin1Char('\n'));
    }

private slots:
    void aStrangersWeightsAreShown() {
        Workbench bench;
        TensorTable table(bench);
        TensorPanel panel(bench);
        ModelDetail detail(bench);
        table.show();
        QSignalSpy problems(&bench, &Workbench::problem);
        QSignalSpy details(&bench, &Workbench::tensorDetailReady);
        bench.openModel(stranger());
        QTRY_VERIFY_WITH_TIMEOUT(bench.model(), seconds(5));
        QCOMPARE(problems.count(), 1); // that it cannot be run
        auto* rows = table.findChild<ColumnTable*>();
        QCOMPARE(rows->model()->rowCount(), 2);
        QCOMPARE(table.currentStored(), size_t(1)); // the largest first
        bench.requestStoredDetail(table.currentStored());
        QTRY_COMPARE_WITH_TIMEOUT(details.count(), 1, seconds(5));
        const auto shown = details[0][0].value<TensorDetail>();
        QCOMPARE(shown.name, std::string("stripes.weight"));
        QCOMPARE(shown.mean, 23.5);
        QCOMPARE(std::accumulate(shown.baseCounts.begin(), shown.baseCounts.end(), 0.0), 32.0);
        QVERIFY2(texts(panel).contains(QStringLiteral("stripes.weight")), qPrintable(texts(panel)));
        QVERIFY(texts(panel).contains(QStringLiteral("4 × 8")));
        const QString told = texts(detail);
        for (const char* words : {"zebra, not known here", "no chat template", "Stored as"})
            QVERIFY2(told.contains(QLatin1String(words)), qPrintable(told));
    }

    void metadataIsFiltered() {
        Workbench bench;
        MetadataPanel panel(bench);
        auto* rows = panel.findChild<ColumnTable*>();
        QAbstractItemModelTester tester(rows->model(),
                                        QAbstractItemModelTester::FailureReportingMode::QtTest);
        bench.openModel(stranger());
        QTRY_VERIFY_WITH_TIMEOUT(bench.model(), seconds(5));
        QCOMPARE(rows->model()->rowCount(), 3);
        panel.findChild<QLineEdit*>()->setText(QStringLiteral("STRIPES u32"));
        QCOMPARE(rows->model()->rowCount(), 1);
        QCOMPARE(rows->model()->index(0, 0).data().toString(), QStringLiteral("zebra.stripes"));
        QCOMPARE(rows->model()->index(0, 2).data().toString(), QStringLiteral("7"));
        rows->setCurrentRow(0);
        for (auto* button : panel.findChildren<QPushButton*>())
            if (button->text() == QLatin1String("Copy"))
                button->click();
        QCOMPARE(QGuiApplication::clipboard()->text(), QStringLiteral("7"));
        panel.findChild<QLineEdit*>()->setText(QStringLiteral("nothing like it"));
        QCOMPARE(rows->model()->rowCount(), 0);
    }

    void theOpenModelSaysWhereItRuns() {
        Workbench bench;
        ModelDetail detail(bench);
        bench.setDevice(QStringLiteral("cpu"));
        bench.refreshDevices();
        bench.openModel(QString::fromStdString(sampleModelPath().string()));
        QTRY_VERIFY_WITH_TIMEOUT(bench.isRunning(), seconds(60));
        QVERIFY(bench.plan() && bench.plan()->parts.size() == 1);
        QVERIFY(bench.plan()->tokensPerSecond().has_value());
        const QString told = texts(detail);
        QVERIFY2(told.contains(QStringLiteral("Where it runs")) &&
                     told.contains(QStringLiteral("Estimated from memory bandwidth")),
                 qPrintable(told));
    }
};

NIBBLE_GUI_TEST(TestLooking)
#include "test_looking.moc"
