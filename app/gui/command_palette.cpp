#include "app/gui/command_palette.h"

#include "app/gui/theme.h"
#include "app/gui/theme_style.h"

#include <QAction>
#include <QCoreApplication>
#include <QKeyEvent>
#include <QLineEdit>
#include <QListWidget>
#include <QPainter>
#include <QVBoxLayout>

#include <algorithm>

namespace nibble {

QString commandTitle(const QAction* action) {
    QString text = action->text();
    text.remove(QLatin1Char('&'));
    const QString menu = action->property("menu").toString();
    return menu.isEmpty() ? text : QStringLiteral("%1: %2").arg(menu, text);
}

CommandPalette::CommandPalette(QWidget* parent)
    : QFrame(parent, Qt::Popup), m_field(new QLineEdit), m_list(new QListWidget) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(space::s(), space::s(), space::s(), space::s());
    layout->addWidget(m_field);
    layout->addWidget(m_list);
    m_field->setPlaceholderText(tr("Find a command"));
    m_field->setAccessibleName(tr("Find a command"));
    m_list->setAccessibleName(tr("Commands"));
    m_list->setFrameShape(QFrame::NoFrame);
    m_list->setFocusPolicy(Qt::NoFocus);
    m_list->setUniformItemSizes(true);
    m_field->installEventFilter(this);
    connect(m_field, &QLineEdit::textChanged, this, &CommandPalette::filter);
    connect(m_field, &QLineEdit::returnPressed, this, &CommandPalette::run);
    connect(m_list, &QListWidget::itemClicked, this, &CommandPalette::run);
}

void CommandPalette::open(const std::vector<QAction*>& actions) {
    m_actions = actions;
    m_field->clear();
    filter({});
    const QWidget* over = parentWidget();
    const int width = std::min(Theme::get().px(520), over->width() - 2 * space::xl());
    const int height = std::min(Theme::get().px(420), over->height() - 2 * space::xl());
    setFixedSize(width, height);
    move(over->mapToGlobal(QPoint((over->width() - width) / 2, Theme::get().px(32))));
    show();
    m_field->setFocus(Qt::PopupFocusReason);
}

void CommandPalette::filter(const QString& text) {
    const QStringList words = text.toLower().split(QLatin1Char(' '), Qt::SkipEmptyParts);
    m_list->clear();
    for (size_t i = 0; i < m_actions.size(); ++i) {
        const QAction* action = m_actions[i];
        const QString title = commandTitle(action);
        const QString lower = title.toLower();
        if (!std::all_of(words.begin(), words.end(),
                         [&](const QString& word) { return lower.contains(word); }))
            continue;
        const QString key = action->shortcut().toString(QKeySequence::NativeText);
        auto* item = new QListWidgetItem(
            key.isEmpty() ? title : QStringLiteral("%1    %2").arg(title, key), m_list);
        item->setData(Qt::UserRole, int(i));
        if (!action->isEnabled())
            item->setFlags(Qt::NoItemFlags);
    }
    for (int row = 0; row < m_list->count(); ++row)
        if (m_list->item(row)->flags() & Qt::ItemIsEnabled) {
            m_list->setCurrentRow(row);
            break;
        }
}

void CommandPalette::run() {
    const QListWidgetItem* item = m_list->currentItem();
    hide();
    if (item && item->flags() & Qt::ItemIsEnabled)
        m_actions[size_t(item->data(Qt::UserRole).toInt())]->trigger();
}

bool CommandPalette::eventFilter(QObject* watched, QEvent* event) {
    if (watched == m_field && event->type() == QEvent::KeyPress) {
        const int key = static_cast<QKeyEvent*>(event)->key();
        if (key == Qt::Key_Up || key == Qt::Key_Down || key == Qt::Key_PageUp ||
            key == Qt::Key_PageDown) {
            QCoreApplication::sendEvent(m_list, event);
            return true;
        }
    }
    return QFrame::eventFilter(watched, event);
}

void CommandPalette::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    painter.fillRect(rect(), Theme::get().ink(Ink::Panel));
    drawBox(&painter, rect(), Theme::get().ink(Ink::Panel), Theme::get().ink(Ink::ControlBorder),
            0);
}

} // namespace nibble
