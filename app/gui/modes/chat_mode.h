#pragma once

#include "app/gui/chat/chat_list.h"
#include "app/gui/chat/composer.h"
#include "app/gui/chat/conversation_view.h"
#include "app/gui/modes/mode.h"
#include "app/gui/workbench.h"

#include <QTimer>

class QLineEdit;
class QListView;

namespace nibble {

/// Chats with the running variant. A turn is on disk before its answer is asked for, and again as
/// the answer grows.
class ChatMode : public Mode {
    Q_OBJECT
public:
    ChatMode(Workbench& workbench, QWidget* parent);
    void focusStart() override;
    void find() override;
    void resetLayout() override;
    bool perform(const QString& command) override;
    void showProblem(const QString& sentence) override;

    const ChatRecord& chat() const { return m_chat; }
    Composer* composer() { return m_composer; }
    ConversationView* conversation() { return m_view; }
    /// Waits until every chat is on disk.
    void flush() { m_store.flush(); }

public slots:
    void newChat();
    void sendPrompt();
    /// Another answer in the place of the last; the one that stands there is kept.
    void again() { askAgain(int(m_chat.turns.size()) - 1); }
    void askAgain(int turn);
    /// Takes a prompt back into the field; sent, it is another way of that turn.
    void edit(int turn);
    void editLast();
    void cancelEdit();
    /// A new chat with the turns up to this one.
    void branch(int turn);
    void showOther(int turn, int place);
    void stop() { m_workbench.stopAnswer(); }

protected:
    void keyPressEvent(QKeyEvent* event) override;
    void resizeEvent(QResizeEvent* event) override;

private:
    QWidget* makeSide();
    QWidget* makeMain();
    void openChat(const QString& id);
    void removeChat(const QString& id);
    bool isBusy() const { return m_waiting || m_request != 0; }
    ChatTurn emptyAnswer() const;
    /// Has the last turn answered: the chat is saved, then the answer is asked for.
    void ask();
    void draw();
    void save();
    void finish(const ChatTurn& turn);
    void refresh();
    void warn();
    void refreshCount();
    /// Picks a template as one undoable step.
    void pickTemplate(const QString& name);
    void setTemplate(const QString& chat, const QString& name);
    /// Looks what template is in use, and says where it may not fit the model.
    void checkTemplate();

    Workbench& m_workbench;
    ChatStore m_store;
    ChatList* m_list;
    ChatRecord m_chat;
    QWidget* m_side;
    QLineEdit* m_search;
    QListView* m_chats;
    Banner* m_banner;
    QPushButton *m_variant, *m_device;
    ElidedLabel* m_figures;
    ConversationView* m_view;
    Composer* m_composer;
    quint64 m_request = 0;
    QString m_warned;               ///< of the open model, in the banner
    std::vector<ChatTurn> m_edited; ///< the turns from the edited prompt on, while it is edited
    bool m_waiting = false, m_sideWanted = true;
    QString m_templateNote; ///< what the banner says of the template
    QTimer m_drawTimer, m_saveTimer, m_countTimer;
};

} // namespace nibble
