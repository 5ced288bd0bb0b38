// ctest: FIXTURES_REQUIRED=calibration TIMEOUT=900 COST=107
#include "tests/app/gui/gui_test.h"
#include "tests/support/kept_calibration.h"

#include "app/gui/main_window.h"
#include "app/gui/modes/chat_mode.h"
#include "app/gui/widgets/parts.h"

#include <QComboBox>
#include <QElapsedTimer>
#include <QLayout>
#include <QPushButton>
#include <QScrollArea>

using namespace nibble;

namespace {

QString describe(const QWidget* widget) {
    const auto* label = qobject_cast<const QLabel*>(widget);
    return QStringLiteral("%1 “%2” %3×%4")
        .arg(QLatin1String(widget->metaObject()->className()),
             label ? label->text() : widget->accessibleName())
        .arg(widget->width())
        .arg(widget->height());
}

bool isSeen(const QWidget* widget) {
    return widget->isVisible() && !widget->isWindow() && !widget->visibleRegion().isEmpty();
}

/// What a person would call cut off or overlapping, in words; empty when there is nothing.
QStringList faults(const QWidget& window) {
    QStringList found;
    for (QWidget* widget : window.findChildren<QWidget*>()) {
        if (!isSeen(widget))
            continue;
        const auto* label = qobject_cast<QLabel*>(widget);
        const bool text = label && !qobject_cast<ElidedLabel*>(widget) && !label->text().isEmpty();
        if (text && !label->wordWrap() && label->width() < label->sizeHint().width() - 1)
            found << QStringLiteral("text is cut: ") + describe(widget);
        if (text && label->wordWrap() &&
            label->height() < label->heightForWidth(label->width()) - 1)
            found << QStringLiteral("lines are cut: ") + describe(widget);
        const auto* area = qobject_cast<QScrollArea*>(widget);
        if (area && area->widget() && area->widget()->width() > area->viewport()->width())
            found << QStringLiteral("scrolls sideways: %1 in %2")
                         .arg(describe(area->widget()), describe(area));
        const bool control = qobject_cast<QPushButton*>(widget) || qobject_cast<QComboBox*>(widget);
        if (control && (widget->width() < widget->minimumSizeHint().width() - 1 ||
                        widget->height() < widget->fontMetrics().height()))
            found << QStringLiteral("control is squeezed: ") + describe(widget);
        const QWidget* parent = widget->parentWidget();
        if (!parent->layout() || parent->layout()->indexOf(widget) < 0)
            continue;
        if (!parent->rect().contains(widget->geometry()))
            found << QStringLiteral("%1 leaves %2").arg(describe(widget), describe(parent));
        for (const QObject* object : parent->children()) {
            const auto* other = qobject_cast<const QWidget*>(object);
            if (other && other > widget && isSeen(other) && parent->layout()->indexOf(other) >= 0 &&
                other->geometry().intersects(widget->geometry()))
                found << QStringLiteral("%1 overlaps %2").arg(describe(widget), describe(other));
        }
    }
    return found;
}

} // namespace

/// Every mode, with a model that was measured and has answered, at every scale, size and theme.
class TestLayout : public QObject {
    Q_OBJECT
private slots:
    void initTestCase();
    void nothingIsCut_data();
    void nothingIsCut();
    void cleanupTestCase();

private:
    const test::KeptCalibration m_kept;
    std::unique_ptr<Workbench> m_workbench;
    std::unique_ptr<MainWindow> m_window;
};

void TestLayout::initTestCase() {
    m_workbench = std::make_unique<Workbench>();
    m_window = std::make_unique<MainWindow>(*m_workbench);
    m_window->resize(1440, 900);
    m_window->show();
    m_workbench->setDevice(QStringLiteral("cpu"));
    m_workbench->refreshDevices();
    m_workbench->openModel(pictureModel());
    QTRY_VERIFY_WITH_TIMEOUT(m_workbench->isRunning(), seconds(60));
    m_workbench->measureLadder(1);
    QTRY_VERIFY_WITH_TIMEOUT(!m_workbench->isMeasuringLadder(), seconds(280));
    m_workbench->applyLevel(QStringLiteral("int4"));
    m_workbench->measureTensors();
    m_workbench->measureQuality(1);
    QTRY_VERIFY_WITH_TIMEOUT(m_workbench->jobs().idle(), seconds(120));
    auto* chat = static_cast<ChatMode*>(m_window->mode(QStringLiteral("chat")));
    GenerateOptions options;
    options.maxTokens = 24;
    chat->composer()->setSettings(options, {}, {});
    m_window->showMode(QStringLiteral("chat"));
    chat->composer()->setText(QStringLiteral("Hello"));
    chat->sendPrompt();
    QTRY_VERIFY_WITH_TIMEOUT(chat->chat().turns.size() == 2 && chat->chat().turns[1].finished,
                             seconds(60));
    chat->again();
    QTRY_VERIFY_WITH_TIMEOUT(chat->chat().turns[1].finished && m_workbench->jobs().idle(),
                             seconds(60));
}

void TestLayout::nothingIsCut_data() {
    QTest::addColumn<double>("zoom");
    QTest::addColumn<QSize>("size");
    QTest::addColumn<bool>("dark");
    for (const double zoom : {1.0, 1.25, 1.5, 2.0})
        for (const QSize size : {QSize(1440, 900), QSize(1024, 700)})
            for (const bool dark : {false, true})
                QTest::addRow("%.2f at %d %s", zoom, size.width(), dark ? "dark" : "light")
                    << zoom << size << dark;
}

void TestLayout::nothingIsCut() {
    QFETCH(double, zoom);
    QFETCH(QSize, size);
    QFETCH(bool, dark);
    Theme::get().setZoom(zoom);
    Theme::get().setChoice(dark ? Theme::Choice::Dark : Theme::Choice::Light);
    m_window->resize(size);
    for (const ModeEntry& entry : modes()) {
        m_window->showMode(QLatin1String(entry.id));
        QTest::qWait(30);
        QCOMPARE(m_window->size(), size); // no page asks for more room than there is
        QStringList found;
        QElapsedTimer clock; // what a job brings is laid out with the next event
        clock.start();
        do {
            QTest::qWait(10);
            found = faults(*m_window);
        } while ((!found.isEmpty() || !m_workbench->jobs().idle()) && clock.elapsed() < seconds(3));
        const QString folder = qEnvironmentVariable("NIBBLE_TEST_PICTURES");
        if (!folder.isEmpty())
            m_window->grab().save(QStringLiteral("%1/%2-%3-%4-%5.png")
                                      .arg(folder, QLatin1String(entry.id))
                                      .arg(int(zoom * 100))
                                      .arg(size.width())
                                      .arg(dark ? "dark" : "light"));
        QVERIFY2(found.isEmpty(), qPrintable(QLatin1String(entry.id) + QStringLiteral(": ") +
                                             found.join(QLatin1Char('\n'))));
    }
}

void TestLayout::cleanupTestCase() {
    Theme::get().setZoom(1);
    m_window.reset();
    m_workbench.reset();
}

NIBBLE_GUI_TEST(TestLayout)
#include "test_layout.moc"
