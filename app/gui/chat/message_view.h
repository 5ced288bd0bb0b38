#pragma once

#include "app/gui/chat/chat_store.h"
#include "app/gui/widgets/parts.h"

class QTextBrowser;

namespace nibble {

/// Splits Markdown into text and fenced code blocks; an unfinished fence runs to the end.
struct MarkdownPart {
    bool code = false;
    QString language, text;
    friend bool operator==(const MarkdownPart&, const MarkdownPart&) = default;
};
std::vector<MarkdownPart> splitMarkdown(const QString& markdown);

/// Cuts long texts between paragraphs, always at the same places however much follows.
std::vector<MarkdownPart> splitLong(const std::vector<MarkdownPart>& parts);

class FlowText;

/// One turn of a conversation: a prompt at the right in the accent fill, or an answer at reading
/// width with code blocks and a quiet footer.
class MessageView : public QWidget {
    Q_OBJECT
public:
    MessageView(const ChatTurn& turn, QWidget* parent = nullptr);
    void setTurn(const ChatTurn& turn);
    const ChatTurn& turn() const { return m_turn; }
    /// The text wraps to whatever width there is; what it has now asks for nothing.
    QSize minimumSizeHint() const override;
    /// While an answer is written nothing is offered that would change the conversation.
    void setBusy(bool busy);

signals:
    void wantsAgain();
    void wantsEdit();
    void wantsBranch();
    void wantsWay(int place);

protected:
    void paintEvent(QPaintEvent* event) override;
    void resizeEvent(QResizeEvent* event) override;

private:
    void rebuild();
    void makeFooter();
    void restyle();
    void refreshFooter();
    QString figures() const;
    QWidget* makeCode(const MarkdownPart& part);
    int readingWidth() const;
    ChatTurn m_turn;
    bool m_isUser, m_busy = false;
    QWidget* m_bubble;
    QVBoxLayout* m_parts;
    std::vector<MarkdownPart> m_shown;
    std::vector<FlowText*> m_texts;
    QWidget* m_footer;
    Label *m_numbers, *m_place;
    QPushButton *m_copy, *m_again, *m_edit, *m_branch;
    QToolButton *m_earlier, *m_later;
};

} // namespace nibble
