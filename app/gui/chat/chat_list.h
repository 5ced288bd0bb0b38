#pragma once

#include "app/gui/chat/chat_store.h"

#include <QAbstractListModel>

namespace nibble {

/// Chats whose title or text has all words of the search, the newest first.
class ChatList : public QAbstractListModel {
    Q_OBJECT
public:
    enum Data { IdRole = Qt::UserRole, DetailRole, HitRole };
    using QAbstractListModel::QAbstractListModel;

    void setChats(std::vector<ChatRecord> chats);
    /// Adds or replaces one, and moves it to the top when it changed.
    void put(const ChatRecord& record);
    void remove(const QString& id);
    void search(const QString& text);
    const ChatRecord* find(const QString& id) const;
    QModelIndex indexOf(const QString& id) const;
    int total() const { return int(m_chats.size()); }

    int rowCount(const QModelIndex& parent = {}) const override;
    QVariant data(const QModelIndex& index, int role) const override;

private:
    void refilter();
    std::vector<ChatRecord> m_chats;
    std::vector<int> m_shown;
    QStringList m_words;
};

} // namespace nibble
