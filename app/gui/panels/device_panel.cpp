#include "app/gui/panels/device_panel.h"

#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include <QHBoxLayout>
#include <QVBoxLayout>

namespace nibble {

DevicePanel::DevicePanel(Workbench& workbench, QWidget* parent)
    : QWidget(parent), m_workbench(workbench), m_name(new Label({}, Type::Title)),
      m_facts(new Label({}, Type::Body, Ink::SecondaryText)),
      m_kernels(new Label({}, Type::Body, Ink::SecondaryText)),
      m_check(new Label({}, Type::Body, Ink::SecondaryText)),
      m_note(new Label(
          tr("Each mark is a product of a matrix with so many rows, alone and with all of "
             "the device. The line is what the device can do, measured in the same "
             "run: as many operations as the bytes that it reads allow, and no more "
             "than it can multiply."),
          Type::Footnote, Ink::SecondaryText)),
      m_plot(new RooflinePlot), m_measure(makeButton(tr("Measure"), ButtonKind::Primary)),
      m_doctor(makeButton(tr("Check the device"))) {
    auto* column = new QVBoxLayout(this);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(space::s());
    for (Label* label : {m_name, m_facts, m_kernels, m_check}) {
        label->setWordWrap(true);
        label->setTextInteractionFlags(Qt::TextSelectableByMouse | Qt::TextSelectableByKeyboard);
        column->addWidget(label);
    }
    column->addWidget(m_plot, 1);
    m_note->setWordWrap(true);
    column->addWidget(m_note);
    auto* buttons = new QHBoxLayout;
    buttons->setSpacing(space::s());
    buttons->addWidget(m_measure);
    buttons->addWidget(m_doctor);
    buttons->addStretch(1);
    column->addLayout(buttons);
    connect(m_measure, &QPushButton::clicked, this, [this] { m_workbench.measureKernels(); });
    connect(m_doctor, &QPushButton::clicked, this, [this] { m_workbench.runDoctor(); });
    connect(&workbench, &Workbench::devicesChanged, this, &DevicePanel::refresh);
    connect(&workbench, &Workbench::doctorChanged, this, &DevicePanel::refresh);
    connect(&workbench, &Workbench::kernelsChanged, this, &DevicePanel::refresh);
    refresh();
}

void DevicePanel::refresh() {
    const auto info = m_workbench.device();
    m_measure->setEnabled(info && !m_workbench.isMeasuringKernels());
    m_measure->setText(m_workbench.isMeasuringKernels() ? tr("Measuring …") : tr("Measure"));
    m_doctor->setEnabled(info.has_value());
    if (!info) {
        m_name->setText(tr("No device is known yet"));
        for (Label* label : {m_facts, m_kernels, m_check})
            label->hide();
        m_plot->setReport({});
        return;
    }
    const QString id = QString::fromStdString(info->id);
    m_name->setText(QString::fromStdString(info->name));
    QStringList features;
    for (const std::string& feature : info->features)
        features << QString::fromStdString(feature);
    m_facts->setText(tr("%1 · %2 · %3 of %4 free%5")
                         .arg(id, QString::fromStdString(info->driver),
                              units::bytes(info->freeBytes), units::bytes(info->memoryBytes),
                              features.isEmpty() || info->kind == "cpu"
                                  ? QString()
                                  : tr(" · uses %1").arg(features.join(", "))));
    m_facts->show();
    const DeviceKernels* kernels = m_workbench.kernels(id);
    m_kernels->setVisible(kernels && !kernels->choice.isEmpty());
    if (kernels)
        m_kernels->setText(kernels->choice);
    const DoctorReport* doctor = m_workbench.doctor(id);
    m_check->setVisible(doctor != nullptr);
    if (doctor) {
        const int failed = doctor->failed();
        m_check->setText(failed == 0 ? tr("All %n kernel paths give the right answer.", nullptr,
                                          int(doctor->checks.size()))
                                     : tr("%n kernel paths are wrong on this driver and left out.",
                                          nullptr, failed));
        m_check->setInk(failed == 0 ? Ink::SecondaryText : Ink::Bad);
    }
    m_plot->setReport(kernels ? std::optional(kernels->report) : std::nullopt);
}

} // namespace nibble
