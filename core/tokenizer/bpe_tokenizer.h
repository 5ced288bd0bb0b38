#pragma once

#include "core/tokenizer/bigram_merge.h"
#include "core/tokenizer/text_splitter.h"
#include "core/tokenizer/vocabulary_tokenizer.h"

#include <functional>

namespace nibble {

/// How a merge-based tokenizer treats text.
struct BpeOptions {
    bool byteLevel = true; ///< tokens spell bytes by printable characters; else they are plain text
    std::vector<SplitRule> rules; ///< cut text into words that merge on their own
    bool ignoreMerges = false;    ///< a word that is a token as a whole is not merged
    bool fuseUnknown = false;     ///< one unknown token for a run of unknown characters
    bool prefixUnlessSpace =
        false; ///< the space prefix is left out before text that starts with a space
    SpacePrefix prefix = SpacePrefix::None;
    std::string prefixText = " ";
    std::string space; ///< what stands for a space in tokens, or empty
    /// Applied to text first (before the prefix); may be empty.
    std::function<std::string(std::string_view)> normalize;
};

/// Byte pair encoding by ranked merges (GPT-2 and its descendants), on bytes or on characters.
class BpeTokenizer final : public VocabularyTokenizer {
public:
    using Merges = std::vector<std::pair<std::string, std::string>>;
    using VocabularyTokenizer::Stripping;

    BpeTokenizer(Vocabulary vocabulary, const Merges& merges, BpeOptions options, Info info,
                 const std::unordered_map<TokenId, Stripping>& stripping);

private:
    void encodeText(std::string_view text, bool prefixed, std::vector<TokenId>& out) const override;
    std::string ordinaryPiece(const std::string& text) const override;
    void putRules(Metadata& metadata) const override;
    void addSymbols(std::string_view word, std::vector<MergeSymbol>& symbols) const;
    void encodeWord(std::string_view word, std::vector<MergeSymbol>& symbols,
                    std::vector<TokenId>& out) const;
    void emitUnmerged(std::string_view bytes, std::vector<TokenId>& out) const;

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
};

/// Cuts merges of the form "left right". Error{BadInput} where there is no space or a side is
/// empty.
BpeTokenizer::Merges parseMerges(std::span<const std::string> merges, std::string_view source);

/// Byte-level BPE whose words are cut by the rules of that name; an unknown name gives a warning
/// and the default rules.
std::shared_ptr<const Tokenizer> makeNamedBpe(Vocabulary vocabulary,
                                              std::span<const std::string> merges,
                                              const std::string& preTokenizer,
                                              Tokenizer::Info info);

} // namespace nibble
