#include "app/gui/chat/chat_list.h"

#include <QLocale>

#include <algorithm>

namespace nibble {

namespace {

constexpr int kSnippet = 40;

QString wholeText(const ChatRecord& chat) {
    QString text = chat.title;
    for (const ChatTurn& turn : chat.turns)
        text += QLatin1Char('\n') + turn.text;
    return text;
}

QString ago(const QDateTime& time) {
    const qint64 seconds = time.secsTo(QDateTime::currentDateTime());
    if (seconds < 90)
        return ChatList::tr("now");
    if (seconds < 3600)
        return ChatList::tr("%1 min ago").arg(seconds / 60);
    if (seconds < 24 * 3600)
        return ChatList::tr("%1 h ago").arg(seconds / 3600);
    return QLocale(QLocale::English).toString(time.date(), QStringLiteral("d MMM"));
}

} // namespace

void ChatList::setChats(std::vector<ChatRecord> chats) {
    m_chats = std::move(chats);
    refilter();
}

void ChatList::put(const ChatRecord& record) {
    const auto at = std::find_if(m_chats.begin(), m_chats.end(),
                                 [&](const auto& chat) { return chat.id == record.id; });
    if (at != m_chats.begin() || at == m_chats.end()) {
        if (at != m_chats.end())
            m_chats.erase(at);
        m_chats.insert(m_chats.begin(), record);
        refilter();
        return;
    }
    *at = record;
    const QModelIndex shown = indexOf(record.id);
    if (shown.isValid())
        emit dataChanged(shown, shown);
}

void ChatList::remove(const QString& id) {
    std::erase_if(m_chats, [&](const auto& chat) { return chat.id == id; });
    refilter();
}

void ChatList::search(const QString& text) {
    m_words = text.split(QLatin1Char(' '), Qt::SkipEmptyParts);
    refilter();
}

void ChatList::refilter() {
    beginResetModel();
    m_shown.clear();
    for (size_t i = 0; i < m_chats.size(); ++i) {
        const QString text = m_words.isEmpty() ? QString() : wholeText(m_chats[i]);
        if (std::all_of(m_words.begin(), m_words.end(), [&](const QString& word) {
                return text.contains(word, Qt::CaseInsensitive);
            }))
            m_shown.push_back(int(i));
    }
    endResetModel();
}

const ChatRecord* ChatList::find(const QString& id) const {
    for (const ChatRecord& chat : m_chats)
        if (chat.id == id)
            return &chat;
    return nullptr;
}

QModelIndex ChatList::indexOf(const QString& id) const {
    for (size_t row = 0; row < m_shown.size(); ++row)
        if (m_chats[size_t(m_shown[row])].id == id)
            return index(int(row), 0);
    return {};
}

int ChatList::rowCount(const QModelIndex& parent) const {
    return parent.isValid() ? 0 : int(m_shown.size());
}

QVariant ChatList::data(const QModelIndex& index, int role) const {
    if (!index.isValid() || size_t(index.row()) >= m_shown.size())
        return {};
    const ChatRecord& chat = m_chats[size_t(m_shown[size_t(index.row())])];
    switch (role) {
    case Qt::DisplayRole:
        return chat.title.isEmpty() ? tr("New chat") : chat.title;
    case IdRole:
        return chat.id;
    case DetailRole:
        return QStringLiteral("%1 · %2").arg(chat.variant.isEmpty() ? chat.modelName : chat.variant,
                                             ago(chat.changed));
    case HitRole: {
        if (m_words.isEmpty())
            return {};
        for (const ChatTurn& turn : chat.turns) {
            const auto at = turn.text.indexOf(m_words.front(), 0, Qt::CaseInsensitive);
            if (at >= 0)
                return QStringLiteral("…%1…").arg(
                    turn.text.mid(std::max<qsizetype>(0, at - 12), kSnippet).simplified());
        }
        return {};
    }
    case Qt::AccessibleTextRole:
        return QStringLiteral("%1, %2").arg(data(index, Qt::DisplayRole).toString(),
                                            data(index, DetailRole).toString());
    default:
        return {};
    }
}

} // namespace nibble
