#include "app/gui/rail.h"

#include "app/gui/modes/mode.h"
#include "app/gui/theme.h"
#include "app/gui/theme_style.h"
#include "app/gui/workbench.h"

#include "core/base/parallel.h"

#include <QActionGroup>
#include <QCoreApplication>
#include <QMenu>
#include <QPainter>
#include <QVBoxLayout>

#include <algorithm>

namespace nibble {

namespace {

constexpr double kWide = 76, kNarrow = 52;

/// Wide enough for the footnotes at the rail's foot in whatever font there is.
int wideWidth() {
    const Theme& theme = Theme::get();
    const QFontMetrics metrics(theme.font(Type::Footnote));
    return std::max(theme.px(kWide),
                    metrics.horizontalAdvance(QStringLiteral("this model ▾")) + theme.px(10));
}

/// "AMD Radeon RX 7800 XT" and "llvmpipe (LLVM 15.0.6, 256 bits)" as they fit under an icon.
QString shortDevice(const DeviceInfo& info) {
    if (info.kind == "cpu")
        return QCoreApplication::translate("Rail", "CPU");
    QString name = QString::fromStdString(info.name).section(QLatin1Char('('), 0, 0).trimmed();
    for (const char* maker : {"AMD Radeon ", "NVIDIA GeForce ", "NVIDIA ", "Intel(R) "})
        name.remove(QLatin1String(maker));
    return name;
}

} // namespace

RailButton::RailButton(const QString& icon, const QString& text, QWidget* parent)
    : QAbstractButton(parent), m_icon(icon) {
    setText(text);
    setAccessibleName(text);
    setCheckable(true);
    setAutoExclusive(true);
    setFocusPolicy(Qt::TabFocus);
    setAttribute(Qt::WA_Hover);
    setSizePolicy(QSizePolicy::Fixed, QSizePolicy::Fixed);
}

void RailButton::setCompact(bool compact) {
    m_compact = compact;
    setToolTip(compact ? text() : QString());
    updateGeometry();
}

QSize RailButton::sizeHint() const {
    const Theme& theme = Theme::get();
    return {m_compact ? theme.px(kNarrow) : wideWidth(), theme.px(m_compact ? 48 : 58)};
}

void RailButton::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    const Theme& theme = Theme::get();
    if (isChecked()) {
        painter.fillRect(rect(), theme.ink(Ink::AccentFill));
        painter.fillRect(QRect(0, 0, theme.px(3), height()), theme.ink(Ink::Accent));
    } else if (underMouse() && isEnabled()) {
        painter.fillRect(rect(), theme.ink(Ink::Line));
    }
    const Ink ink = !isEnabled() ? Ink::DisabledText : isChecked() ? Ink::Accent : Ink::Text;
    const int side = theme.px(20);
    const QFont font = theme.font(isChecked() ? Type::Strong : Type::Body);
    const QFontMetrics metrics(font);
    const int gap = theme.px(4);
    const int tall = m_compact ? side : side + gap + metrics.height();
    const QRect icon((width() - side) / 2, (height() - tall) / 2, side, side);
    theme.icon(m_icon, ink).paint(&painter, icon);
    if (!m_compact) {
        painter.setFont(font);
        painter.setPen(theme.ink(ink));
        painter.drawText(QRect(2, icon.bottom() + gap, width() - 4, metrics.height()),
                         Qt::AlignCenter, metrics.elidedText(text(), Qt::ElideRight, width() - 4));
    }
    if (hasFocus())
        drawBox(&painter, rect().adjusted(1, 1, -1, -1), Qt::transparent, theme.ink(Ink::Accent),
                theme.px(4), 2);
}

RailMenu::RailMenu(const QString& icon, const QString& caption, QWidget* parent)
    : QAbstractButton(parent), m_icon(icon), m_caption(caption), m_menu(new QMenu(this)) {
    setFocusPolicy(Qt::TabFocus);
    setAttribute(Qt::WA_Hover);
    setSizePolicy(QSizePolicy::Fixed, QSizePolicy::Fixed);
    connect(this, &QAbstractButton::clicked, this,
            [this] { m_menu->popup(mapToGlobal(QPoint(width(), 0))); });
}

void RailMenu::setLines(const QString& name, const QString& second) {
    m_name = name;
    m_second = second;
    setAccessibleName(QStringLiteral("%1: %2, %3").arg(m_caption, name, second));
    setToolTip(accessibleName().toHtmlEscaped());
    update();
}

void RailMenu::setCompact(bool compact) {
    m_compact = compact;
    updateGeometry();
}

QSize RailMenu::sizeHint() const {
    const Theme& theme = Theme::get();
    if (m_compact)
        return {theme.px(kNarrow), theme.px(44)};
    const int line = QFontMetrics(theme.font(Type::Footnote)).height();
    return {wideWidth(), 3 * line + theme.px(14)};
}

