#pragma once

#include "core/tokenizer/vocabulary_tokenizer.h"

namespace nibble {

/// SentencePiece's BPE: whichever neighbours form the token of the highest score merge first;
/// characters that are no token become byte tokens, or the unknown token where the vocabulary has
/// no bytes.
class SpmTokenizer final : public VocabularyTokenizer {
public:
    /// `scores` by id, or empty (all equal). Error{BadInput} on another count or a NaN.
    SpmTokenizer(Vocabulary vocabulary, std::vector<float> scores, SpacePrefix prefix, Info info,
                 const std::unordered_map<TokenId, Stripping>& stripping);

    using VocabularyTokenizer::Stripping;

private:
    void encodeText(std::string_view text, bool prefixed, std::vector<TokenId>& out) const override;
    std::string ordinaryPiece(const std::string& text) const override;
    void putRules(Metadata& metadata) const override;
    void encodeRun(std::string_view run, std::vector<TokenId>& out) const;

    std::vector<float> m_scores;
    bool m_cutsAtSpaces =
        false; ///< no token reaches over a space from the left, so words are independent
};

} // namespace nibble
