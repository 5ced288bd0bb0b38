#pragma once

#include "app/gui/theme.h"

#include "core/base/resources.h"
#include "tests/support/patience.h"
#include "tests/support/shared_data.h"

#include <QApplication>
#include <QSettings>
#include <QStandardPaths>
#include <QTemporaryDir>
#include <QTest>

using nibble::test::seconds;

/// The sample; with a sanitizer, under which its levels take an hour, a smaller model where there
/// is one.
inline QString pictureModel() {
    const auto small = nibble::test::sharedPath("models/stories260K-f32.gguf");
    const bool smaller = nibble::test::kPatience > 1 && std::filesystem::exists(small);
    return QString::fromStdString((smaller ? small : nibble::sampleModelPath()).string());
}

/// Runs a test class under the offscreen platform with our theme, away from the person's settings.
#define NIBBLE_GUI_TEST(TestClass)                                                                 \
    int main(int argc, char** argv) {                                                              \
        qputenv("QT_QPA_PLATFORM", "offscreen");                                                   \
        QTemporaryDir home;                                                                        \
        qputenv("XDG_CONFIG_HOME", home.path().toUtf8());                                          \
        qputenv("XDG_DATA_HOME", home.path().toUtf8());                                            \
        qputenv("XDG_CACHE_HOME", home.path().toUtf8());                                           \
        QApplication application(argc, argv);                                                      \
        QApplication::setApplicationName(QStringLiteral("nibble-test"));                           \
        QApplication::setOrganizationName(QStringLiteral("nibble-test"));                          \
        nibble::Theme::get().install();                                                            \
        nibble::Theme::get().setChoice(nibble::Theme::Choice::Light);                              \
        TestClass test;                                                                            \
        return QTest::qExec(&test, argc, argv);                                                    \
    }
