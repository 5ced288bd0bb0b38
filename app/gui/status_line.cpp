#include "app/gui/status_line.h"

#include "app/gui/units.h"
#include "app/gui/widgets/parts.h"
#include "app/gui/workbench.h"

#include <QHBoxLayout>
#include <QPainter>
#include <QProgressBar>
#include <QTimer>

namespace nibble {

namespace {

constexpr int kQuietMs = 300, kNoticeMs = 6000;

} // namespace

StatusLine::StatusLine(Workbench& workbench, QWidget* parent)
    : QWidget(parent), m_workbench(workbench), m_model(new ElidedLabel({}, Type::Strong)),
      m_job(new ElidedLabel({}, Type::Secondary, Ink::SecondaryText)),
      m_device(new Label({}, Type::Secondary, Ink::SecondaryText)),
      m_memory(new Label({}, Type::Secondary, Ink::SecondaryText)),
      m_context(new Label({}, Type::Secondary, Ink::SecondaryText)),
      m_speed(new Label({}, Type::Secondary, Ink::SecondaryText)), m_bar(new QProgressBar),
      m_pause(makeIconButton(QStringLiteral("pause"), tr("Pause this job"))),
      m_cancel(makeIconButton(QStringLiteral("close"), tr("Cancel this job"))),
      m_fade(new QTimer(this)) {
    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(space::m(), 1, space::s(), 0);
    layout->setSpacing(space::l());
    for (QWidget* widget :
         std::initializer_list<QWidget*>{m_model, m_device, m_memory, m_context, m_speed})
        layout->addWidget(widget);
    layout->addStretch(1);
    m_job->setAlignment(Qt::AlignRight | Qt::AlignVCenter);
    layout->addWidget(m_job, 4);
    m_bar->setFixedSize(Theme::get().px(90), Theme::get().px(8));
    m_bar->setTextVisible(false);
    m_bar->setAccessibleName(tr("Progress of the running job"));
    layout->addWidget(m_bar);
    layout->addWidget(m_pause);
    layout->addWidget(m_cancel);
    setMinimumHeight(Theme::get().px(26));
    m_fade->setSingleShot(true);
    connect(m_fade, &QTimer::timeout, this, [this] {
        m_notice.clear();
        refreshJobs();
    });
    connect(m_pause, &QToolButton::clicked, this,
            [this] { m_workbench.jobs().setPaused(m_shownJob, !m_paused); });
    connect(m_cancel, &QToolButton::clicked, this, [this] { m_workbench.cancel(m_shownJob); });
    connect(&workbench, &Workbench::modelChanged, this, &StatusLine::refresh);
    connect(&workbench, &Workbench::runningChanged, this, &StatusLine::refresh);
    connect(&workbench, &Workbench::devicesChanged, this, &StatusLine::refresh);
    connect(&workbench, &Workbench::ledgerChanged, this, &StatusLine::refresh);
    connect(&workbench, &Workbench::notice, this, [this](const QString& text) { say(text); });
    connect(&workbench.jobs(), &Jobs::changed, this, &StatusLine::refreshJobs);
    connect(&Theme::get(), &Theme::changed, this, qOverload<>(&QWidget::update));
    refresh();
    refreshJobs();
}

void StatusLine::say(const QString& text, bool bad) {
    m_notice = text;
    m_bad = bad;
    m_fade->start(kNoticeMs);
    refreshJobs();
}

void StatusLine::refresh() {
    const auto device = m_workbench.device();
    const bool open = m_workbench.model() != nullptr;
    m_model->setFullText(!open                     ? tr("No model open")
                         : m_workbench.isRunning() ? tr("%1 · %2").arg(m_workbench.modelName(),
                                                                       m_workbench.runningTitle())
                                                   : m_workbench.modelName());
    m_device->setVisible(device.has_value());
    if (device)
        m_device->setText(
            device->kind == "cpu"
                ? tr("CPU")
                : QString::fromStdString(device->name).section(QLatin1Char('('), 0, 0).trimmed() +
                      tr(", Vulkan"));
    if (const auto& plan = m_workbench.plan(); plan && m_workbench.isRunning()) {
        if (plan->gpuLayers > 0 && plan->gpuLayers < plan->layers)
            m_device->setText(tr("%1, %2 of %3 layers; CPU %4")
                                  .arg(m_device->text())
                                  .arg(plan->gpuLayers)
                                  .arg(plan->layers)
                                  .arg(plan->layers - plan->gpuLayers));
        if (const int apart = plan->expertsApart())
            m_device->setText(tr("%1, experts of %2 on the CPU")
                                  .arg(m_device->text(),
                                       apart == 1 ? tr("1 layer") : tr("%1 layers").arg(apart)));
        if (plan->expertBudget > 0)
            m_device->setText(tr("%1, experts on disk").arg(m_device->text()));
        m_device->setToolTip(QString::fromStdString(plan->deviceText()).toHtmlEscaped());
    }
    const auto& used = m_workbench.usedLedger();
    const bool ram = device && device->kind == "cpu";
    m_memory->setVisible(used.has_value());
    if (used)
        m_memory->setText(tr("%1 %2 / %3 GB")
                              .arg(ram ? tr("RAM") : tr("VRAM"),
                                   units::gigabytes(used->use.total() + used->other),
                                   units::gigabytes(used->budget)));
    m_memory->setToolTip(tr("Memory in use, by this model and by others, of all the device has"));
    m_context->setVisible(m_workbench.isRunning());
    m_context->setText(tr("context %1 / %2")
                           .arg(units::count(m_workbench.contextUsed()),
                                units::count(m_workbench.options().context)));
    m_context->setToolTip(tr("Tokens of the conversation that the model still sees"));
    m_speed->setVisible(m_workbench.lastTokensPerSecond() > 0);
    m_speed->setText(tr("%1 tokens/s").arg(units::number(m_workbench.lastTokensPerSecond())));
}

void StatusLine::refreshJobs() {
    const auto jobs = m_workbench.jobs().list();
    const Jobs::Info* shown = nullptr;
    for (const auto& job : jobs)
        if (!job.title.isEmpty() && job.elapsedMs >= kQuietMs) {
            shown = &job;
            break;
        }
    m_bar->setVisible(shown && shown->total > 0);
    m_cancel->setVisible(shown != nullptr);
    m_pause->setVisible(shown != nullptr);
    if (const bool paused = shown && shown->paused; paused != m_paused) {
        m_paused = paused;
        const QString name = paused ? tr("Go on with this job") : tr("Pause this job");
        m_pause->setIcon(
            Theme::get().icon(paused ? QStringLiteral("play") : QStringLiteral("pause")));
        m_pause->setAccessibleName(name);
        m_pause->setToolTip(name);
    }
    m_shownJob = shown ? shown->id : 0;
    if (!shown) {
        m_job->setInk(m_bad ? Ink::Bad : Ink::SecondaryText);
        m_job->setFullText(m_notice);
        return;
    }
    QString text = shown->title;
    if (shown->total > 0) {
        text += tr(": %1 of %2")
                    .arg(units::count(int64_t(shown->done)), units::count(int64_t(shown->total)));
        if (shown->paused)
            text += tr(" · paused");
        else if (shown->secondsLeft() >= 0)
            text += tr(" · %1 left").arg(units::duration(shown->secondsLeft()));
        m_bar->setRange(0, 1000);
        m_bar->setValue(int(1000 * shown->done / shown->total));
    }
    m_job->setInk(Ink::SecondaryText);
    m_job->setFullText(text, Qt::ElideRight);
}

void StatusLine::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    painter.fillRect(rect(), Theme::get().ink(Ink::Panel));
    painter.fillRect(QRect(0, 0, width(), 1), Theme::get().ink(Ink::Line));
}

} // namespace nibble
