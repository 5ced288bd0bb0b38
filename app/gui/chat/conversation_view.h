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
    void wantsAgain();
    void wantsEdit();

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    QWidget* makeEmpty();
    std::vector<MessageView*> m_views;
    QVBoxLayout* m_column;
    QWidget* m_empty;
    bool m_follow = true;
};

} // namespace nibble
