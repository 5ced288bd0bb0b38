#include "app/gui/command_palette.h"
#include "app/gui/main_window.h"
#include "app/gui/panels/device_panel.h"
#include "app/gui/theme.h"
#include "app/gui/widgets/parts.h"

#include "core/base/resources.h"
#include "core/model/names.h"

#include <fmt/format.h>

#include <QApplication>
#include <QClipboard>
#include <QDialog>
#include <QDialogButtonBox>
#include <QHeaderView>
#include <QTableWidget>
#include <QVBoxLayout>

namespace nibble {

namespace {

struct ExtraKey {
    const char* key;
    const char* what;
};

/// Keys that belong to a page and are in no menu.
constexpr ExtraKey kExtraKeys[] = {
    {"Enter", QT_TRANSLATE_NOOP("Keys", "Chat: send")},
    {"Shift+Enter", QT_TRANSLATE_NOOP("Keys", "Chat: new line")},
    {"Esc", QT_TRANSLATE_NOOP("Keys", "Chat: stop the answer")},
    {"Ctrl+R", QT_TRANSLATE_NOOP("Keys", "Chat: answer again")},
    {"Up", QT_TRANSLATE_NOOP("Keys", "Chat: edit the last prompt (in an empty field)")},
    {"[  ]", QT_TRANSLATE_NOOP("Keys", "Tune and Inspect: previous and next layer")},
    {"Arrows", QT_TRANSLATE_NOOP("Keys", "Layer strip: move the selection")},
    {"Shift+Arrows", QT_TRANSLATE_NOOP("Keys", "Layer strip: select a range")},
    {"Enter", QT_TRANSLATE_NOOP("Keys", "Layer strip: inspect")},
    {"F, L, M", QT_TRANSLATE_NOOP("Keys", "Layer strip: set format, lock, measure")},
    {"Arrows, + −", QT_TRANSLATE_NOOP("Keys", "Plot: pan and zoom; Home shows the whole range")},
    {"Ctrl+S", QT_TRANSLATE_NOOP("Keys", "Plot: save as PNG, SVG, PDF or CSV")},
    {"Ctrl+C", QT_TRANSLATE_NOOP("Keys", "Plot or table: copy the values")},
};

QDialog* makeDialog(QWidget* parent, const QString& title) {
    auto* dialog = new QDialog(parent);
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setWindowTitle(title);
    auto* layout = new QVBoxLayout(dialog);
    const int gap = space::l();
    layout->setContentsMargins(gap, gap, gap, gap);
    layout->setSpacing(space::m());
    return dialog;
}

void finish(QDialog* dialog) {
    auto* buttons = new QDialogButtonBox(QDialogButtonBox::Close);
    QObject::connect(buttons, &QDialogButtonBox::rejected, dialog, &QDialog::close);
    dialog->layout()->addWidget(buttons);
    dialog->show();
}

} // namespace

void MainWindow::openSample() {
    try {
        m_workbench.openModel(QString::fromStdString(sampleModelPath().string()));
    } catch (const Error& error) {
        showProblem(Concern::Models, QString::fromStdString(error.what()));
    }
}

void MainWindow::showKeys() {
    QDialog* dialog = makeDialog(this, tr("Keyboard shortcuts"));
    std::vector<std::pair<QString, QString>> rows;
    for (const QAction* action : m_commands)
        if (!action->shortcut().isEmpty())
            rows.emplace_back(action->shortcut().toString(QKeySequence::NativeText),
                              commandTitle(action));
    for (const ExtraKey& extra : kExtraKeys)
        rows.emplace_back(QLatin1String(extra.key),
                          QCoreApplication::translate("Keys", extra.what));
    auto* table = new QTableWidget(int(rows.size()), 2);
    table->setHorizontalHeaderLabels({tr("Key"), tr("What it does")});
    table->setAccessibleName(tr("Keyboard shortcuts"));
    table->verticalHeader()->hide();
    table->verticalHeader()->setDefaultSectionSize(Theme::get().rowHeight());
    table->setShowGrid(false);
    table->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table->setSelectionBehavior(QAbstractItemView::SelectRows);
    table->horizontalHeader()->setStretchLastSection(true);
    for (int i = 0; i < int(rows.size()); ++i) {
        table->setItem(i, 0, new QTableWidgetItem(rows[size_t(i)].first));
        table->setItem(i, 1, new QTableWidgetItem(rows[size_t(i)].second));
    }
    table->resizeColumnToContents(0);
    dialog->layout()->addWidget(table);
    dialog->resize(Theme::get().px(520), Theme::get().px(560));
    finish(dialog);
}

/// Stays open beside the window, and there is one.
void MainWindow::showDevice() {
    if (auto* open = findChild<DevicePanel*>()) {
        open->window()->raise();
        open->window()->activateWindow();
        return;
    }
    QDialog* dialog = makeDialog(this, tr("Device and its limits"));
    static_cast<QVBoxLayout*>(dialog->layout())->addWidget(new DevicePanel(m_workbench, dialog), 1);
    dialog->resize(Theme::get().px(640), Theme::get().px(560));
    finish(dialog);
}

void MainWindow::showAbout() {
    QDialog* dialog = makeDialog(this, tr("About Nibble"));
    auto* layout = static_cast<QVBoxLayout*>(dialog->layout());
    layout->addWidget(
        new Label(tr("Nibble %1").arg(QLatin1String(NIBBLE_VERSION)), Type::PageTitle));
    const QString texts[] = {
        tr("Makes language models smaller, shows what it costs, and runs them on your own GPU. "
           "Nothing leaves this computer."),
        tr("Limits: models of the families Llama, Mistral, Mixtral, Qwen, Gemma, Phi-3, Granite, "
           "OLMo 2, SmolLM, LFM2, GPT-2 and gpt-oss run; others open for inspection only. Numbers "
           "are measured on the text that ships and may differ "
           "on yours; each says on how many tokens it was measured. A predicted number is marked "
           "with ≈."),
        tr("Free software under the GNU General Public License, version 3 or later. Made with Qt "
           "(LGPL 3), QCustomPlot (GPL 3), fmt, nlohmann-json, CLI11, PCRE2, utf8proc, zlib "
           "and volk. The viridis colour map is by Stéfan van der Walt and Nathaniel Smith."),
    };
    for (const QString& text : texts) {
        auto* label = new Label(text);
        label->setWordWrap(true);
        label->setTextInteractionFlags(Qt::TextSelectableByMouse | Qt::TextSelectableByKeyboard);
        layout->addWidget(label);
    }
    dialog->resize(Theme::get().px(480), 0);
    finish(dialog);
}

void MainWindow::copyDiagnostics() {
    QStringList lines{
        tr("Nibble %1, Qt %2").arg(QLatin1String(NIBBLE_VERSION), QLatin1String(qVersion()))};
    for (const DeviceInfo& info : m_workbench.devices()) {
        lines << QString::fromStdString(fmt::format("{}: {} ({}, {}), {} of {} bytes free", info.id,
                                                    info.name, info.kind, info.driver,
                                                    info.freeBytes, info.memoryBytes));
        if (const DoctorReport* report = m_workbench.doctor(QString::fromStdString(info.id)))
            for (const DoctorCheck& check : report->checks)
                if (!check.passed)
                    lines << QString::fromStdString("  wrong: " + check.path + ": " + check.note);
    }
    if (m_workbench.model())
        lines << tr("Model: %1, %2").arg(m_workbench.modelName(), m_workbench.runningTitle());
    for (const PathReport& path : m_workbench.paths())
        lines << QString::fromStdString(fmt::format("  {}: {} (stored as {}) on {}, {}",
                                                    tensorName(path.key), path.format, path.stored,
                                                    path.backend, path.path));
    QApplication::clipboard()->setText(lines.join(QLatin1Char('\n')));
    emit m_workbench.notice(tr("Diagnostics are on the clipboard"));
}

} // namespace nibble
