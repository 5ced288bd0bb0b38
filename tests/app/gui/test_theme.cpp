#include "tests/app/gui/gui_test.h"

#include "app/gui/theme.h"
#include "app/gui/units.h"

#include <QDir>
#include <QImage>
#include <QPushButton>

using namespace nibble;

class TestTheme : public QObject {
    Q_OBJECT
private slots:
    void textStandsOut_data();
    void textStandsOut();
    void mapsRunFromBackgroundToFar();
    void glyphsOnCellsStandOut();
    void everyIconIsDrawnInItsColour();
    void themeChangeIsTold();
    void zoomScalesLengths();
    void numbersAreWrittenAsPeopleReadThem();
};

void TestTheme::textStandsOut_data() {
    QTest::addColumn<int>("front");
    QTest::addColumn<int>("back");
    QTest::addColumn<double>("least");
    const auto row = [](const char* name, Ink front, Ink back, double least) {
        QTest::newRow(name) << int(front) << int(back) << least;
    };
    row("text on window", Ink::Text, Ink::Window, 4.5);
    row("text on panel", Ink::Text, Ink::Panel, 4.5);
    row("text on field", Ink::Text, Ink::Field, 4.5);
    row("text on rail", Ink::Text, Ink::Rail, 4.5);
    row("text on code", Ink::Text, Ink::CodeBlock, 4.5);
    row("text on selection", Ink::Text, Ink::AccentFill, 4.5);
    row("secondary on window", Ink::SecondaryText, Ink::Window, 4.5);
    row("secondary on panel", Ink::SecondaryText, Ink::Panel, 4.5);
    row("secondary on rail", Ink::SecondaryText, Ink::Rail, 4.5);
    row("disabled on panel", Ink::DisabledText, Ink::Panel, 2.5);
    row("disabled on rail", Ink::DisabledText, Ink::Rail, 2.5);
    row("accent on panel", Ink::Accent, Ink::Panel, 4.5);
    row("accent on selection", Ink::Accent, Ink::AccentFill, 4.5);
    row("text on accent", Ink::TextOnAccent, Ink::Accent, 4.5);
    row("good", Ink::Good, Ink::GoodFill, 4.5);
    row("good on panel", Ink::Good, Ink::Panel, 4.5);
    row("warning", Ink::Warning, Ink::WarningFill, 4.5);
    row("warning on panel", Ink::Warning, Ink::Panel, 4.5);
    row("bad", Ink::Bad, Ink::BadFill, 4.5);
    row("bad on panel", Ink::Bad, Ink::Panel, 4.5);
    row("border on panel", Ink::ControlBorder, Ink::Panel, 3);
    row("border on window", Ink::ControlBorder, Ink::Window, 3);
    row("series 1", Ink::Series1, Ink::Panel, 3);
    row("series 2", Ink::Series2, Ink::Panel, 3);
    row("series 3", Ink::Series3, Ink::Panel, 3);
    row("series 4", Ink::Series4, Ink::Panel, 3);
}

void TestTheme::textStandsOut() {
    QFETCH(int, front);
    QFETCH(int, back);
    QFETCH(double, least);
    for (const bool dark : {false, true}) {
        const double found =
            Theme::contrast(Theme::ink(Ink(front), dark), Theme::ink(Ink(back), dark));
        QVERIFY2(found >= least,
                 qPrintable(
                     QStringLiteral("%1 in the %2 theme").arg(found).arg(dark ? "dark" : "light")));
    }
}

void TestTheme::mapsRunFromBackgroundToFar() {
    for (const bool dark : {false, true}) {
        const QColor panel = Theme::ink(Ink::Panel, dark);
        double last = 0;
        for (int i = 0; i <= 20; ++i) {
            const double c = Theme::contrast(Theme::lossMap(i / 20.0, dark), panel);
            QVERIFY2(c >= last, qPrintable(QStringLiteral("step %1").arg(i)));
            last = c;
        }
        QCOMPARE(Theme::lossMap(-1, dark), Theme::lossMap(0, dark));
        QCOMPARE(Theme::lossMap(2, dark), Theme::lossMap(1, dark));
        QVERIFY(Theme::divergingMap(-1, dark).blue() > Theme::divergingMap(-1, dark).red());
        QVERIFY(Theme::divergingMap(1, dark).red() > Theme::divergingMap(1, dark).blue());
    }
    QCOMPARE(Theme::neutralMap(0).name(), QStringLiteral("#440154"));
    QCOMPARE(Theme::neutralMap(1).name(), QStringLiteral("#fde725"));
}

