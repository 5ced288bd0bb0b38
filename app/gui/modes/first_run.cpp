#include "app/gui/modes/first_run.h"

#include "app/gui/units.h"
#include "app/gui/widgets/drop_zone.h"
#include "app/gui/workbench.h"

#include <QApplication>
#include <QClipboard>
#include <QHBoxLayout>
#include <QScrollArea>
#include <QVBoxLayout>

namespace nibble {

namespace {

constexpr double kPageWidth = 800;

QString checkText(const DoctorReport* report, const DeviceInfo& info) {
    if (report)
        return FirstRun::tr("%1 of %2 correct")
            .arg(int(report->checks.size()) - report->failed())
            .arg(report->checks.size());
    return info.kind == "cpu" ? FirstRun::tr("reference") : FirstRun::tr("not checked yet");
}

} // namespace

FirstRun::FirstRun(Workbench& workbench, QWidget* parent)
    : QWidget(parent), m_workbench(workbench), m_banner(new Banner), m_doctorBanner(new Banner),
      m_deviceTitle(new Label({}, Type::Title)),
      m_checked(new Label({}, Type::Secondary, Ink::SecondaryText)), m_deviceIcon(new Label),
      m_devices(new QGridLayout) {
    auto* outer = new QVBoxLayout(this);
    outer->setContentsMargins(0, 0, 0, 0);
    auto* scroll = new QScrollArea;
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setFocusPolicy(Qt::NoFocus);
    auto* page = new QWidget;
    auto* centre = new QHBoxLayout(page);
    centre->addStretch(1);
    auto* column = new QWidget;
    column->setMaximumWidth(Theme::get().px(kPageWidth));
    centre->addWidget(column, 100);
    centre->addStretch(1);
    auto* layout = new QVBoxLayout(column);
    layout->setSpacing(space::m());
    layout->addSpacing(space::xl());
    layout->addWidget(new Label(tr("Welcome to Nibble"), Type::PageTitle));
    auto* what = new Label(tr("Make language models smaller, see what it costs, run them on your "
                              "own GPU. Nothing leaves this computer."),
                           Type::Body, Ink::SecondaryText);
    what->setWordWrap(true);
    layout->addWidget(what);
    layout->addSpacing(space::s());
    layout->addWidget(m_banner);
    layout->addWidget(makeDevicePanel());
    layout->addWidget(makeModelPanel());
    layout->addStretch(1);
    scroll->setWidget(page);
    outer->addWidget(scroll);
    connect(&workbench, &Workbench::devicesChanged, this, &FirstRun::refreshDevices);
    connect(&workbench, &Workbench::doctorChanged, this, &FirstRun::refreshDevices);
    connect(&Theme::get(), &Theme::changed, this, &FirstRun::refreshDevices);
    refreshDevices();
}

Panel* FirstRun::makeDevicePanel() {
    auto* panel = new Panel;
    panel->setAccessibleName(tr("Devices"));
    panel->header()->addWidget(m_deviceIcon);
    panel->header()->addWidget(m_deviceTitle, 1);
    m_devices->setHorizontalSpacing(space::l());
    m_devices->setVerticalSpacing(space::s());
    panel->body()->addLayout(m_devices);
    panel->body()->addWidget(m_doctorBanner);
    auto* foot = new QHBoxLayout;
    foot->addWidget(m_checked);
    auto* again = makeButton(tr("Check now"), ButtonKind::Link);
    connect(again, &QPushButton::clicked, this, [this] { m_workbench.runDoctor(); });
    foot->addWidget(again);
    foot->addStretch();
    panel->body()->addLayout(foot);
    return panel;
}

Panel* FirstRun::makeModelPanel() {
    auto* panel = new Panel(tr("Choose a model"));
    auto* drop = new DropZone;
    drop->setFill(Ink::Field);
    connect(drop, &DropZone::dropped, this, &FirstRun::dropped);
    auto* icon = new QLabel;
    const auto paint = [icon] {
        icon->setPixmap(Theme::get().pixmap(QStringLiteral("drop"), Ink::Accent,
                                            Theme::get().px(28), icon->devicePixelRatioF()));
    };
    connect(&Theme::get(), &Theme::changed, icon, paint);
    paint();
    drop->body()->addWidget(icon, 0, Qt::AlignHCenter);
    drop->body()->addWidget(
        new Label(tr("Drop a GGUF file or a safetensors folder here"), Type::Strong), 0,
        Qt::AlignHCenter);
    auto* row = new QHBoxLayout;
    auto* open = makeButton(tr("Open a model…"), ButtonKind::Primary);
    auto* sample = makeButton(tr("Try the sample"));
    setFocusProxy(open);
    connect(open, &QPushButton::clicked, this, &FirstRun::wantsFile);
    connect(sample, &QPushButton::clicked, this, &FirstRun::wantsSample);
    row->addStretch();
    row->addWidget(open);
    row->addWidget(new Label(tr("or"), Type::Body, Ink::SecondaryText));
    row->addWidget(sample);
    row->addStretch();
    drop->body()->addLayout(row);
    drop->body()->addSpacing(space::s());
    panel->body()->addWidget(drop);
    auto* about = new Label(tr("The sample ships with Nibble: a small model that shows every "
                               "screen in a minute."),
                            Type::Secondary, Ink::SecondaryText);
    about->setAlignment(Qt::AlignHCenter);
    about->setWordWrap(true);
    panel->body()->addWidget(about);
    auto* find =
        makeButton(tr("Find models on this computer"), ButtonKind::Link, QStringLiteral("search"));
    connect(find, &QPushButton::clicked, this, &FirstRun::wantsSearch);
    panel->body()->addWidget(find, 0, Qt::AlignHCenter);
    return panel;
}

void FirstRun::refreshDevices() {
    clearLayout(m_devices);
    const auto& devices = m_workbench.devices();
    const auto used = m_workbench.device();
    const Theme& theme = Theme::get();
    bool gpu = false;
    const QString heads[] = {tr("Device"), tr("Driver"), tr("Memory, GB"), tr("Check"), {}};
    for (int c = 0; c < 5; ++c)
        m_devices->addWidget(new Label(heads[c], Type::Secondary, Ink::SecondaryText), 0, c,
                             c == 2 ? Qt::AlignRight : Qt::AlignLeft);
    int row = 1;
    const DoctorReport* report = nullptr;
    for (const DeviceInfo& info : devices) {
        const bool inUse = used && used->id == info.id;
        gpu = gpu || info.kind == "discrete" || info.kind == "integrated";
        const DoctorReport* own = m_workbench.doctor(QString::fromStdString(info.id));
        if (inUse)
            report = own;
        auto* name = new ElidedLabel({}, inUse ? Type::Strong : Type::Body);
        name->setFullText(QString::fromStdString(info.name));
        auto* driver = new ElidedLabel;
        driver->setFullText(QString::fromStdString(info.driver));
        m_devices->addWidget(name, row, 0);
        m_devices->addWidget(driver, row, 1);
        m_devices->addWidget(new Label(units::gigabytes(info.memoryBytes)), row, 2, Qt::AlignRight);
        m_devices->addWidget(new Label(checkText(own, info), Type::Body,
                                       own && own->failed() ? Ink::Warning
                                       : own                ? Ink::Good
                                                            : Ink::SecondaryText),
                             row, 3);
        m_devices->addWidget(new Label(inUse ? tr("in use") : tr("spare"), Type::Body,
                                       inUse ? Ink::Accent : Ink::SecondaryText),
                             row, 4, Qt::AlignRight);
        ++row;
    }
    m_devices->setColumnStretch(0, 3);
    m_devices->setColumnStretch(1, 2);
    m_deviceTitle->setText(devices.empty() ? tr("Looking for devices…")
                           : gpu           ? tr("Your GPU is ready")
                                           : tr("No GPU was found: the CPU is used"));
    m_deviceIcon->setPixmap(theme.pixmap(gpu ? QStringLiteral("check") : QStringLiteral("info"),
                                         gpu ? Ink::Good : Ink::Accent, theme.px(18),
                                         devicePixelRatioF()));
    m_checked->setText(report ? tr("Checked %1 paths against the reference in %2.")
                                    .arg(report->checks.size())
                                    .arg(units::duration(report->seconds))
                              : tr("Every kernel can be checked against the reference."));
    m_doctorBanner->setVisible(false);
    if (report && report->failed()) {
        QStringList wrong;
        for (const DoctorCheck& check : report->checks)
            if (!check.passed)
                wrong << QString::fromStdString(check.path);
        m_doctorBanner->show(
            Banner::Kind::Warning,
            tr("These paths give wrong results with this driver and are switched "
               "off: %1. Slower correct ones take their place.")
                .arg(wrong.join(QStringLiteral(", "))),
            {{tr("Copy report"),
              [wrong] { QApplication::clipboard()->setText(wrong.join(QLatin1Char('\n'))); }}});
    }
}

} // namespace nibble
