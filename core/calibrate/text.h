#pragma once

#include "core/tokenizer/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace nibble {

/// The text that numbers are measured on.
struct EvaluationText {
    std::string label; ///< "shipped text", or a file name
    std::string text;
    bool special = false; ///< control tokens written in the text count as such
};

/// A text as the model reads it.
struct EvaluationTokens {
    std::string label;
    uint64_t hash = 0;           ///< of the text
    std::vector<TokenId> tokens; ///< BOS in front when the model wants one
    TokenId bos = -1;            ///< what every window begins with; -1 = its own first token
};
EvaluationTokens tokenize(const Tokenizer& tokenizer, const EvaluationText& text);
/// Error{BadInput} for another encoding than UTF-8: its characters would be read as something else,
/// and numbers would be of nonsense.
void requireText(const EvaluationText& text);
/// The text that ships (zlib-compressed in resources/text), or a file. Error{BadInput}.
EvaluationText shippedEvaluationText();
EvaluationText evaluationTextFile(const std::filesystem::path& path);
/// The text that ships for calibration: other books and dialogues than the evaluation text's.
EvaluationText shippedCalibrationText();

} // namespace nibble