void RailMenu::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    const Theme& theme = Theme::get();
    if (underMouse())
        painter.fillRect(rect(), theme.ink(Ink::Line));
    painter.fillRect(QRect(0, 0, width(), 1), theme.ink(Ink::Line));
    if (m_compact) {
        const int side = theme.px(20);
        theme.icon(m_icon).paint(&painter,
                                 QRect((width() - side) / 2, (height() - side) / 2, side, side));
    } else {
        int y = theme.px(7);
        const auto line = [&](const QString& text, Type type, Ink ink) {
            painter.setFont(theme.font(type));
            painter.setPen(theme.ink(ink));
            const QFontMetrics metrics(painter.font());
            painter.drawText(QRect(3, y, width() - 6, metrics.height()), Qt::AlignCenter,
                             metrics.elidedText(text, Qt::ElideRight, width() - 6));
            y += metrics.height();
        };
        QFont strong = theme.font(Type::Footnote);
        line(m_caption, Type::Footnote, Ink::SecondaryText);
        strong.setWeight(QFont::DemiBold);
        painter.setFont(strong);
        painter.setPen(theme.ink(Ink::Text));
        const QFontMetrics metrics(strong);
        painter.drawText(QRect(3, y, width() - 6, metrics.height()), Qt::AlignCenter,
                         metrics.elidedText(m_name, Qt::ElideRight, width() - 6));
        y += metrics.height();
        line(m_second + QStringLiteral(" ▾"), Type::Footnote, Ink::SecondaryText);
    }
    if (hasFocus())
        drawBox(&painter, rect().adjusted(1, 1, -1, -1), Qt::transparent, theme.ink(Ink::Accent),
                theme.px(4), 2);
}

Rail::Rail(Workbench& workbench, QWidget* parent)
    : QWidget(parent), m_workbench(workbench),
      m_device(new RailMenu(QStringLiteral("device"), tr("device"), this)),
      m_baseline(new RailMenu(QStringLiteral("pin"), tr("baseline"), this)) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, Theme::get().px(8), 1, 0);
    layout->setSpacing(0);
    int index = 0;
    for (const ModeEntry& entry : modes()) {
        auto* button = new RailButton(QLatin1String(entry.icon),
                                      QCoreApplication::translate("Mode", entry.title), this);
        connect(button, &QAbstractButton::clicked, this, [this, index] { emit chosen(index); });
        layout->addWidget(button);
        m_buttons.push_back(button);
        ++index;
    }
    layout->addStretch();
    layout->addWidget(m_device);
    layout->addWidget(m_baseline);
    connect(m_device->menu(), &QMenu::aboutToShow, this, [this] {
        m_device->menu()->clear();
        fillDevices(m_device->menu());
    });
    connect(m_baseline->menu(), &QMenu::aboutToShow, this, [this] {
        m_baseline->menu()->clear();
        fillBaselines(m_baseline->menu());
    });
    connect(&workbench, &Workbench::baselineChanged, this, &Rail::refresh);
    connect(&workbench, &Workbench::devicesChanged, this, &Rail::refresh);
    connect(&workbench, &Workbench::runningChanged, this, &Rail::refresh);
    connect(&workbench, &Workbench::modelChanged, this, &Rail::refresh);
    connect(&Theme::get(), &Theme::changed, this, [this] {
        for (auto* button : m_buttons)
            button->updateGeometry();
        update();
    });
    refresh();
}

void Rail::fillDevices(QMenu* menu) {
    auto* group = new QActionGroup(menu);
    const std::string& wanted = m_workbench.options().device;
    const auto add = [&](const QString& text, const std::string& id) {
        auto* action = menu->addAction(text);
        action->setCheckable(true);
        action->setChecked(wanted == id);
        group->addAction(action);
        connect(action, &QAction::triggered, this,
                [this, id] { m_workbench.setDevice(QString::fromStdString(id)); });
    };
    add(tr("Automatic: a GPU, else the CPU"), "auto");
    for (const DeviceInfo& info : m_workbench.devices())
        add(QStringLiteral("%1 (%2)").arg(QString::fromStdString(info.name),
                                          QString::fromStdString(info.id)),
            info.id);
}

void Rail::fillBaselines(QMenu* menu) {
    const auto add = [&](const QString& text, const Recipe& recipe) {
        auto* action = menu->addAction(text);
        action->setCheckable(true);
        action->setChecked(m_workbench.baseline().rules == recipe.rules);
        connect(action, &QAction::triggered, this,
                [this, recipe] { m_workbench.setBaseline(recipe); });
    };
    add(tr("Base of this model, as its file stores it"), {});
    const Recipe& running = m_workbench.runningRecipe();
    if (!running.rules.empty() && !m_workbench.ladderRow(running))
        add(tr("%1, which is running").arg(m_workbench.runningTitle()), running);
    if (const auto model = m_workbench.model())
        for (const Level& level : levels())
            add(QString::fromUtf8(level.title), level.make(*model));
}

void Rail::refresh() {
    const bool open = m_workbench.model() != nullptr;
    size_t i = 0;
    for (const ModeEntry& entry : modes())
        m_buttons[i++]->setEnabled(open || !entry.needsModel);
    if (const auto info = m_workbench.device())
        m_device->setLines(shortDevice(*info), info->kind == "cpu"
                                                   ? tr("%n threads", nullptr, threadCount())
                                                   : tr("Vulkan"));
    else
        m_device->setLines(tr("looking…"), tr("devices"));
    if (!open)
        m_baseline->setLines(tr("none yet"), tr("no model"));
    else
        m_baseline->setLines(m_workbench.baselineTitle(), tr("this model"));
}

void Rail::setCurrent(int index) {
    m_buttons[size_t(index)]->setChecked(true);
}

void Rail::setCompact(bool compact) {
    for (auto* button : m_buttons)
        button->setCompact(compact);
    m_device->setCompact(compact);
    m_baseline->setCompact(compact);
}

void Rail::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    const Theme& theme = Theme::get();
    painter.fillRect(rect(), theme.ink(Ink::Rail));
    painter.fillRect(QRect(width() - 1, 0, 1, height()), theme.ink(Ink::Line));
}

} // namespace nibble
