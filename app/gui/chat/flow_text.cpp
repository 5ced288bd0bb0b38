#include "app/gui/chat/flow_text.h"

#include "app/gui/theme.h"

#include <QScrollBar>
#include <QTextBlock>
#include <QWheelEvent>

#include <cmath>

namespace nibble {

namespace {

constexpr double kLineHeight = 125; // per cent

} // namespace

FlowText::FlowText(Look look, QWidget* parent) : QTextBrowser(parent), m_look(look) {
    setFrameShape(QFrame::NoFrame);
    setVerticalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    setHorizontalScrollBarPolicy(look == Look::Code ? Qt::ScrollBarAsNeeded
                                                    : Qt::ScrollBarAlwaysOff);
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
    setOpenLinks(false);
    setOpenExternalLinks(false);
    setTextInteractionFlags(Qt::TextSelectableByMouse | Qt::TextSelectableByKeyboard);
    setLineWrapMode(look == Look::Code ? QTextEdit::NoWrap : QTextEdit::WidgetWidth);
    document()->setDocumentMargin(0);
    viewport()->setAutoFillBackground(false);
    setAccessibleName(look == Look::Code ? tr("Code") : tr("Text of the message"));
    connect(&Theme::get(), &Theme::changed, this, &FlowText::restyle);
    restyle();
}

void FlowText::restyle() {
    const Theme& theme = Theme::get();
    const QFont font = theme.font(m_look == Look::Code ? Type::Mono : Type::Body);
    setFont(font);
    document()->setDefaultFont(font);
    QPalette p = theme.palette();
    p.setColor(QPalette::Base, Qt::transparent);
    setPalette(p);
    setSource(m_source);
}

void FlowText::setSource(const QString& text) {
    m_source = text;
    if (m_look != Look::Markdown) {
        setPlainText(text);
    } else {
        setMarkdown(text);
        // Qt draws inline code in the body's font; give it the fixed one and the code colour.
        const Theme& theme = Theme::get();
        for (QTextBlock block = document()->begin(); block.isValid(); block = block.next()) {
            for (auto it = block.begin(); !it.atEnd(); ++it) {
                const QTextFragment fragment = it.fragment();
                if (!fragment.charFormat().fontFixedPitch())
                    continue;
                QTextCursor cursor(document());
                cursor.setPosition(fragment.position());
                cursor.setPosition(fragment.position() + fragment.length(),
                                   QTextCursor::KeepAnchor);
                QTextCharFormat format;
                format.setFont(theme.font(Type::Mono));
                format.setBackground(theme.ink(Ink::CodeBlock));
                cursor.mergeCharFormat(format);
            }
        }
    }
    if (m_look != Look::Code) {
        QTextCursor all(document());
        all.select(QTextCursor::Document);
        QTextBlockFormat roomy;
        roomy.setLineHeight(kLineHeight, QTextBlockFormat::ProportionalHeight);
        all.mergeBlockFormat(roomy);
    }
    fit();
}

int FlowText::idealWidth(int most) const {
    return std::min(most, int(std::ceil(document()->idealWidth())) + 4);
}

QVariant FlowText::loadResource(int, const QUrl&) {
    return {};
}

void FlowText::fit() {
    if (m_look != Look::Code)
        document()->setTextWidth(std::max(40, viewport()->width()));
    int height = int(std::ceil(document()->size().height()));
    if (m_look == Look::Code && document()->idealWidth() > viewport()->width())
        height += horizontalScrollBar()->sizeHint().height();
    if (height != minimumHeight())
        setFixedHeight(std::max(height, fontMetrics().height()));
}

QSize FlowText::sizeHint() const {
    return {idealWidth(1 << 14), minimumHeight()};
}

QSize FlowText::minimumSizeHint() const {
    return {40, minimumHeight()};
}

void FlowText::resizeEvent(QResizeEvent* event) {
    QTextBrowser::resizeEvent(event);
    fit();
}

void FlowText::wheelEvent(QWheelEvent* event) {
    if (m_look == Look::Code && event->angleDelta().x() != 0)
        QTextBrowser::wheelEvent(event);
    else
        event->ignore();
}

} // namespace nibble
