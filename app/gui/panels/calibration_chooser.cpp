#include "app/gui/panels/calibration_chooser.h"

#include "app/gui/chat/chat_store.h"
#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include <QComboBox>
#include <QDir>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QSignalBlocker>

namespace nibble {
namespace {

enum Choice { kShipped, kChats, kFile, kChosenFile };

QString about() {
    return CalibrationChooser::tr(
        "GPTQ, AWQ, SmoothQuant, LLM.int8(), Nibble 4 and 8 and Mixed look at what flows through "
        "the model while it reads a text.\n\n"
        "The text that ships: books and dialogues; the same for everybody.\n"
        "Your own chats: all conversations kept by this program. They are read on this computer "
        "only, when you choose them here, and never leave it; an exported model has only the "
        "rounding that they led to.\n"
        "A file: any text in UTF-8, or an importance matrix of llama.cpp, which has no second "
        "moments, so that GPTQ, Nibble 4 and 8 and Mixed cannot use it.");
}

} // namespace

CalibrationChooser::CalibrationChooser(Workbench& workbench, QWidget* parent)
    : QWidget(parent), m_workbench(workbench), m_box(new QComboBox) {
    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(space::s());
    layout->addWidget(new Label(tr("Calibrate with"), Type::Body, Ink::SecondaryText));
    layout->addWidget(m_box);
    m_box->setObjectName(QStringLiteral("calibration"));
    m_box->setAccessibleName(tr("Calibration text"));
    m_box->addItem(tr("The text that ships"));
    m_box->addItem(tr("Your own chats"));
    m_box->addItem(tr("A file…"));
    m_box->setItemData(kChats, tr("Read on this computer only; they never leave it"),
                       Qt::ToolTipRole);
    setToolTip(about());
    setWhatsThis(about());
    connect(m_box, &QComboBox::activated, this, &CalibrationChooser::choose);
    for (auto signal : {&Workbench::calibrationChanged, &Workbench::modelChanged})
        connect(&workbench, signal, this, &CalibrationChooser::refresh);
    refresh();
}

void CalibrationChooser::choose(int index) {
    if (index == kShipped)
        m_workbench.setCalibration({});
    else if (index == kChats)
        chooseChats(m_workbench);
    else if (index == kFile)
        askFile(m_workbench, this);
    refresh(); // until it has been looked at, what was chosen before goes on
}

void CalibrationChooser::chooseChats(Workbench& workbench) {
    QDir().mkpath(ChatStore::usualFolder()); // who has none is told so
    workbench.setCalibration(ChatStore::usualFolder());
}

void CalibrationChooser::askFile(Workbench& workbench, QWidget* parent) {
    const QString path = QFileDialog::getOpenFileName(
        parent, tr("Calibrate with a text or an importance matrix"), {},
        tr("Texts and importance matrices (*.txt *.md *.gguf *.dat *.imatrix);;All files (*)"));
    if (!path.isEmpty())
        workbench.setCalibration(path);
}

void CalibrationChooser::refresh() {
    const QString path = m_workbench.calibration();
    const bool isFile = !path.isEmpty() && path != ChatStore::usualFolder();
    const QSignalBlocker quiet(m_box);
    if (m_box->count() > kChosenFile)
        m_box->removeItem(kChosenFile);
    if (isFile)
        m_box->addItem(QFileInfo(path).fileName());
    m_box->setCurrentIndex(path.isEmpty() ? kShipped : isFile ? kChosenFile : kChats);
    m_box->setEnabled(m_workbench.model() != nullptr);
}

QString CalibrationChooser::explanation(const Workbench& workbench) {
    const QString path = workbench.calibration();
    if (path.isEmpty())
        return tr("Levels that look at data are calibrated with the text that ships.");
    const CalibrationChoice& chosen = workbench.calibrationChoice();
    const QString label = QString::fromStdString(chosen.label);
    if (chosen.tokens == 0)
        return tr("Levels that look at data use the importance matrix %1. It has no second "
                  "moments: GPTQ, Nibble 4 and 8 and Mixed need a text instead.")
            .arg(label);
    const QString used = tr("Levels that look at data are calibrated with %1, %2 tokens.")
                             .arg(label, units::count(chosen.tokens));
    return path == ChatStore::usualFolder()
               ? used + u' ' +
                     tr("Chats are read on this computer only and never leave it; an exported "
                        "model has only the rounding that they led to.")
               : used;
}

} // namespace nibble
