#include "tests/app/gui/gui_test.h"

#include "app/gui/main_window.h"
#include "app/gui/panels/device_panel.h"
#include "app/gui/workbench.h"

#include <QApplication>
#include <QSignalSpy>
#include <QToolTip>

using namespace nibble;

/// The device's limits and its kernels, measured and shown.
class TestDevicePanel : public QObject {
    Q_OBJECT

    static KernelReport invented() {
        KernelReport report;
        report.readBandwidth = 100e9;
        report.dotRate = 1e12; // the ridge is at 10 operations a byte
        const auto kernel = [](const char* format, int32_t rows, double us, double bytes,
                               double operations) {
            KernelTime k;
            k.format = format;
            k.rows = k.cols = 4096;
            k.activationRows = rows;
            k.kernel = "dot, 64 × 1 × 1";
            k.microseconds = us;
            k.bytes = bytes;
            k.operations = operations;
            return k;
        };
        report.kernels = {kernel("int4_g32", 1, 100, 8e6, 32e6),    // 80 of 100 GB/s
                          kernel("int4_g32", 128, 8000, 10e6, 4e9), // 500 of 1000 GOP/s
                          kernel("int8_g32", 1, 200, 16e6, 32e6)};
        return report;
    }

private slots:
    void reachedIsThePartOfTheRoof() {
        const KernelReport report = invented();
        QCOMPARE(RooflinePlot::reached(report, report.kernels[0]), 0.8);
        QCOMPARE(RooflinePlot::reached(report, report.kernels[1]), 0.5);
    }

    /// Marks lie where their numbers say, under the roof; hovering reads them.
    void marksAndRoof() {
        RooflinePlot plot;
        plot.resize(500, 360);
        plot.setReport(invented());
        plot.show();
        QVERIFY(QTest::qWaitForWindowExposed(&plot));
        plot.replot();
        QCOMPARE(plot.graphCount(), 3); // the roof and two formats
        const QCPGraph* roof = plot.graph(0);
        QCOMPARE(roof->dataCount(), 3);
        QCOMPARE(roof->data()->at(1)->key, 10.0);
        QCOMPARE(roof->data()->at(1)->value, 1000.0);
        QCOMPARE(plot.graph(1)->dataCount(), 2);
        QCOMPARE(plot.graph(1)->data()->at(0)->key, 4.0);
        QCOMPARE(plot.graph(1)->data()->at(0)->value, 320.0);
        for (int i = 1; i < plot.graphCount(); ++i)
            for (const QCPGraphData& mark : *plot.graph(i)->data()) {
                const QPointF at(plot.xAxis->coordToPixel(mark.key),
                                 plot.yAxis->coordToPixel(mark.value));
                QVERIFY(plot.axisRect()->rect().contains(at.toPoint()));
            }
        const QPoint mark(int(plot.xAxis->coordToPixel(400)), int(plot.yAxis->coordToPixel(500)));
        QTest::mouseMove(&plot, mark);
        QTRY_VERIFY_WITH_TIMEOUT(
            QToolTip::text().contains("128 rows") && QToolTip::text().contains("50 %"), seconds(5));
        QVERIFY(plot.accessibleDescription().contains("50 %"));
        plot.setReport({});
        QCOMPARE(plot.graphCount(), 1);
    }

    /// From the menu, with the real device.
    void measuresThisComputer() {
        Workbench bench;
        MainWindow window(bench);
        window.show();
        bench.refreshDevices();
        QTRY_VERIFY_WITH_TIMEOUT(bench.device().has_value(), seconds(30));
        window.showDevice();
        window.showDevice(); // there is one
        QCOMPARE(window.findChildren<DevicePanel*>().size(), 1);
        auto* panel = window.findChild<DevicePanel*>();
        QPushButton* measure = nullptr;
        for (QPushButton* button : panel->findChildren<QPushButton*>())
            if (button->text() == "Measure")
                measure = button;
        QVERIFY(measure && measure->isEnabled());
        QTest::mouseClick(measure, Qt::LeftButton);
        QVERIFY(bench.isMeasuringKernels() && !measure->isEnabled());
        QTRY_VERIFY_WITH_TIMEOUT(!bench.isMeasuringKernels(), seconds(200));
        const DeviceKernels* found = bench.kernels(QString::fromStdString(bench.device()->id));
        QVERIFY(found);
        QCOMPARE(found->report.kernels.size(), size_t(12));
        for (const KernelTime& k : found->report.kernels) {
            const double reached = RooflinePlot::reached(found->report, k);
            QVERIFY2(reached > 0.001 && reached < 3, qPrintable(QString::number(reached)));
        }
        QTRY_VERIFY_WITH_TIMEOUT(measure->isEnabled() && measure->text() == "Measure", seconds(5));
        QCOMPARE(panel->findChild<RooflinePlot*>()->graphCount(), 4);
        const QString folder = qEnvironmentVariable("NIBBLE_TEST_PICTURES");
        for (const bool dark : {false, true}) {
            Theme::get().setChoice(dark ? Theme::Choice::Dark : Theme::Choice::Light);
            QApplication::processEvents();
            if (!folder.isEmpty())
                panel->window()->grab().save(
                    QStringLiteral("%1/device-%2.png").arg(folder, dark ? "dark" : "light"));
        }
    }
};

NIBBLE_GUI_TEST(TestDevicePanel)
#include "test_device_panel.moc"