void TestTheme::glyphsOnCellsStandOut() {
    for (const bool dark : {false, true})
        for (int i = 0; i <= 100; ++i) {
            const QColor cell = Theme::lossMap(i / 100.0, dark);
            QVERIFY2(Theme::contrast(Theme::textOn(cell), cell) >= 4.3,
                     qPrintable(QStringLiteral("%1 %2").arg(dark).arg(i)));
        }
}

void TestTheme::everyIconIsDrawnInItsColour() {
    const auto names = QDir(QStringLiteral(":/icons")).entryList({QStringLiteral("*.svg")});
    QVERIFY(names.size() > 30);
    for (const QString& file : names) {
        if (file == QLatin1String("app_icon.svg"))
            continue;
        const QString name = file.chopped(4);
        const QImage image = Theme::get()
                                 .pixmap(name, Ink::Accent, 40, 1)
                                 .toImage()
                                 .convertToFormat(QImage::Format_ARGB32);
        const QColor wanted = Theme::get().ink(Ink::Accent);
        int solid = 0;
        for (int y = 0; y < image.height(); ++y)
            for (int x = 0; x < image.width(); ++x) {
                const QColor c = image.pixelColor(x, y);
                if (c.alpha() < 250)
                    continue;
                ++solid;
                QVERIFY2(std::abs(c.red() - wanted.red()) < 4 &&
                             std::abs(c.blue() - wanted.blue()) < 4,
                         qPrintable(name));
            }
        QVERIFY2(solid > 8, qPrintable(name));
    }
}

void TestTheme::themeChangeIsTold() {
    Theme& theme = Theme::get();
    int told = 0;
    const auto link = connect(&theme, &Theme::changed, this, [&told] { ++told; });
    theme.setChoice(Theme::Choice::Dark);
    QCOMPARE(told, 1);
    QCOMPARE(QApplication::palette().color(QPalette::Window), Theme::ink(Ink::Window, true));
    theme.setChoice(Theme::Choice::Light);
    QCOMPARE(QApplication::palette().color(QPalette::Window), Theme::ink(Ink::Window, false));
    disconnect(link);
}

void TestTheme::zoomScalesLengths() {
    Theme& theme = Theme::get();
    theme.setZoom(1);
    const int usual = theme.px(28);
    QPushButton button(QStringLiteral("Apply"));
    const QSize small = button.sizeHint();
    theme.setZoom(2);
    QVERIFY(theme.px(28) >= 2 * usual - 4);
    QPushButton large(QStringLiteral("Apply"));
    QVERIFY(large.sizeHint().height() > small.height() * 3 / 2);
    theme.setZoom(9);
    QCOMPARE(theme.zoom(), 2.0);
    theme.setZoom(1);
}

void TestTheme::numbersAreWrittenAsPeopleReadThem() {
    const QChar thin(0x2009);
    QCOMPARE(units::bytes(1'970'000'000), QStringLiteral("1.97") + thin + QStringLiteral("GB"));
    QCOMPARE(units::bytes(13'400'000), QStringLiteral("13.4") + thin + QStringLiteral("MB"));
    QCOMPARE(units::bytes(0), QStringLiteral("0") + thin + QStringLiteral("B"));
    QCOMPARE(units::gigabytes(17'200'000'000), QStringLiteral("17.2"));
    QCOMPARE(units::number(-0.5), QStringLiteral("\u22120.500"));
    QCOMPARE(units::count(131072), QStringLiteral("131,072"));
    QCOMPARE(units::number(15346.2), QStringLiteral("15,300"));
    QCOMPARE(units::number(142.4), QStringLiteral("142"));
    QCOMPARE(units::number(0.00073, 2), QStringLiteral("0.00073"));
    QCOMPARE(units::number(0.0000073, 2), QStringLiteral("7.3×10⁻⁶"));
    QCOMPARE(units::number(-1.5e12, 2), QStringLiteral("\u22121.5×10¹²"));
    QCOMPARE(units::withError(0.01634, 0.00061), QStringLiteral("0.0163 ± 0.0006"));
    QCOMPARE(units::duration(70), QStringLiteral("1%1min 10%1s").arg(thin));
    QCOMPARE(units::number(std::nan("")), QStringLiteral("not a number"));
}

NIBBLE_GUI_TEST(TestTheme)
#include "test_theme.moc"
