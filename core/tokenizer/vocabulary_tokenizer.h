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
    /// The bytes of an ordinary token.
    virtual std::string ordinaryPiece(const std::string& text) const = 0;
    /// Adds the merges or scores, and what else only this kind of vocabulary has.
    virtual void putRules(Metadata& metadata) const = 0;
    /// Called at the end of a subclass's constructor. `stripping` lists tokens that swallow white
    /// space.
    struct Stripping {
        bool before = false, after = false;
    };
    void finish(const std::unordered_map<TokenId, Stripping>& stripping);
    void warn(const std::string& sentence);

    Vocabulary m_vocabulary;
    SpacePrefix m_prefix;

private:
    SpecialTokens m_special;
    std::vector<std::string> m_pieces;
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
