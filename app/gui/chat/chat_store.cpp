#include "app/gui/chat/chat_store.h"

#include "core/base/atomic_file.h"
#include "core/base/error.h"

#include <QDir>
#include <QFile>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QStandardPaths>

#include <algorithm>

namespace nibble {

namespace {

constexpr qint64 kLargestFile = 64 << 20;

/// Ways inside ways; a file that goes deeper was not written by us.
constexpr int kDeepest = 200;

QJsonArray toJson(const std::vector<ChatTurn>& turns);

QJsonObject toJson(const ChatTurn& turn) {
    QJsonObject o{{QStringLiteral("role"), turn.role}, {QStringLiteral("text"), turn.text}};
    if (!turn.others.empty()) {
        QJsonArray others;
        for (const auto& way : turn.others)
            others.append(toJson(way));
        o[QStringLiteral("others")] = others;
        o[QStringLiteral("place")] = turn.place;
    }
    if (turn.isPrompt())
        return o;
    o[QStringLiteral("variant")] = turn.variant;
    o[QStringLiteral("device")] = turn.device;
    o[QStringLiteral("tokens")] = turn.tokens;
    o[QStringLiteral("tokens_per_second")] = turn.tokensPerSecond;
    o[QStringLiteral("first_token_ms")] = turn.firstTokenMs;
    o[QStringLiteral("seed")] = QString::number(turn.seed);
    o[QStringLiteral("ending")] = turn.ending;
    o[QStringLiteral("finished")] = turn.finished;
    return o;
}

QJsonArray toJson(const std::vector<ChatTurn>& turns) {
    QJsonArray array;
    for (const ChatTurn& turn : turns)
        array.append(toJson(turn));
    return array;
}

std::vector<ChatTurn> turnsFrom(const QJsonArray& array, int depth);

ChatTurn turnFrom(const QJsonObject& o, int depth) {
    ChatTurn turn;
    turn.role = o[QStringLiteral("role")].toString();
    turn.text = o[QStringLiteral("text")].toString();
    turn.variant = o[QStringLiteral("variant")].toString();
    turn.device = o[QStringLiteral("device")].toString();
    turn.tokens = o[QStringLiteral("tokens")].toInt();
    turn.tokensPerSecond = o[QStringLiteral("tokens_per_second")].toDouble();
    turn.firstTokenMs = o[QStringLiteral("first_token_ms")].toDouble();
    turn.seed = o[QStringLiteral("seed")].toString().toULongLong();
    turn.ending = o[QStringLiteral("ending")].toString();
    turn.finished = o[QStringLiteral("finished")].toBool(true);
    if (depth < kDeepest)
        for (const QJsonValue& way : o[QStringLiteral("others")].toArray())
            if (auto turns = turnsFrom(way.toArray(), depth + 1); !turns.empty())
                turn.others.push_back(std::move(turns));
    turn.place = std::clamp(o[QStringLiteral("place")].toInt(), 0, int(turn.others.size()));
    return turn;
}

std::vector<ChatTurn> turnsFrom(const QJsonArray& array, int depth) {
    std::vector<ChatTurn> turns;
    for (const QJsonValue& turn : array)
        turns.push_back(turnFrom(turn.toObject(), depth));
    return turns;
}

} // namespace

QString ChatStore::usualFolder() {
    return QStandardPaths::writableLocation(QStandardPaths::AppDataLocation) +
           QStringLiteral("/chats");
}

ChatStore::ChatStore(const QString& folder, QObject* parent)
    : QObject(parent), m_folder(folder.isEmpty() ? usualFolder() : folder) {
    m_writer.setMaxThreadCount(1);
}

ChatStore::~ChatStore() {
    flush();
}

QString ChatStore::fileOf(const QString& id) const {
    return QStringLiteral("%1/%2.chat").arg(m_folder, id);
}

QByteArray ChatStore::encode(const ChatRecord& record) {
    const SamplerOptions& s = record.options.sampler;
    const QJsonObject o{
        {QStringLiteral("version"), 1},
        {QStringLiteral("id"), record.id},
        {QStringLiteral("title"), record.title},
        {QStringLiteral("model_path"), record.modelPath},
        {QStringLiteral("model_name"), record.modelName},
        {QStringLiteral("variant"), record.variant},
        {QStringLiteral("system_prompt"), record.systemPrompt},
        {QStringLiteral("template"), record.templateName},
        {QStringLiteral("changed"), record.changed.toUTC().toString(Qt::ISODateWithMs)},
        {QStringLiteral("temperature"), s.temperature},
        {QStringLiteral("top_k"), s.topK},
        {QStringLiteral("top_p"), s.topP},
        {QStringLiteral("min_p"), s.minP},
        {QStringLiteral("repeat_penalty"), s.repeatPenalty},
        {QStringLiteral("seed"), QString::number(s.seed)},
        {QStringLiteral("max_tokens"), record.options.maxTokens},
        {QStringLiteral("turns"), toJson(record.turns)},
    };
    return qCompress(QJsonDocument(o).toJson(QJsonDocument::Compact));
}

bool ChatStore::decode(const QByteArray& bytes, ChatRecord& record) {
    // qCompress puts the size in front; a damaged one must not make us allocate gigabytes.
    if (bytes.size() < 5)
        return false;
    const auto byte = [&](int i) { return quint32(uchar(bytes[i])); };
    if ((byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3)) > quint32(kLargestFile))
        return false;
    const QJsonObject o = QJsonDocument::fromJson(qUncompress(bytes)).object();
    record.id = o[QStringLiteral("id")].toString();
    if (record.id.isEmpty())
        return false;
    record.title = o[QStringLiteral("title")].toString();
    record.modelPath = o[QStringLiteral("model_path")].toString();
    record.modelName = o[QStringLiteral("model_name")].toString();
    record.variant = o[QStringLiteral("variant")].toString();
    record.systemPrompt = o[QStringLiteral("system_prompt")].toString();
    record.templateName = o[QStringLiteral("template")].toString();
    record.changed =
        QDateTime::fromString(o[QStringLiteral("changed")].toString(), Qt::ISODate).toLocalTime();
    SamplerOptions& s = record.options.sampler;
    s.temperature = o[QStringLiteral("temperature")].toDouble(s.temperature);
    s.topK = o[QStringLiteral("top_k")].toInt(s.topK);
    s.topP = o[QStringLiteral("top_p")].toDouble(s.topP);
    s.minP = o[QStringLiteral("min_p")].toDouble(s.minP);
    s.repeatPenalty = o[QStringLiteral("repeat_penalty")].toDouble(s.repeatPenalty);
    s.seed = o[QStringLiteral("seed")].toString().toULongLong();
    record.options.maxTokens = o[QStringLiteral("max_tokens")].toInt(record.options.maxTokens);
    record.turns = turnsFrom(o[QStringLiteral("turns")].toArray(), 0);
    return true;
}

