#pragma once

#include "core/base/bytes.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace nibble {

/// What a SentencePiece model file (sentencepiece_model.proto) says, as far as encoding needs it.
struct SentencePieceModel {
    std::vector<std::string> texts;
    std::vector<float> scores;
    std::vector<int32_t> types; ///< 1 to 6, the numbers that GGUF took over

    enum Kind { Unigram = 1, Bpe, Word, Char };
    int64_t kind = Unigram;
    int32_t unknown = 0, bos = 1, eos = 2; ///< −1: the model has none
    bool spaceBehindWords = false;         ///< treat_whitespace_as_suffix

    std::string characterMap; ///< precompiled_charsmap, or empty
    bool addSpacePrefix = true, removeExtraSpaces = true, escapeSpaces = true;
};

/// Reads such a file: protocol buffers of a bounded depth, unknown fields skipped. Error{BadInput}
/// naming `source` where a length or a number cannot be.
SentencePieceModel readSentencePiece(std::span<const std::byte> file, const std::string& source);

} // namespace nibble
