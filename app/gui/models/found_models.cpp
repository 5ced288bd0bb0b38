#include "app/gui/models/found_models.h"

#include "core/files/file_kind.h"

#include <QFileInfo>

#include <map>

namespace nibble {

namespace {

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

/// Ollama's blobs have names that say nothing.
bool isBlob(const QString& fileName) {
    return fileName.startsWith(QLatin1String("sha256-"));
}

void describeNeeds(const Model& model, EngineOptions options,
                   const std::shared_ptr<Backend>& device, uint64_t releasable, FoundModel& found) {
    found.plan =
        QString::fromStdString(planLoad(model, Recipe{}, options, device, releasable).text());
    options.gpuLayers = model.config.layers; // what it needs is of the whole
    options.cpuExperts = 0;
    const PlanPart all = planOn(model, Recipe{}, options, device, releasable).parts.front();
    found.needs = Ledger{all.wholeUse(), all.device.memoryBytes - all.free, all.device.memoryBytes};
}

} // namespace

FoundModel describeModel(const QString& path, const QString& group, const EngineOptions& options,
                         const std::shared_ptr<Backend>& device, uint64_t releasable) {
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
        const FileKind kind = fileKind(checkpoint);
        found.format = kind == FileKind::Model
                           ? QStringLiteral("%1 %2").arg(container, mainType(checkpoint))
                           : QString::fromUtf8(name(kind));
        if (isBlob(file.fileName()))
            found.name = QString::fromStdString(printable(model->name));
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
            describeNeeds(*model, options, device, releasable, found);
    } catch (const std::exception& problem) {
        found.bytes = uint64_t(file.size());
        found.problem = QString::fromStdString(problem.what());
    }
    return found;
}

FoundModel describeModel(const FoundFile& file, const EngineOptions& options,
                         const std::shared_ptr<Backend>& device, uint64_t releasable) {
    const QString path = QString::fromStdString(file.path.string());
    const QString group = QString::fromStdString(file.source);
    FoundModel found;
    if (file.problem.empty())
        found = describeModel(path, group, options, device, releasable);
    found.path = path;
    found.group = group;
    found.name = QString::fromStdString(file.name);
    found.bytes = file.bytes;
    if (!file.problem.empty())
        found.problem = QString::fromStdString(file.problem);
    else if (file.kind != FoundFile::Kind::Model) {
        const FileKind kind =
            file.kind == FoundFile::Kind::Adapter ? FileKind::Adapter : FileKind::Projector;
        found.format = QString::fromUtf8(name(kind));
        found.problem = QString::fromStdString(whyNotRunnable(kind));
        found.needs.reset();
        found.plan.clear();
    }
    return found;
}

} // namespace nibble
