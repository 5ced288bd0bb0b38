#pragma once

#include "core/tokenizer/bigram_merge.h"
#include "core/tokenizer/space_cuts.h"
#include "core/tokenizer/text_splitter.h"
#include "core/tokenizer/vocabulary_tokenizer.h"

#include <functional>
#include <optional>

namespace nibble {

/// How a merge-based tokenizer treats text.
struct BpeOptions {
    bool byteLevel = true; ///< tokens spell bytes by printable characters; else they are plain text
    std::vector<SplitRule> rules; ///< cut text into words that merge on their own
    bool ignoreMerges = false;    ///< a word that is a token as a whole is not merged
    bool wholeLineBreaks = false; ///< the same, but only for words of line breaks alone
    bool fuseUnknown = false;     ///< one unknown token for a run of unknown characters in a word
    /// Applied to text first; may be empty.
    std::function<std::string(std::string_view)> normalize;

    SpacePrefix prefix =
        SpacePrefix::None; ///< where encoding puts a space that decoding leaves out
    std::string space;     ///< what stands for a space in tokens, or empty
    /// Whether prefix and space are put into the pieces that the first `spacedAfter` rules leave
    /// (Metaspace, ByteLevel; no prefix before a space), and not already by `normalize`.
    bool spacedByPieces = false;
    size_t spacedAfter = 0;
};

/// Byte pair encoding by ranked merges (GPT-2 and its descendants), on bytes or on characters.
class BpeTokenizer final : public VocabularyTokenizer {
public:
    using Merges = std::vector<std::pair<std::string, std::string>>;
    using VocabularyTokenizer::Matching;
    using VocabularyTokenizer::Matchings;

    BpeTokenizer(Vocabulary vocabulary, const Merges& merges, BpeOptions options, Info info,
                 const Matchings& matchings);

private:
    void encodeText(std::string_view text, bool prefixed, std::vector<TokenId>& out) const override;
    std::string ordinaryPiece(const std::string& text) const override;
    std::string userDefinedPiece(const std::string& text) const override {
        return m_options.byteLevel ? text : ordinaryPiece(text);
    }
    bool normalizes() const override { return bool(m_options.normalize); }
    std::string normalized(std::string_view text) const override;
    void putRules(Metadata& metadata) const override;
    struct Words;
    void encodeNormal(std::string_view text, bool prefixed, Words& words,
                      std::vector<TokenId>& out) const;
    void encodePiece(std::string_view piece, bool prefixed, Words& words,
                     std::vector<TokenId>& out) const;
    void addSymbols(std::string_view word, std::vector<MergeSymbol>& symbols) const;
    void encodeWord(std::string_view word, Words& words, std::vector<TokenId>& out) const;
    void mergeWord(std::string_view word, Words& words, std::vector<TokenId>& out) const;
    void emitUnmerged(std::string_view bytes, size_t word, std::vector<TokenId>& out) const;

    struct Ranked {
        int32_t rank, id;
    };
    struct PairHash {
        size_t operator()(uint64_t key) const { return (key ^ key >> 29) * 0x9e3779b97f4a7c15ull; }
    };
    static uint64_t pairOf(int32_t left, int32_t right) {
        return uint64_t(uint32_t(left)) << 32 | uint32_t(right);
    }

    BpeOptions m_options;
    /// Symbols are token ids; texts that occur only inside merges have ids from info().size on.
    std::unordered_map<uint64_t, Ranked, PairHash> m_merges;
    std::array<int32_t, 256> m_byteSymbols;
    std::unordered_map<std::string, int32_t> m_onlyInMerges;
    std::optional<SpaceCuts> m_cuts; ///< of text whose tokens are not bytes
};

/// tokenizer.ggml.model of merges on text, whose rules are named like those on bytes.
inline constexpr const char* kTextBpe = "gemma4";

/// Cuts merges of the form "left right". Error{BadInput} where there is no space or a side is
/// empty.
BpeTokenizer::Merges parseMerges(std::span<const std::string> merges, std::string_view source);

/// Byte-level BPE whose words are cut by the rules of that name; an unknown name gives a warning
/// and the default rules.
std::shared_ptr<const Tokenizer> makeNamedBpe(Vocabulary vocabulary,
                                              std::span<const std::string> merges,
                                              const std::string& preTokenizer, Tokenizer::Info info,
                                              const BpeTokenizer::Matchings& matchings = {});

} // namespace nibble
