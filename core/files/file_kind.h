#pragma once

#include "core/files/checkpoint.h"

namespace nibble {

/// What a checkpoint is. Only a model can chat; the rest belongs to one.
enum class FileKind : uint8_t { Model, Projector, Adapter, ImportanceMatrix, ControlVector };

/// By its metadata, and for folders by its tensors' names.
FileKind fileKind(const Checkpoint& checkpoint);
/// "model", "vision projector", "LoRA adapter", …
const char* name(FileKind kind);
/// Why such a file cannot be run by itself, and what to do; empty for a model.
std::string whyNotRunnable(FileKind kind);

} // namespace nibble
