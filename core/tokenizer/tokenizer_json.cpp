#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/files/json_text.h"
#include "core/tokenizer/json_pipeline.h"

#include <algorithm>

namespace nibble {
namespace {

using Json = nlohmann::json;

// Ids may have holes, but a file of a few tokens must not ask for millions.
constexpr size_t kIdsPerToken = 2, kIdsAtLeast = 65'536;

TokenId idOf(const Json& value, std::string_view token, const std::string& source) {
    const bool valid = value.is_number_unsigned() && value.get<uint64_t>() < limits::kVocabulary;
    if (!valid)
        fail(ErrorKind::BadInput,
             "{}: the id of \"{}\" is not a number from 0 to {}; the file is damaged.", source,
             printable(token), limits::kVocabulary - 1);
    return value.get<TokenId>();
}

struct JsonVocabulary {
    std::vector<std::string> texts;
    std::vector<int32_t> types;
    std::unordered_map<TokenId, BpeTokenizer::Stripping> stripping;
    std::string warning;

    void put(TokenId id, const std::string& text, TokenType type, size_t tokens,
             const std::string& source) {
        const auto at = static_cast<size_t>(id);
        if (at >= kIdsPerToken * tokens + kIdsAtLeast)
            fail(ErrorKind::BadInput,
                 "{}: token \"{}\" has the id {}, but there are only {} tokens.", source,
                 printable(text), id, tokens);
        if (at >= texts.size()) {
            texts.resize(at + 1);
            types.resize(at + 1, static_cast<int32_t>(TokenType::Unused));
        }
        if (!texts[at].empty() && texts[at] != text)
            fail(ErrorKind::BadInput,
                 "{}: the id {} belongs to both \"{}\" and \"{}\"; the file is damaged.", source,
                 id, printable(texts[at]), printable(text));
        texts[at] = text;
        types[at] = static_cast<int32_t>(type);
    }
};

JsonVocabulary readVocabulary(const Json& document, const Json& model, const std::string& source) {
    const Json* vocab = findMember(model, "vocab");
    if (!vocab || !vocab->is_object() || vocab->empty())
        fail(ErrorKind::BadInput, "{}: model.vocab is not a table of tokens; the file is damaged.",
             source);
    const Json* added = findMember(document, "added_tokens");
    if (added && !added->is_array())
        fail(ErrorKind::BadInput, "{}: added_tokens is not an array; the file is damaged.", source);
    const bool bytes = flagOr(model, "byte_fallback", false, source);
    const size_t count = vocab->size() + (added ? added->size() : 0);
    JsonVocabulary out;
    for (const auto& [text, id] : vocab->items())
        out.put(idOf(id, text, source), text,
                bytes && byteTokenValue(text) >= 0 ? TokenType::Byte : TokenType::Normal, count,
                source);
    if (!added)
        return out;
    for (const Json& token : *added) {
        if (!token.is_object() || !findMember(token, "id"))
            fail(ErrorKind::BadInput, "{}: an added token has no id; the file is damaged.", source);
        const std::string text = textOr(token, "content", "", source);
        const TokenId id = idOf(token["id"], text, source);
        const bool special = flagOr(token, "special", false, source);
        out.put(id, text, special ? TokenType::Control : TokenType::UserDefined, count, source);
        const BpeTokenizer::Stripping strip{flagOr(token, "lstrip", false, source),
                                            flagOr(token, "rstrip", false, source)};
        if (strip.before || strip.after)
            out.stripping[id] = strip;
        if (flagOr(token, "single_word", false, source))
            out.warning =
                fmt::format("The token \"{}\" asks to be found only as a word of its own, which is "
                            "not observed.",
                            printable(text));
    }
    return out;
}

BpeTokenizer::Merges readMerges(const Json& model, const std::string& source) {
    const Json* list = findMember(model, "merges");
    if (!list || !list->is_array())
        fail(ErrorKind::BadInput, "{}: model.merges is not an array; the file is damaged.", source);
    BpeTokenizer::Merges merges;
    merges.reserve(list->size());
    for (const Json& merge : *list) {
        const bool pair =
            merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
        if (pair)
            merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
        else if (merge.is_string())
            merges.push_back(parseMerges({merge.get_ptr<const std::string*>(), 1}, source).front());
        else
            fail(ErrorKind::BadInput, "{}: merge {} is neither a text nor a pair of texts.", source,
                 merges.size());
        if (merges.back().first.empty() || merges.back().second.empty())
            fail(ErrorKind::BadInput, "{}: merge {} has an empty side; the file is damaged.",
                 source, merges.size() - 1);
    }
    return merges;
}

/// The model's own notes beside tokenizer.json: which tokens begin and end a text.
struct SpecialNames {
    const Vocabulary& vocabulary;
    Tokenizer::Info& info;

