#pragma once

#include "app/gui/chat/message_view.h"

#include <QScrollArea>

namespace nibble {

/// The turns of one chat, one under the other; it follows the end only while the reader is there.
class ConversationView : public QScrollArea {
    Q_OBJECT
public:
    explicit ConversationView(QWidget* parent = nullptr);
    /// Shows a chat; views of turns that did not change are kept.
    void setTurns(const std::vector<ChatTurn>& turns);
    void scrollToEnd();
    bool atEnd() const;

signals:
    void examplePicked(const QString& prompt);
    // Of the turn with that number:
    void wantsAgain(int turn);
    void wantsEdit(int turn);
    void wantsBranch(int turn);
    void wantsWay(int turn, int place);

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    QWidget* makeEmpty();
    MessageView* makeView(const ChatTurn& turn);
    std::vector<MessageView*> m_views;
    QVBoxLayout* m_column;
    QWidget* m_empty;
    bool m_follow = true;
};

} // namespace nibble
