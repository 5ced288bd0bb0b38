// ctest: FIXTURES_REQUIRED=calibration LABELS=full TIMEOUT=1500 RUN_SERIAL=ON COST=110
#include "tests/app/gui/gui_test.h"
#include "tests/support/kept_calibration.h"

#include "app/gui/screenshots.h"

#include "core/base/resources.h"

#include <QImage>

using namespace nibble;

class TestScreenshots : public QObject {
    Q_OBJECT
private slots:
    void everyModeInBothThemes();
    void missingModelIsBadInput();
};

void TestScreenshots::everyModeInBothThemes() {
    const test::KeptCalibration kept;
    QTemporaryDir folder;
    QCOMPARE(screenshotRun(folder.path(), pictureModel(), 2), 0);
    int seen = 0;
    for (const char* mode : {"models", "tune", "chat", "inspect"})
        for (const char* theme : {"light", "dark"})
            for (const char* size : {"1440x900", "1024x700"}) {
                const QImage image(folder.filePath(
                    QStringLiteral("%1-%2-%3.png")
                        .arg(QLatin1String(mode), QLatin1String(theme), QLatin1String(size))));
                QVERIFY2(!image.isNull(), mode);
                const bool dark = QLatin1String(theme) == QLatin1String("dark");
                QCOMPARE(image.pixelColor(image.width() / 2, image.height() - 2).lightness() < 128,
                         dark);
                ++seen;
            }
    QCOMPARE(seen, 16);
}

void TestScreenshots::missingModelIsBadInput() {
    QTemporaryDir folder;
    QCOMPARE(screenshotRun(folder.path(), folder.filePath(QStringLiteral("none.gguf"))),
             int(ErrorKind::BadInput));
}

NIBBLE_GUI_TEST(TestScreenshots)
#include "test_screenshots.moc"
