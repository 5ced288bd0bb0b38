#pragma once

#include "core/calibrate/text.h"
#include "core/model/model.h"

#include <filesystem>

namespace nibble {

/// The user's own conversations as a text to calibrate with: a file that the workbench keeps
/// ("….chat"), or a folder of them, each conversation in the model's chat format with the answers
/// that are shown. Only when asked for: nothing else reads chats. Unreadable files in a folder are
/// passed over. Error{BadInput} when none can be read.
EvaluationText chatText(const Model& model, const std::filesystem::path& path);

} // namespace nibble
