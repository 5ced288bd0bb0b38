#include "app/gui/chat/conversation_view.h"

#include "app/gui/chat/examples.h"

#include <QCoreApplication>
#include <QGridLayout>
#include <QScrollBar>
#include <QVBoxLayout>

#include <algorithm>

namespace nibble {

namespace {

constexpr int kEndSlack = 24;

} // namespace

ConversationView::ConversationView(QWidget* parent) : QScrollArea(parent), m_empty(makeEmpty()) {
    setWidgetResizable(true);
    setFrameShape(QFrame::NoFrame);
    setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    setAccessibleName(tr("Conversation"));
    auto* page = new QWidget;
    m_column = new QVBoxLayout(page);
    m_column->setSpacing(space::l());
    m_column->setContentsMargins(space::l(), space::l(), space::l(), space::l());
    m_column->addWidget(m_empty);
    m_column->addStretch(1);
    setWidget(page);
    viewport()->setAutoFillBackground(false);
    page->setAutoFillBackground(false);
    connect(verticalScrollBar(), &QScrollBar::rangeChanged, this, [this] {
        if (m_follow)
            scrollToEnd();
    });
    connect(verticalScrollBar(), &QScrollBar::actionTriggered, this, [this] {
        QMetaObject::invokeMethod(
            this, [this] { m_follow = atEnd(); }, Qt::QueuedConnection);
    });
    connect(verticalScrollBar(), &QScrollBar::valueChanged, this, [this] {
        // The wheel moves the bar without an action.
        if (verticalScrollBar()->value() < verticalScrollBar()->maximum() - kEndSlack)
            m_follow = false;
        else
            m_follow = true;
    });
}

QWidget* ConversationView::makeEmpty() {
    auto* empty = new QWidget;
    auto* layout = new QVBoxLayout(empty);
    layout->setSpacing(space::m());
    layout->addSpacing(space::xl());
    layout->addWidget(new Label(tr("Write a prompt below, or begin with one of these."), Type::Body,
                                Ink::SecondaryText),
                      0, Qt::AlignHCenter);
    auto* grid = new QGridLayout;
    grid->setSpacing(space::s());
    int i = 0;
    for (const ExamplePrompt& example : examplePrompts()) {
        auto* button = makeButton(QCoreApplication::translate("Examples", example.title));
        const QString prompt = QCoreApplication::translate("Examples", example.prompt);
        button->setToolTip(prompt);
        connect(button, &QPushButton::clicked, this,
                [this, prompt] { emit examplePicked(prompt); });
        grid->addWidget(button, i / 2, i % 2);
        ++i;
    }
    auto* holder = new QWidget;
    holder->setMaximumWidth(Theme::get().px(520));
    holder->setLayout(grid);
    layout->addWidget(holder, 0, Qt::AlignHCenter);
    return empty;
}

void ConversationView::setTurns(const std::vector<ChatTurn>& turns) {
    while (m_views.size() > turns.size()) {
        m_views.back()->hide();
        m_views.back()->deleteLater();
        m_views.pop_back();
    }
    for (size_t i = 0; i < turns.size(); ++i) {
        if (i < m_views.size() && m_views[i]->turn().role != turns[i].role) {
            m_views[i]->hide();
            m_column->removeWidget(m_views[i]);
            m_views[i]->deleteLater();
            m_views.erase(m_views.begin() + long(i));
        }
        if (i < m_views.size()) {
            m_views[i]->setTurn(turns[i]);
            continue;
        }
        MessageView* view = makeView(turns[i]);
        m_column->insertWidget(m_column->count() - 1, view);
        m_views.push_back(view);
    }
    const bool busy = !turns.empty() && !turns.back().finished;
    for (MessageView* view : m_views)
        view->setBusy(busy);
    m_empty->setVisible(turns.empty());
}

MessageView* ConversationView::makeView(const ChatTurn& turn) {
    auto* view = new MessageView(turn);
    const auto number = [this, view] {
        return int(std::find(m_views.begin(), m_views.end(), view) - m_views.begin());
    };
    connect(view, &MessageView::wantsAgain, this, [this, number] { emit wantsAgain(number()); });
    connect(view, &MessageView::wantsEdit, this, [this, number] { emit wantsEdit(number()); });
    connect(view, &MessageView::wantsBranch, this, [this, number] { emit wantsBranch(number()); });
    connect(view, &MessageView::wantsWay, this,
            [this, number](int place) { emit wantsWay(number(), place); });
    return view;
}

bool ConversationView::atEnd() const {
    return verticalScrollBar()->value() >= verticalScrollBar()->maximum() - kEndSlack;
}

void ConversationView::scrollToEnd() {
    m_follow = true;
    verticalScrollBar()->setValue(verticalScrollBar()->maximum());
}

void ConversationView::resizeEvent(QResizeEvent* event) {
    const bool follow = m_follow;
    QScrollArea::resizeEvent(event);
    if (follow)
        scrollToEnd();
}

} // namespace nibble
