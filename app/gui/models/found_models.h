#pragma once

#include "core/base/progress.h"
#include "core/serve/engine.h"

#include <QDateTime>
#include <QString>
#include <QStringList>

#include <filesystem>
#include <optional>
#include <vector>

namespace nibble {

/// A level of the open model, as the row under its base.
struct FoundVariant {
    QString level, title;
    uint64_t bytes = 0;
    double bitsPerWeight = 0;
    std::optional<Ledger> needs;
    QString kld, speed; ///< empty = not measured
    bool running = false;
};

/// One model on disk, as the table of the Models mode lists it.
struct FoundModel {
    QString path, name, group;
    QString format; ///< "GGUF q4_0", "safetensors F16"
    uint64_t bytes = 0;
    double bitsPerWeight = 0; ///< 0 = not known
    std::optional<Ledger> needs;
    QString problem; ///< a sentence when it cannot run
    QDateTime lastUsed;
    std::vector<FoundVariant> variants;
};

/// Opens a model's header and says what it is and what it would need. Never throws: a file that
/// cannot be read has a problem.
FoundModel describeModel(const QString& path, const QString& group, const EngineOptions& options,
                         const std::optional<DeviceInfo>& device);

/// A place where models usually lie, with the name people know it by.
struct ModelFolder {
    QString name, path;
};
std::vector<ModelFolder> usualFolders();

/// GGUF files and safetensors folders under a folder, at most six levels deep and 500 of them;
/// links are not followed out of it.
QStringList modelsUnder(const QString& folder, const Progress& progress = {});

} // namespace nibble
