#pragma once

#include "core/tokenizer/bpe_tokenizer.h"

#include <nlohmann/json.hpp>

namespace nibble {

/// The tokens that a Hugging Face folder's files list by id, in any order.
struct TokenTable {
    std::string source;  ///< file name for messages
    size_t expected = 0; ///< tokens that the files list: ids far beyond are refused
    std::vector<std::string> texts{};
    std::vector<int32_t> types{};
    BpeTokenizer::Matchings matchings{};

    /// Error{BadInput} for an id that another text has already, or far beyond `expected`.
    void put(TokenId id, const std::string& text, TokenType type);
    /// A token of "added_tokens" or "added_tokens_decoder": control when "special", else
    /// user-defined.
    void putAdded(TokenId id, const nlohmann::json& token);
    /// An id as a JSON number. Error{BadInput} naming `token` otherwise.
    TokenId idOf(const nlohmann::json& value, std::string_view token) const;
};

/// What the files beside a tokenizer say of it (tokenizer_config.json, special_tokens_map.json,
/// config.json, generation_config.json, added_tokens.json), each where it exists.
class FolderNotes {
public:
    explicit FolderNotes(const std::filesystem::path& folder) : m_folder(folder) {}

    /// Which tokens begin, end or stand for unknown text, as far as `info` does not say yet.
    void readSpecials(const Vocabulary& vocabulary, Tokenizer::Info& info) const;
    /// Puts the tokens that were added to the vocabulary into `table`, or in the place of tokens
    /// that it kept free for them.
    void readAdded(TokenTable& table) const;
    /// Whether texts start with BOS; `fallback` where nothing says.
    bool addBosOr(bool fallback) const;
    /// Whether encoding puts a space before text; `fallback` where nothing says.
    bool addSpaceOr(bool fallback) const;
    /// Whether each text between control tokens gets a space before it, and not only the first.
    bool isLegacy() const;
    std::string tokenizerClass() const;

private:
    nlohmann::json read(const char* name) const;
    std::filesystem::path m_folder;
};

} // namespace nibble
