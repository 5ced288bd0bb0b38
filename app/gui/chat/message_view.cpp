#include "app/gui/chat/message_view.h"

#include "app/gui/chat/flow_text.h"
#include "app/gui/theme_style.h"
#include "app/gui/units.h"

#include <QApplication>
#include <QClipboard>
#include <QHBoxLayout>
#include <QPainter>
#include <QVBoxLayout>

namespace nibble {

namespace {

constexpr int kReadingCharacters = 76;
constexpr qsizetype kPiece = 1200; ///< characters after which a long answer is cut into pieces

} // namespace

std::vector<MarkdownPart> splitMarkdown(const QString& markdown) {
    std::vector<MarkdownPart> parts;
    MarkdownPart part;
    const auto flush = [&] {
        while (part.text.endsWith(QLatin1Char('\n')))
            part.text.chop(1);
        if (part.code || !part.text.trimmed().isEmpty())
            parts.push_back(part);
        part = {};
    };
    for (const QString& line : markdown.split(QLatin1Char('\n'))) {
        const QString bare = line.trimmed();
        if (bare.startsWith(QLatin1String("```"))) {
            const bool closes = part.code;
            flush();
            if (!closes) {
                part.code = true;
                part.language = bare.mid(3).trimmed().left(24);
            }
            continue;
        }
        part.text += line + QLatin1Char('\n');
    }
    flush();
    return parts;
}

MessageView::MessageView(const ChatTurn& turn, QWidget* parent)
    : QWidget(parent), m_turn(turn), m_isUser(turn.role == QLatin1String("user")),
      m_bubble(new QWidget), m_footer(new QWidget),
      m_numbers(new Label({}, Type::Footnote, Ink::SecondaryText)),
      m_place(new Label({}, Type::Footnote, Ink::SecondaryText)),
      m_copy(makeButton(tr("Copy"), ButtonKind::Quiet, QStringLiteral("copy"))),
      m_again(makeButton(tr("Again"), ButtonKind::Quiet, QStringLiteral("again"))),
      m_edit(makeButton(tr("Edit"), ButtonKind::Quiet, QStringLiteral("edit"))),
      m_branch(makeButton(tr("Branch"), ButtonKind::Quiet, QStringLiteral("branch"))),
      m_earlier(makeIconButton(QStringLiteral("chevron-left"),
                               m_isUser ? tr("Earlier prompt") : tr("Earlier answer"))),
      m_later(makeIconButton(QStringLiteral("chevron-right"),
                             m_isUser ? tr("Later prompt") : tr("Later answer"))) {
    auto* outer = new QVBoxLayout(this);
    outer->setContentsMargins(0, 0, 0, 0);
    outer->setSpacing(space::xs());
    auto* row = new QHBoxLayout;
    m_parts = new QVBoxLayout(m_bubble);
    m_parts->setSpacing(space::s());
    const int pad = m_isUser ? Theme::get().px(11) : 0;
    m_parts->setContentsMargins(pad, m_isUser ? space::s() : 0, pad, m_isUser ? space::s() : 0);
    if (m_isUser) {
        row->addStretch();
        row->addWidget(m_bubble);
    } else {
        row->addWidget(m_bubble);
        row->addStretch();
    }
    outer->addLayout(row);
    makeFooter();
    outer->addWidget(m_footer);
    setAccessibleName(m_isUser ? tr("Your prompt") : tr("Answer"));
    connect(&Theme::get(), &Theme::changed, this, &MessageView::restyle);
    restyle();
    rebuild();
}

/// The numbers, and below them what can be done.
void MessageView::makeFooter() {
    auto* lines = new QVBoxLayout(m_footer);
    lines->setContentsMargins(0, 0, 0, 0);
    lines->setSpacing(0);
    m_numbers->setVisible(!m_isUser);
    m_numbers->setWordWrap(true);
    lines->addWidget(m_numbers);
    auto* foot = new QHBoxLayout;
    foot->setSpacing(0);
    lines->addLayout(foot);
    if (m_isUser)
        foot->addStretch();
    for (QPushButton* button : {m_copy, m_again, m_edit, m_branch})
        foot->addWidget(button);
    m_branch->setToolTip(tr("Goes on from here in a new chat; this one stays as it is"));
    m_again->setToolTip(tr("Another answer; this one is kept (Ctrl+R for the last)"));
    for (QWidget* widget : std::initializer_list<QWidget*>{m_earlier, m_place, m_later})
        foot->addWidget(widget);
    if (!m_isUser)
        foot->addStretch();
    connect(m_copy, &QPushButton::clicked, this,
            [this] { QApplication::clipboard()->setText(m_turn.text); });
    connect(m_again, &QPushButton::clicked, this, &MessageView::wantsAgain);
    connect(m_edit, &QPushButton::clicked, this, &MessageView::wantsEdit);
    connect(m_branch, &QPushButton::clicked, this, &MessageView::wantsBranch);
    connect(m_earlier, &QToolButton::clicked, this, [this] { emit wantsWay(m_turn.place - 1); });
    connect(m_later, &QToolButton::clicked, this, [this] { emit wantsWay(m_turn.place + 1); });
}

void MessageView::restyle() {
    for (QPushButton* button : {m_copy, m_again, m_edit, m_branch})
        button->setFont(Theme::get().font(Type::Footnote));
    resizeEvent(nullptr);
    update();
}

void MessageView::setTurn(const ChatTurn& turn) {
    m_turn = turn;
    rebuild();
}

void MessageView::setBusy(bool busy) {
    if (busy == m_busy)
        return;
    m_busy = busy;
    refreshFooter();
}

QSize MessageView::minimumSizeHint() const {
    return {Theme::get().px(160), QWidget::minimumSizeHint().height()};
}

int MessageView::readingWidth() const {
    return std::min(width(), fontMetrics().averageCharWidth() * (kReadingCharacters + 8));
}

QWidget* MessageView::makeCode(const MarkdownPart& part) {
    auto* box = new Panel;
    box->setFill(Ink::CodeBlock);
    box->body()->setContentsMargins(space::m(), space::xs(), space::s(), space::s());
    box->body()->setSpacing(space::xs());
    box->header()->addWidget(new Label(part.language.isEmpty() ? tr("code") : part.language,
                                       Type::Footnote, Ink::SecondaryText),
                             1);
    auto* copy = makeButton(tr("Copy"), ButtonKind::Quiet, QStringLiteral("copy"));
    copy->setAccessibleName(tr("Copy this code"));
    box->header()->addWidget(copy);
    auto* text = new FlowText(FlowText::Look::Code);
    text->setSource(part.text);
    connect(copy, &QPushButton::clicked, text,
            [text] { QApplication::clipboard()->setText(text->toPlainText()); });
    box->body()->addWidget(text);
    m_texts.push_back(text);
    return box;
}

std::vector<MarkdownPart> splitLong(const std::vector<MarkdownPart>& parts) {
    std::vector<MarkdownPart> pieces;
    for (const MarkdownPart& part : parts) {
        qsizetype from = 0, at = 0;
        while (!part.code && (at = part.text.indexOf(QLatin1String("\n\n"), at)) >= 0) {
            at += 2;
            // Only where a plain paragraph begins: lists, tables and quotes go on over blank lines.
            if (at - from < kPiece || at >= part.text.size() || !part.text[at].isLetter())
                continue;
            pieces.push_back({false, {}, part.text.mid(from, at - 2 - from)});
            from = at;
        }
        pieces.push_back({part.code, part.language, part.text.mid(from)});
    }
    return pieces;
}

/// While an answer is written only its end changes: what stands before is neither parsed nor laid
/// out again.
void MessageView::rebuild() {
    const auto parts = m_isUser ? std::vector<MarkdownPart>{{false, {}, m_turn.text}}
                                : splitLong(splitMarkdown(m_turn.text));
    size_t kept = 0;
    while (kept < std::min(parts.size(), m_shown.size()) &&
           parts[kept].code == m_shown[kept].code &&
           parts[kept].language == m_shown[kept].language) {
        if (parts[kept] != m_shown[kept])
            m_texts[kept]->setSource(parts[kept].text);
        ++kept;
    }
    while (m_parts->count() > int(kept)) {
        QLayoutItem* item = m_parts->takeAt(m_parts->count() - 1);
        item->widget()->hide();
        item->widget()->deleteLater();
        delete item;
    }
    m_texts.resize(kept);
    const bool grew = parts.size() > kept;
    for (size_t i = kept; i < parts.size(); ++i) {
        if (parts[i].code) {
            m_parts->addWidget(makeCode(parts[i]));
            continue;
        }
        auto* text = new FlowText(m_isUser ? FlowText::Look::Plain : FlowText::Look::Markdown);
        text->setSource(parts[i].text);
        m_texts.push_back(text);
        m_parts->addWidget(text);
    }
    m_shown = parts;
    if (m_isUser || grew)
        resizeEvent(nullptr);
    refreshFooter();
}

QString MessageView::figures() const {
    if (m_isUser)
        return {};
    if (!m_turn.finished)
        return tr("writing");
    QStringList words{tr("%n tokens", nullptr, m_turn.tokens),
                      tr("%1 tokens/s").arg(units::number(m_turn.tokensPerSecond)),
                      tr("first token %1 ms").arg(units::number(m_turn.firstTokenMs)),
                      tr("seed %1").arg(m_turn.seed)};
    for (const QString& word : {m_turn.variant, m_turn.device, m_turn.ending})
        if (!word.isEmpty())
            words << word;
    return words.join(QStringLiteral("  ·  "));
}

void MessageView::refreshFooter() {
    const bool still = m_turn.finished && !m_busy;
    const bool several = m_turn.ways() > 1;
    m_numbers->setText(figures());
    m_numbers->setInk(m_turn.finished ? Ink::SecondaryText : Ink::Accent);
    m_copy->setVisible(m_turn.finished && !m_isUser);
    m_again->setVisible(still && !m_isUser);
    m_branch->setVisible(still && !m_isUser);
    m_edit->setVisible(still && m_isUser);
    for (QWidget* widget : std::initializer_list<QWidget*>{m_earlier, m_place, m_later})
        widget->setVisible(several && still);
    m_place->setText(QStringLiteral("%1/%2").arg(m_turn.place + 1).arg(m_turn.ways()));
    m_place->setAccessibleName(tr("%1 of %2").arg(m_turn.place + 1).arg(m_turn.ways()));
    m_earlier->setEnabled(m_turn.place > 0);
    m_later->setEnabled(m_turn.place + 1 < m_turn.ways());
    m_footer->setVisible(!m_isUser || still);
}

void MessageView::resizeEvent(QResizeEvent*) {
    if (!m_isUser) {
        m_bubble->setFixedWidth(std::max(80, readingWidth()));
        return;
    }
    const int most =
        std::max(80, std::min(readingWidth(), width() * 3 / 4)) - 2 * Theme::get().px(11);
    int wanted = 40;
    for (FlowText* text : m_texts) {
        text->document()->setTextWidth(-1);
        wanted = std::max(wanted, text->idealWidth(most));
    }
    m_bubble->setFixedWidth(wanted + 2 * Theme::get().px(11));
    for (FlowText* text : m_texts)
        text->document()->setTextWidth(wanted);
}

void MessageView::paintEvent(QPaintEvent*) {
    if (!m_isUser)
        return;
    QPainter painter(this);
    drawBox(&painter, m_bubble->geometry(), Theme::get().ink(Ink::AccentFill), Qt::transparent,
            Theme::get().px(6));
}

} // namespace nibble
