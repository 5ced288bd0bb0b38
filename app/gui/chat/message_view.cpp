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
      m_copy(makeButton(tr("Copy"), ButtonKind::Quiet, QStringLiteral("copy"))),
      m_again(makeButton(tr("Again"), ButtonKind::Quiet, QStringLiteral("again"))),
      m_edit(makeButton(tr("Edit"), ButtonKind::Quiet, QStringLiteral("edit"))) {
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
    auto* foot = new QHBoxLayout(m_footer);
    foot->setContentsMargins(0, 0, 0, 0);
    foot->setSpacing(space::xs());
    if (m_isUser)
        foot->addStretch();
    m_numbers->setVisible(!m_isUser);
    foot->addWidget(m_numbers);
    foot->addSpacing(m_isUser ? 0 : space::s());
    for (QPushButton* button : {m_copy, m_again, m_edit}) {
        button->setFont(Theme::get().font(Type::Footnote));
        foot->addWidget(button);
    }
    if (!m_isUser)
        foot->addStretch();
    m_again->setVisible(false);
    m_edit->setVisible(false);
    outer->addWidget(m_footer);
    setAccessibleName(m_isUser ? tr("Your prompt") : tr("Answer"));
    connect(m_copy, &QPushButton::clicked, this,
            [this] { QApplication::clipboard()->setText(m_turn.text); });
    connect(m_again, &QPushButton::clicked, this, &MessageView::wantsAgain);
    connect(m_edit, &QPushButton::clicked, this, &MessageView::wantsEdit);
    connect(&Theme::get(), &Theme::changed, this, qOverload<>(&QWidget::update));
    rebuild();
}

void MessageView::setTurn(const ChatTurn& turn) {
    m_turn = turn;
    rebuild();
}

void MessageView::setLast(bool last) {
    m_last = last;
    refreshFooter();
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

void MessageView::rebuild() {
    const auto parts =
        m_isUser ? std::vector<MarkdownPart>{{false, {}, m_turn.text}} : splitMarkdown(m_turn.text);
    const auto sameKinds = [&] {
        if (parts.size() != m_shown.size() || parts.size() != m_texts.size())
            return false;
        for (size_t i = 0; i < parts.size(); ++i)
            if (parts[i].code != m_shown[i].code || parts[i].language != m_shown[i].language)
                return false;
        return true;
    };
    if (sameKinds()) { // while streaming only the last part changes
        for (size_t i = 0; i < parts.size(); ++i)
            if (parts[i] != m_shown[i])
                m_texts[i]->setSource(parts[i].text);
    } else {
        clearLayout(m_parts);
        m_texts.clear();
        for (const MarkdownPart& part : parts) {
            if (part.code) {
                m_parts->addWidget(makeCode(part));
                continue;
            }
            auto* text = new FlowText(m_isUser ? FlowText::Look::Plain : FlowText::Look::Markdown);
            text->setSource(part.text);
            m_texts.push_back(text);
            m_parts->addWidget(text);
        }
    }
    m_shown = parts;
    resizeEvent(nullptr);
    refreshFooter();
}

void MessageView::refreshFooter() {
    if (m_isUser) {
        m_copy->setVisible(false);
        m_edit->setVisible(m_last);
        m_footer->setVisible(m_last);
        return;
    }
    QStringList words;
    if (!m_turn.finished) {
        words << tr("writing");
    } else {
        words << tr("%n tokens", nullptr, m_turn.tokens);
        words << tr("%1 tokens/s").arg(units::number(m_turn.tokensPerSecond));
        words << tr("first token %1 ms").arg(units::number(m_turn.firstTokenMs));
        words << tr("seed %1").arg(m_turn.seed);
        if (!m_turn.variant.isEmpty())
            words << m_turn.variant;
        if (!m_turn.ending.isEmpty())
            words << m_turn.ending;
    }
    m_numbers->setText(words.join(QStringLiteral("   ")));
    m_numbers->setInk(m_turn.finished ? Ink::SecondaryText : Ink::Accent);
    m_copy->setVisible(m_turn.finished);
    m_again->setVisible(m_turn.finished && m_last);
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