std::vector<ChatRecord> ChatStore::load(QStringList* problems) const {
    std::vector<ChatRecord> records;
    for (const QFileInfo& info :
         QDir(m_folder).entryInfoList({QStringLiteral("*.chat")}, QDir::Files)) {
        QFile file(info.filePath());
        ChatRecord record;
        if (info.size() <= kLargestFile && file.open(QIODevice::ReadOnly) &&
            decode(file.readAll(), record))
            records.push_back(std::move(record));
        else if (problems)
            *problems
                << tr("The chat %1 cannot be read; the file is damaged. It was left as it is.")
                       .arg(info.fileName());
    }
    std::sort(records.begin(), records.end(),
              [](const auto& a, const auto& b) { return a.changed > b.changed; });
    return records;
}

void ChatStore::save(const ChatRecord& record, std::function<void(const QString&)> saved) {
    m_writer.start([this, path = fileOf(record.id), bytes = encode(record), saved] {
        QString problem;
        try {
            if (!QDir().mkpath(m_folder))
                fail(ErrorKind::CannotWrite, "The folder {} cannot be made.",
                     m_folder.toStdString());
            writeFileAtomically(path.toStdString(),
                                std::string_view(bytes.constData(), size_t(bytes.size())));
        } catch (const std::exception& error) {
            problem = QString::fromStdString(error.what());
        }
        if (saved)
            QMetaObject::invokeMethod(
                this, [saved, problem] { saved(problem); }, Qt::QueuedConnection);
    });
}

void ChatStore::remove(const QString& id) {
    m_writer.start([path = fileOf(id)] { QFile::remove(path); });
}

void ChatStore::flush() {
    m_writer.waitForDone();
}

} // namespace nibble
