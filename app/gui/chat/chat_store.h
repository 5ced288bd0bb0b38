#pragma once

#include "app/gui/chat/chat_turn.h"

#include "core/serve/generate.h"

#include <QDateTime>
#include <QObject>
#include <QString>
#include <QThreadPool>

#include <functional>
#include <vector>

namespace nibble {

/// One conversation with all that is needed to go on with it.
struct ChatRecord {
    QString id, title, modelPath, modelName, variant;
    QString systemPrompt, templateName; ///< template: empty = the model's own
    GenerateOptions options;
    QDateTime changed;
    std::vector<ChatTurn> turns;
};

/// Conversations on disk: one zlib-compressed JSON file each, written atomically by one background
/// thread, in the order asked.
class ChatStore : public QObject {
    Q_OBJECT
public:
    /// "chats" in the application's data folder.
    static QString usualFolder();
    /// Empty folder = the usual one.
    explicit ChatStore(const QString& folder = {}, QObject* parent = nullptr);
    ~ChatStore() override;

    /// All that can be read, the newest first; a damaged file is skipped and named in problems.
    std::vector<ChatRecord> load(QStringList* problems = nullptr) const;
    /// Writes in the background; `saved` runs on this object's thread when the file is on disk (or
    /// could not be written: then with a sentence).
    void save(const ChatRecord& record, std::function<void(const QString& problem)> saved = {});
    void remove(const QString& id);
    /// Waits until everything is written.
    void flush();
    QString folder() const { return m_folder; }

    static QByteArray encode(const ChatRecord& record);
    static bool decode(const QByteArray& bytes, ChatRecord& record);

private:
    QString fileOf(const QString& id) const;
    QString m_folder;
    QThreadPool m_writer;
};

} // namespace nibble
