#include "core/files/file_kind.h"

#include <algorithm>
#include <array>

namespace nibble {

namespace {

struct KindText {
    const char* name;
    const char* why;
};
constexpr std::array<KindText, 5> kTexts{{
    {"model", ""},
    {"vision projector",
     "This is a vision projector: it turns pictures into the inputs of the language model that it "
     "was made with, and cannot be run by itself. Open that model."},
    {"LoRA adapter",
     "This is a LoRA adapter: it changes another model and cannot be run by itself. Merge it into "
     "its base model with the tools that it was made with, and open the result."},
    {"importance matrix",
     "This is an importance matrix, which says what a model's inputs look like. Open the model, "
     "and give it as the calibration."},
    {"control vector", "This is a control vector: it steers another model and cannot be run by "
                       "itself. Open that model."},
}};

/// What general.type or general.architecture of a GGUF file says.
struct StatedKind {
    const char* key;
    const char* value;
    FileKind kind;
};
constexpr StatedKind kStated[] = {
    {"general.type", "adapter", FileKind::Adapter},
    {"general.type", "mmproj", FileKind::Projector},
    {"general.type", "imatrix", FileKind::ImportanceMatrix},
    {"general.architecture", "clip", FileKind::Projector},
    {"general.architecture", "imatrix", FileKind::ImportanceMatrix},
    {"general.architecture", "controlvector", FileKind::ControlVector},
    {"adapter.type", "lora", FileKind::Adapter},
};

} // namespace

FileKind fileKind(const Checkpoint& checkpoint) {
    if (checkpoint.container == Checkpoint::Container::Gguf) {
        for (const StatedKind& stated : kStated)
            if (const std::string* value = checkpoint.metadata.findString(stated.key);
                value && *value == stated.value)
                return stated.kind;
        return FileKind::Model;
    }
    const bool adapter = !checkpoint.tensors.empty() &&
                         std::ranges::all_of(checkpoint.tensors, [](const TensorInfo& tensor) {
                             return tensor.name.find(".lora_") != std::string::npos;
                         });
    return adapter ? FileKind::Adapter : FileKind::Model;
}

const char* name(FileKind kind) {
    return kTexts[static_cast<size_t>(kind)].name;
}

std::string whyNotRunnable(FileKind kind) {
    return kTexts[static_cast<size_t>(kind)].why;
}

} // namespace nibble
