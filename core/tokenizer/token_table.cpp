#include "core/tokenizer/token_table.h"

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/files/json_text.h"
#include "core/tokenizer/json_pipeline.h"

#include <charconv>

namespace nibble {
namespace {

using Json = nlohmann::json;

// Ids may have holes, but a file of a few tokens must not ask for millions.
constexpr size_t kIdsPerToken = 2, kIdsAtLeast = 65'536;

/// A token by its text in one of the notes, where `id` is not known yet.
void tokenByText(const Json& document, const char* key, const Vocabulary& vocabulary,
                 Tokenizer::Info& info, TokenId& id) {
    const Json* value = findMember(document, key);
    if (value && value->is_object())
        value = findMember(*value, "content");
    if (id >= 0 || !value || !value->is_string())
        return;
    id = vocabulary.find(value->get_ref<const std::string&>());
    if (id < 0)
        info.warnings.push_back(fmt::format("The {} \"{}\" is not in the vocabulary.", key,
                                            printable(value->get_ref<const std::string&>())));
}

} // namespace

TokenId TokenTable::idOf(const Json& value, std::string_view token) const {
    const bool valid = value.is_number_unsigned() && value.get<uint64_t>() < limits::kVocabulary;
    if (!valid)
        fail(ErrorKind::BadInput,
             "{}: the id of \"{}\" is not a number from 0 to {}; the file is damaged.", source,
             printable(token), limits::kVocabulary - 1);
    return value.get<TokenId>();
}

void TokenTable::put(TokenId id, const std::string& text, TokenType type) {
    const auto at = static_cast<size_t>(id);
    if (at >= kIdsPerToken * expected + kIdsAtLeast)
        fail(ErrorKind::BadInput, "{}: token \"{}\" has the id {}, but there are only {} tokens.",
             source, printable(text), id, expected);
    if (at >= texts.size()) {
        texts.resize(at + 1);
        types.resize(at + 1, static_cast<int32_t>(TokenType::Unused));
    }
    if (!texts[at].empty() && texts[at] != text)
        fail(ErrorKind::BadInput,
             "{}: the id {} belongs to both \"{}\" and \"{}\"; the file is damaged.", source, id,
             printable(texts[at]), printable(text));
    texts[at] = text;
    types[at] = static_cast<int32_t>(type);
}

void TokenTable::putAdded(TokenId id, const Json& token) {
    const bool special = flagOr(token, "special", false, source);
    const bool unknown =
        size_t(id) < types.size() && types[size_t(id)] == static_cast<int32_t>(TokenType::Unknown);
    put(id, textOr(token, "content", "", source),
        unknown   ? TokenType::Unknown
        : special ? TokenType::Control
                  : TokenType::UserDefined);
    // Control tokens are found in text as it is, whatever the file says: chat templates write them
    // so, and engines that run such models look for them there.
    matchings[id] = {flagOr(token, "lstrip", false, source), flagOr(token, "rstrip", false, source),
                     flagOr(token, "single_word", false, source),
                     !special && flagOr(token, "normalized", false, source)};
}

Json FolderNotes::read(const char* name) const {
    const auto file = m_folder / name;
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored))
        return Json::object();
    Json document = readJson(file.string(), limits::kJsonDepth);
    if (!document.is_object())
        fail(ErrorKind::BadInput, "{}: expected a JSON object; the file is damaged.",
             printable(name));
    return document;
}

void FolderNotes::readSpecials(const Vocabulary& vocabulary, Tokenizer::Info& info) const {
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
        const Json document = read(name);
        tokenByText(document, "bos_token", vocabulary, info, info.bos);
        tokenByText(document, "eos_token", vocabulary, info, info.eos);
    }
    const TokenTable ids{vocabulary.source()};
    for (const char* name : {"config.json", "generation_config.json"}) {
        const Json document = read(name);
        for (const auto& [key, id, stops] :
             {std::tuple("bos_token_id", &info.bos, false), {"eos_token_id", &info.eos, true}}) {
            const Json* value = findMember(document, key);
            const Json list = !value ? Json::array() : value->is_array() ? *value : Json{*value};
            for (const Json& entry : list) {
                const TokenId found = ids.idOf(entry, key);
                if (*id < 0)
                    *id = found;
                if (stops)
                    info.stops.push_back(found);
            }
        }
    }
}

void FolderNotes::readAdded(TokenTable& table) const {
    const Json listed = read("added_tokens.json");
    const Json config = read("tokenizer_config.json");
    const Json* decoder = findMember(config, "added_tokens_decoder");
    if (decoder && !decoder->is_object())
        fail(ErrorKind::BadInput,
             "tokenizer_config.json: added_tokens_decoder is not an object; the file is damaged.");
    table.expected += listed.size() + (decoder ? decoder->size() : 0);
    const auto put = [&](TokenId id, const Json& token) {
        if (size_t(id) < table.texts.size())
            table.texts[size_t(id)].clear();
        table.putAdded(id, token);
    };
    for (const auto& [text, id] : listed.items())
        put(table.idOf(id, text), {{"content", text}, {"special", true}});
    if (!decoder)
        return;
    for (const auto& [number, token] : decoder->items()) {
        uint32_t id = 0;
        const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
        if (error != std::errc() || end != number.data() + number.size() || !token.is_object())
            fail(ErrorKind::BadInput,
                 "tokenizer_config.json: \"{}\" in added_tokens_decoder is no token with an id; "
                 "the file is damaged.",
                 printable(number));
        put(table.idOf(id, number), token);
    }
}

bool FolderNotes::addBosOr(bool fallback) const {
    return flagOr(read("tokenizer_config.json"), "add_bos_token", fallback,
                  "tokenizer_config.json");
}

bool FolderNotes::addSpaceOr(bool fallback) const {
    return flagOr(read("tokenizer_config.json"), "add_prefix_space", fallback,
                  "tokenizer_config.json");
}

bool FolderNotes::isLegacy() const {
    return flagOr(read("tokenizer_config.json"), "legacy", true, "tokenizer_config.json");
}

std::string FolderNotes::tokenizerClass() const {
    return textOr(read("tokenizer_config.json"), "tokenizer_class", "", "tokenizer_config.json");
}

} // namespace nibble
