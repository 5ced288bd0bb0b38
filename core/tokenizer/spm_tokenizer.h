#pragma once

#include "core/tokenizer/space_cuts.h"
#include "core/tokenizer/vocabulary_tokenizer.h"

#include <functional>

namespace nibble {

/// How a tokenizer on scores treats text.
struct SpmOptions {
    SpacePrefix prefix = SpacePrefix::EverySegment;
    bool fuseUnknown = false; ///< one unknown token for a run of unknown characters
    /// Tokens whose matching says so are found in the text that is merged (with ▁ for spaces and
    /// the one before it), as SentencePiece does. Otherwise user-defined tokens are cut out of the
    /// text before, and what follows is a text of its own, as engines that read GGUF do.
    bool userDefinedInText = false;
    /// Applied to text first; may be empty.
    std::function<std::string(std::string_view)> normalize = {};
};

/// SentencePiece's BPE: whichever neighbours form the token of the highest score merge first;
/// characters that are no token become byte tokens, or the unknown token where the vocabulary has
/// no bytes.
class SpmTokenizer final : public VocabularyTokenizer {
public:
    /// `scores` by id, or empty (all equal). Error{BadInput} on another count or a NaN.
    SpmTokenizer(Vocabulary vocabulary, std::vector<float> scores, SpmOptions options, Info info,
                 const Matchings& matchings);

    using VocabularyTokenizer::Matching;
    using VocabularyTokenizer::Matchings;

private:
    void encodeText(std::string_view text, bool prefixed, std::vector<TokenId>& out) const override;
    std::string ordinaryPiece(const std::string& text) const override;
    bool normalizes() const override { return m_options.userDefinedInText; }
    std::string normalized(std::string_view text) const override;
    void putRules(Metadata& metadata) const override;
    void encodeRun(std::string_view run, std::vector<TokenId>& out) const;

    SpmOptions m_options;
    std::vector<float> m_scores;
    SpaceCuts m_cuts;
};

} // namespace nibble
