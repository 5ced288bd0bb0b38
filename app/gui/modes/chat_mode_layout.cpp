#include "app/gui/modes/chat_mode.h"

#include "app/gui/theme_style.h"
#include "app/gui/units.h"

#include <QHBoxLayout>
#include <QLineEdit>
#include <QListView>
#include <QMenu>
#include <QPainter>
#include <QPlainTextEdit>
#include <QShortcut>
#include <QStyledItemDelegate>
#include <QVBoxLayout>

/// How the Chat mode is laid out, and what its chips say.
namespace nibble {

namespace {

/// Title, then variant and time, then where the search was found.
class ChatDelegate final : public QStyledItemDelegate {
public:
    using QStyledItemDelegate::QStyledItemDelegate;

    QSize sizeHint(const QStyleOptionViewItem&, const QModelIndex& index) const override {
        const Theme& theme = Theme::get();
        const int small = QFontMetrics(theme.font(Type::Footnote)).height();
        const int lines = index.data(ChatList::HitRole).toString().isEmpty() ? 1 : 2;
        return {theme.px(120),
                QFontMetrics(theme.font(Type::Strong)).height() + lines * small + theme.px(14)};
    }
    void paint(QPainter* painter, const QStyleOptionViewItem& option,
               const QModelIndex& index) const override {
        const Theme& theme = Theme::get();
        const bool selected = option.state & QStyle::State_Selected;
        if (selected || option.state & QStyle::State_MouseOver)
            drawBox(painter, option.rect, theme.ink(selected ? Ink::AccentFill : Ink::Field),
                    Qt::transparent, theme.px(5));
        QRect r = option.rect.adjusted(theme.px(8), theme.px(6), -theme.px(8), 0);
        const auto line = [&](const QString& text, Type type, Ink ink) {
            painter->setFont(theme.font(type));
            painter->setPen(theme.ink(ink));
            const QFontMetrics metrics(painter->font());
            painter->drawText(QRect(r.left(), r.top(), r.width(), metrics.height()),
                              Qt::AlignVCenter,
                              metrics.elidedText(text, Qt::ElideRight, r.width()));
            r.setTop(r.top() + metrics.height());
        };
        line(index.data().toString(), selected ? Type::Strong : Type::Body, Ink::Text);
        line(index.data(ChatList::DetailRole).toString(), Type::Footnote, Ink::SecondaryText);
        const QString hit = index.data(ChatList::HitRole).toString();
        if (!hit.isEmpty())
            line(hit, Type::Footnote, Ink::Warning);
    }
};

} // namespace

QWidget* ChatMode::makeSide() {
    auto* panel = new Panel;
    panel->setAccessibleName(tr("Chats"));
    panel->setFixedWidth(Theme::get().px(232));
    panel->body()->setContentsMargins(space::s(), space::m(), space::s(), space::s());
    auto* fresh = makeButton(tr("New chat"), ButtonKind::Plain, QStringLiteral("plus"));
    fresh->setToolTip(tr("Ctrl+N"));
    connect(fresh, &QPushButton::clicked, this, [this] {
        newChat();
        focusStart();
    });
    panel->body()->addWidget(fresh);
    m_search = new QLineEdit;
    m_search->setPlaceholderText(tr("Find in all chats"));
    m_search->setAccessibleName(tr("Find in all chats"));
    m_search->setClearButtonEnabled(true);
    m_search->addAction(Theme::get().icon(QStringLiteral("search"), Ink::SecondaryText),
                        QLineEdit::LeadingPosition);
    connect(m_search, &QLineEdit::textChanged, m_list, &ChatList::search);
    panel->body()->addWidget(m_search);
    m_chats = new QListView;
    m_chats->setModel(m_list);
    m_chats->setItemDelegate(new ChatDelegate(m_chats));
    m_chats->setFrameShape(QFrame::NoFrame);
    m_chats->setMouseTracking(true);
    m_chats->setAccessibleName(tr("Chats"));
    m_chats->setContextMenuPolicy(Qt::CustomContextMenu);
    connect(m_chats, &QListView::clicked, this, [this](const QModelIndex& index) {
        openChat(index.data(ChatList::IdRole).toString());
    });
    connect(m_chats, &QListView::activated, this, [this](const QModelIndex& index) {
        openChat(index.data(ChatList::IdRole).toString());
    });
    connect(m_chats, &QWidget::customContextMenuRequested, this, [this](const QPoint& at) {
        const QString id = m_chats->indexAt(at).data(ChatList::IdRole).toString();
        if (id.isEmpty())
            return;
        auto* menu = new QMenu(this);
        menu->setAttribute(Qt::WA_DeleteOnClose);
        connect(menu->addAction(tr("Delete this chat")), &QAction::triggered, this,
                [this, id] { removeChat(id); });
        menu->popup(m_chats->viewport()->mapToGlobal(at));
    });
    panel->body()->addWidget(m_chats, 1);
    return panel;
}

QWidget* ChatMode::makeMain() {
    auto* holder = new QWidget;
    auto* column = new QVBoxLayout(holder);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(space::m());
    auto* panel = new Panel;
    panel->setAccessibleName(tr("Conversation"));
    m_variant = makeButton({}, ButtonKind::Chip);
    m_device = makeButton({}, ButtonKind::Chip, QStringLiteral("device"));
    m_figures = new ElidedLabel({}, Type::Secondary, Ink::SecondaryText);
    auto* variants = new QMenu(m_variant);
    connect(variants, &QMenu::aboutToShow, this, [this, variants] {
        variants->clear();
        const auto add = [&](const QString& title, const QString& name, const QString& about) {
            auto* action = variants->addAction(title);
            action->setToolTip(about);
            action->setCheckable(true);
            action->setChecked(m_workbench.runningRecipe().name == name.toStdString());
            connect(action, &QAction::triggered, this, [this, name] {
                m_workbench.stopAnswer();
                m_workbench.applyLevel(name);
            });
        };
        variants->setToolTipsVisible(true);
        add(tr("Base"), {}, tr("As the file stores it"));
        for (const LadderLevel& level : ladderLevels())
            add(QString::fromUtf8(level.title), QLatin1String(level.name),
                QString::fromUtf8(level.about));
    });
    m_variant->setMenu(variants);
    auto* devices = new QMenu(m_device);
    connect(devices, &QMenu::aboutToShow, this, [this, devices] {
        devices->clear();
        for (const DeviceInfo& info : m_workbench.devices()) {
            auto* action = devices->addAction(QString::fromStdString(info.name));
            connect(action, &QAction::triggered, this,
                    [this, id = info.id] { m_workbench.setDevice(QString::fromStdString(id)); });
        }
    });
    m_device->setMenu(devices);
    panel->header()->addWidget(m_variant);
    panel->header()->addWidget(m_figures, 1);
    panel->header()->addWidget(m_device);
    m_banner = new Banner;
    m_view = new ConversationView;
    panel->body()->setContentsMargins(1, Theme::get().px(8), 1, 1);
    panel->header()->setContentsMargins(space::m(), 0, space::m(), 0);
    panel->body()->addWidget(makeLine());
    panel->body()->addWidget(m_banner);
    panel->body()->addWidget(m_view, 1);
    m_composer = new Composer;
    column->addWidget(panel, 1);
    column->addWidget(m_composer);
    connect(m_view, &ConversationView::examplePicked, this, [this](const QString& prompt) {
        m_composer->setText(prompt);
        sendPrompt();
    });
    connect(m_view, &ConversationView::wantsAgain, this, &ChatMode::askAgain);
    connect(m_view, &ConversationView::wantsEdit, this, &ChatMode::edit);
    connect(m_view, &ConversationView::wantsBranch, this, &ChatMode::branch);
    connect(m_view, &ConversationView::wantsWay, this, &ChatMode::showOther);
    connect(m_composer, &Composer::send, this, &ChatMode::sendPrompt);
    connect(m_composer, &Composer::stop, this, &ChatMode::stop);
    connect(m_composer, &Composer::editLast, this, &ChatMode::editLast);
    connect(m_composer, &Composer::cancelEdit, this, &ChatMode::cancelEdit);
    connect(m_composer, &Composer::templatePicked, this, &ChatMode::pickTemplate);
    connect(m_composer->field(), &QPlainTextEdit::textChanged, this,
            [this] { m_countTimer.start(); });
    auto* againKey = new QShortcut(QKeySequence(tr("Ctrl+R")), this);
    againKey->setContext(Qt::WidgetWithChildrenShortcut);
    connect(againKey, &QShortcut::activated, this, &ChatMode::again);
    return holder;
}

void ChatMode::refresh() {
    m_variant->setText(m_workbench.isApplying() ? tr("changing…") : m_workbench.runningTitle());
    m_variant->setAccessibleName(tr("Variant: %1").arg(m_variant->text()));
    const auto device = m_workbench.device();
    m_device->setText(!device                 ? tr("no device")
                      : device->kind == "cpu" ? tr("CPU")
                                              : QString::fromStdString(device->name)
                                                    .section(QLatin1Char('('), 0, 0)
                                                    .trimmed()
                                                    .left(24));
    m_device->setAccessibleName(tr("Device: %1").arg(m_device->text()));
    QStringList figures;
    if (const auto& used = m_workbench.usedLedger())
        figures << units::bytes(used->use.weights);
    const QualityReport* quality = m_workbench.quality(m_workbench.runningRecipe().hash());
    if (quality && quality->hasReference)
        figures << tr("KLD ×10⁻³ %1")
                       .arg(units::withError(quality->kldMean * 1e3, quality->kldError * 1e3));
    m_figures->setFullText(figures.join(QStringLiteral(" · ")));
    m_composer->setReady(m_workbench.isRunning() && !m_workbench.isApplying());
    refreshCount();
}

void ChatMode::find() {
    m_search->setFocus();
    m_search->selectAll();
}

void ChatMode::resetLayout() {
    m_sideWanted = true;
    m_side->show();
}

} // namespace nibble
