#include "app/gui/models/found_models.h"

#include <QDir>
#include <QFileInfo>

#include <map>

namespace nibble {

namespace {

constexpr int kDeepest = 6, kMost = 500;

/// The block type that holds most of the values, and what it runs as.
QString mainType(const Checkpoint& checkpoint) {
    std::map<QString, int64_t> values;
    for (const TensorInfo& tensor : checkpoint.tensors)
        values[QString::fromStdString(tensor.storedText())] += tensor.values();
    QString best;
    for (const auto& [name, count] : values)
        if (best.isEmpty() || count > values[best])
            best = name;
    return best;
}

void search(const QString& folder, int depth, QStringList& found, const Progress& progress) {
    progress.check();
    if (depth > kDeepest || found.size() >= kMost)
        return;
    const QDir dir(folder);
    if (dir.exists(QStringLiteral("config.json")) &&
        !dir.entryList({QStringLiteral("*.safetensors")}, QDir::Files).isEmpty()) {
        found << folder;
        return;
    }
    for (const QFileInfo& entry :
         dir.entryInfoList(QDir::Files | QDir::Dirs | QDir::NoDotAndDotDot | QDir::Readable)) {
        if (entry.isDir() && !entry.isSymLink())
            search(entry.filePath(), depth + 1, found, progress);
        else if (entry.isFile() &&
                 entry.suffix().compare(QLatin1String("gguf"), Qt::CaseInsensitive) == 0)
            found << entry.filePath();
    }
}

} // namespace

FoundModel describeModel(const QString& path, const QString& group, const EngineOptions& options,
                         const std::optional<DeviceInfo>& device) {
    FoundModel found;
    const QFileInfo file(path);
    found.path = path;
    found.name = file.isDir() ? file.fileName() : file.completeBaseName();
    found.group = group;
    try {
        const auto model = openModel(std::filesystem::path(path.toStdString()));
        const Checkpoint& checkpoint = *model->checkpoint;
        found.bytes = checkpoint.fileBytes;
        const QString container = checkpoint.container == Checkpoint::Container::Safetensors
                                      ? QStringLiteral("safetensors")
                                      : QStringLiteral("GGUF");
        found.format = QStringLiteral("%1 %2").arg(container, mainType(checkpoint));
        uint64_t stored = 0;
        int64_t values = 0;
        for (const TensorInfo& tensor : checkpoint.tensors) {
            stored += tensor.storedBytes();
            values += tensor.values();
        }
        if (values > 0)
            found.bitsPerWeight = double(stored) * 8 / double(values);
        found.problem = QString::fromStdString(model->unsupported);
        if (device && found.problem.isEmpty())
            found.needs = Engine::predictedMemory(*model, Recipe{}, options, *device);
    } catch (const std::exception& problem) {
        found.bytes = uint64_t(file.size());
        found.problem = QString::fromStdString(problem.what());
    }
    return found;
}

std::vector<ModelFolder> usualFolders() {
    const QString home = QDir::homePath();
    const ModelFolder all[] = {
        {QStringLiteral("LM Studio"), home + QStringLiteral("/.lmstudio/models")},
        {QStringLiteral("LM Studio"), home + QStringLiteral("/.cache/lm-studio/models")},
        {QStringLiteral("Hugging Face cache"), home + QStringLiteral("/.cache/huggingface/hub")},
        {QStringLiteral("llama.cpp cache"), home + QStringLiteral("/.cache/llama.cpp")},
        {QStringLiteral("Models"), home + QStringLiteral("/models")},
    };
    std::vector<ModelFolder> present;
    for (const ModelFolder& folder : all)
        if (QFileInfo(folder.path).isDir())
            present.push_back(folder);
    return present;
}

QStringList modelsUnder(const QString& folder, const Progress& progress) {
    QStringList found;
    search(folder, 0, found, progress);
    return found;
}

} // namespace nibble
