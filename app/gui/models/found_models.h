#pragma once

#include "core/files/model_sources.h"
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
    QString plan;    ///< sentences: which device would hold what, and how fast it may be
    QDateTime lastUsed;
    std::vector<FoundVariant> variants;
};

/// Opens a model's header and says what it is and what it would need. Never throws: a file that
/// cannot be read has a problem. Without a device nothing is said of what it needs; `releasable`
/// bytes of it are the open model's.
FoundModel describeModel(const QString& path, const QString& group, const EngineOptions& options,
                         const std::shared_ptr<Backend>& device, uint64_t releasable = 0);

/// The same for what a search found.
FoundModel describeModel(const FoundFile& file, const EngineOptions& options,
                         const std::shared_ptr<Backend>& device, uint64_t releasable = 0);

} // namespace nibble
