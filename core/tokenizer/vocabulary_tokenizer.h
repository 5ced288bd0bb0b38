#pragma once

#include "core/tokenizer/special_tokens.h"
#include "core/tokenizer/vocabulary.h"

namespace nibble {

/// Where encoding puts a space before text.
enum class SpacePrefix {
    None,
    EverySegment, ///< at the start and after each special token, as SPM's dummy prefix
    TextStart,    ///< only at the very start
};

/// What all tokenizers share: special tokens cut out of the text first, pieces by id, decoding.
class VocabularyTokenizer : public Tokenizer {
public:
    std::vector<TokenId> encode(std::string_view text, bool parseSpecial) const override;
    std::string piece(TokenId token, bool special) const override;
    std::string decode(std::span<const TokenId> tokens, bool special) const override;
    void putInto(Metadata& metadata) const override;

protected:
    /// `info` as far as the source knows it; it is completed here.
    VocabularyTokenizer(Vocabulary vocabulary, SpacePrefix prefix, Info info);

    /// Text between special tokens to ids; `prefixed` tells whether it takes the space before.
    virtual void encodeText(std::string_view text, bool prefixed,
                            std::vector<TokenId>& out) const = 0;
    /// The bytes of an ordinary token, and of a user-defined one.
    virtual std::string ordinaryPiece(const std::string& text) const = 0;
    virtual std::string userDefinedPiece(const std::string& text) const { return text; }
    /// Adds the merges or scores, and what else only this kind of vocabulary has.
    virtual void putRules(Metadata& metadata) const = 0;
    /// Whether text is changed before it is cut into words, and the text so changed (without a
    /// space before it).
    virtual bool normalizes() const = 0;
    virtual std::string normalized(std::string_view text) const = 0;
    /// How control and user-defined tokens are found in text.
    struct Matching {
        bool takesSpaceBefore = false, takesSpaceAfter = false, singleWord = false;
        bool afterNormalizing = false; ///< in normalized text, where its own text is normalized too
    };
    using Matchings = std::unordered_map<TokenId, Matching>;
    /// Called at the end of a subclass's constructor; `matchings` lists the tokens that are not
    /// just found wherever they stand.
    void finish(const Matchings& matchings);
    void warn(std::string_view sentence) { m_info.warnings.emplace_back(sentence); }

    Vocabulary m_vocabulary;
    SpacePrefix m_prefix;
    SpecialTokens m_inNormalized; ///< to be cut out of normalized text by the subclass

private:
    SpecialTokens m_special;
    std::vector<std::string> m_pieces;
    std::vector<bool> m_cutOut; ///< tokens that are cut out of text before anything else
};

/// GGUF's numbers for the types of values written here (specification, gguf_metadata_value_type).
enum class GgufType : uint32_t {
    Uint8 = 0,
    Uint32 = 4,
    Int32 = 5,
    Float32 = 6,
    Boolean = 7,
    String = 8,
    Array = 9
};
/// Sets tokenizer.ggml.KEY.
void putEntry(Metadata& metadata, const char* key, decltype(MetadataValue::value) value,
              GgufType type, GgufType elementType = GgufType::Uint8);

} // namespace nibble