    Json readBeside(const std::filesystem::path& tokenizerJson, const char* name) const {
        const auto file = tokenizerJson.parent_path() / name;
        if (!std::filesystem::exists(file))
            return Json::object();
        Json document = readJson(file.string(), limits::kJsonDepth);
        if (!document.is_object())
            fail(ErrorKind::BadInput, "{}: expected a JSON object; the file is damaged.",
                 printable(file.string()));
        return document;
    }
    void fromText(const Json& document, const char* key, TokenId& id) const {
        const Json* value = findMember(document, key);
        if (value && value->is_object())
            value = findMember(*value, "content");
        if (id >= 0 || !value || !value->is_string())
            return;
        id = vocabulary.find(value->get_ref<const std::string&>());
        if (id < 0)
            info.warning += fmt::format("{}The {} \"{}\" is not in the vocabulary.",
                                        info.warning.empty() ? "" : " ", key,
                                        printable(value->get_ref<const std::string&>()));
    }
    /// One id or a list of them; the first is the token, all of them end an answer when `stops`.
    void fromIds(const Json& document, const char* key, TokenId& id, bool stops) const {
        const Json* value = findMember(document, key);
        if (!value)
            return;
        const Json list = value->is_array() ? *value : Json::array({*value});
        for (const Json& entry : list) {
            const TokenId found = idOf(entry, key, vocabulary.source());
            if (id < 0)
                id = found;
            if (stops)
                info.stops.push_back(found);
        }
    }
};

// The token that the post-processor puts first, or −1.
TokenId firstByTemplate(const Json& processor, const Vocabulary& vocabulary) {
    if (!processor.is_object())
        return -1;
    const Json* inner = findMember(processor, "processors");
    if (inner && inner->is_array()) {
        for (const Json& part : *inner)
            if (const TokenId id = firstByTemplate(part, vocabulary); id >= 0)
                return id;
        return -1;
    }
    const Json* single = findMember(processor, "single");
    if (!single || !single->is_array() || single->empty() || !single->front().is_object())
        return -1;
    const Json* special = findMember(single->front(), "SpecialToken");
    const Json* name = special && special->is_object() ? findMember(*special, "id") : nullptr;
    return name && name->is_string() ? vocabulary.find(name->get_ref<const std::string&>()) : -1;
}

void readSpecials(const std::filesystem::path& file, const Json& document, const Json& model,
                  const Vocabulary& vocabulary, Tokenizer::Info& info) {
    const SpecialNames names{vocabulary, info};
    const Json tokenizer = names.readBeside(file, "tokenizer_config.json");
    for (const Json& source : {tokenizer, names.readBeside(file, "special_tokens_map.json")}) {
        names.fromText(source, "bos_token", info.bos);
        names.fromText(source, "eos_token", info.eos);
    }
    for (const char* name : {"config.json", "generation_config.json"}) {
        const Json source = names.readBeside(file, name);
        names.fromIds(source, "bos_token_id", info.bos, false);
        names.fromIds(source, "eos_token_id", info.eos, true);
    }
    names.fromText(model, "unk_token", info.unknown);

    const Json* processor = findMember(document, "post_processor");
    const TokenId first = processor ? firstByTemplate(*processor, vocabulary) : -1;
    if (info.bos < 0)
        info.bos = first;
    const bool llamaClass =
        textOr(tokenizer, "tokenizer_class", "", vocabulary.source()).starts_with("Llama");
    info.addBos =
        info.bos >= 0 && flagOr(tokenizer, "add_bos_token",
                                first >= 0 || (llamaClass && !processor), vocabulary.source());
}

} // namespace

std::shared_ptr<const Tokenizer> openTokenizerJson(const std::filesystem::path& file) {
    const std::string source = printable(file.filename().string());
    const Json document = readJson(file.string(), limits::kJsonDepth);
    const Json* model = document.is_object() ? findMember(document, "model") : nullptr;
    if (!model || !model->is_object())
        fail(ErrorKind::BadInput,
             "{}: there is no \"model\"; expected a Hugging Face tokenizer.json.", source);
    const std::string type = textOr(*model, "type", "BPE", source);
    if (type != "BPE")
        fail(ErrorKind::BadInput, "{}: the model type is \"{}\"; only BPE is supported.", source,
             printable(type));
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (!textOr(*model, key, "", source).empty())
            fail(ErrorKind::BadInput, "{}: model.{} is set, which is not supported.", source, key);

    JsonVocabulary tokens = readVocabulary(document, *model, source);
    const auto merges = readMerges(*model, source);
    JsonPipeline pipeline =
        readJsonPipeline(document, flagOr(*model, "ignore_merges", false, source), source);
    pipeline.options.fuseUnknown = flagOr(*model, "fuse_unk", false, source);
    Vocabulary vocabulary(std::move(tokens.texts), tokens.types, source);

    Tokenizer::Info info;
    info.model = pipeline.options.byteLevel ? "gpt2" : "llama";
    info.preTokenizer = pipeline.preTokenizer;
    info.warning = pipeline.warning;
    if (!tokens.warning.empty())
        info.warning += (info.warning.empty() ? "" : " ") + tokens.warning;
    readSpecials(file, document, *model, vocabulary, info);
    return std::make_shared<BpeTokenizer>(std::move(vocabulary), merges,
                                          std::move(pipeline.options), std::move(info),
                                          tokens.stripping);
}

} // namespace nibble
