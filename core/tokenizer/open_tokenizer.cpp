#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/tokenizer/bpe_tokenizer.h"
#include "core/tokenizer/split_rules.h"
#include "core/tokenizer/spm_tokenizer.h"

#include <algorithm>
#include <limits>

namespace nibble {
namespace {

// A key that is there with another type is damage, not absence.
template <typename Value>
const Value* findTyped(const Metadata& metadata, std::string_view key, const char* expected) {
    const MetadataValue* value = metadata.find(key);
    if (!value)
        return nullptr;
    const auto* typed = std::get_if<Value>(&value->value);
    if (!typed)
        fail(ErrorKind::BadInput, "{}: {} is {}, expected {}; the file is damaged.",
             metadata.source, key, describe(*value), expected);
    return typed;
}

TokenId tokenIdOr(const Metadata& metadata, std::string_view key, TokenId fallback) {
    if (!metadata.has(key))
        return fallback;
    const int64_t id = metadata.getInteger(key);
    if (id == -1 || id == std::numeric_limits<uint32_t>::max()) // written where a model has none
        return -1;
    if (id < 0 || id >= static_cast<int64_t>(limits::kVocabulary))
        fail(ErrorKind::BadInput, "{}: {} is {}, which is no token; the file is damaged.",
             metadata.source, key, id);
    return static_cast<TokenId>(id);
}

bool booleanOr(const Metadata& metadata, std::string_view key, bool fallback) {
    const auto* value = findTyped<bool>(metadata, key, "true or false");
    return value ? *value : fallback;
}

std::vector<int32_t> tokenTypes(const Metadata& metadata) {
    std::vector<int32_t> types;
    const auto* stored = findTyped<MetadataValue::Integers>(metadata, "tokenizer.ggml.token_type",
                                                            "an array of integers");
    if (!stored)
        return types;
    types.reserve(stored->size());
    for (const int64_t type : *stored)
        types.push_back(static_cast<int32_t>(std::clamp<int64_t>(type, -1, 127)));
    return types;
}

Tokenizer::Info readInfo(const Metadata& metadata, bool spm) {
    Tokenizer::Info info;
    info.bos = tokenIdOr(metadata, "tokenizer.ggml.bos_token_id", spm ? 1 : -1);
    info.eos = tokenIdOr(metadata, "tokenizer.ggml.eos_token_id", spm ? 2 : -1);
    info.unknown = tokenIdOr(metadata, "tokenizer.ggml.unknown_token_id", spm ? 0 : -1);
    info.eot = tokenIdOr(metadata, "tokenizer.ggml.eot_token_id", -1);
    info.stops = {info.eot, tokenIdOr(metadata, "tokenizer.ggml.eom_token_id", -1)};
    return info;
}

std::unordered_map<TokenId, SpmTokenizer::Stripping> stripping(const Metadata& metadata,
                                                               const Vocabulary& vocabulary) {
    // Phi-3's tokens swallow the white space after them, which GGUF has no key for: as other
    // engines do, it is known by the name.
    std::string name = metadata.stringOr("general.name", "");
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::unordered_map<TokenId, SpmTokenizer::Stripping> tokens;
    if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos)
        return tokens;
    for (TokenId id = 0; id < vocabulary.size(); ++id) {
        const std::string& text = vocabulary.text(id);
        const bool special =
            vocabulary.isSpecial(id) || vocabulary.type(id) == TokenType::UserDefined;
        if (special && text != "<unk>" && text != "<s>" && text != "<|endoftext|>")
            tokens[id].after = true;
    }
    return tokens;
}

std::shared_ptr<const Tokenizer> openSpm(const Metadata& metadata, Vocabulary vocabulary) {
    Tokenizer::Info info = readInfo(metadata, true);
    info.model = "llama";
    info.addBos = booleanOr(metadata, "tokenizer.ggml.add_bos_token", true);
    if (!metadata.has("tokenizer.ggml.token_type")) {
        vocabulary.markByteTokens();
        for (const TokenId id : {info.bos, info.eos, info.unknown})
            if (id >= 0 && id < vocabulary.size())
                vocabulary.setType(id, TokenType::Control);
    }
    std::vector<float> scores;
    if (const auto* stored = findTyped<MetadataValue::Floats>(metadata, "tokenizer.ggml.scores",
                                                              "an array of float32")) {
        scores = *stored;
        if (scores.empty())
            fail(ErrorKind::BadInput, "{}: tokenizer.ggml.scores is empty; the file is damaged.",
                 metadata.source);
    } else {
        info.warning =
            "The vocabulary has no scores; text is merged from left to right, so some tokens may "
            "differ from those the model was trained with.";
    }
    const auto prefix = booleanOr(metadata, "tokenizer.ggml.add_space_prefix", true)
                            ? SpacePrefix::EverySegment
                            : SpacePrefix::None;
    const auto strips = stripping(metadata, vocabulary);
    return std::make_shared<SpmTokenizer>(std::move(vocabulary), std::move(scores), prefix,
                                          std::move(info), strips);
}

std::shared_ptr<const Tokenizer> openBpe(const Metadata& metadata, Vocabulary vocabulary) {
    const auto* merges =
        findTyped<MetadataValue::Strings>(metadata, "tokenizer.ggml.merges", "an array of strings");
    if (!merges)
        fail(ErrorKind::BadInput,
             "{}: tokenizer.ggml.merges is missing, without which a byte-level vocabulary cannot "
             "be used.",
             metadata.source);
    const auto* pre = findTyped<std::string>(metadata, "tokenizer.ggml.pre", "a string");
    Tokenizer::Info info = readInfo(metadata, false);
    const NamedSplit* split = pre ? findNamedSplit(*pre) : nullptr;
    info.addBos = booleanOr(metadata, "tokenizer.ggml.add_bos_token", split && split->addBos);
    return makeNamedBpe(std::move(vocabulary), *merges, pre ? *pre : "default", std::move(info));
}

} // namespace

std::shared_ptr<const Tokenizer> openTokenizer(const Checkpoint& checkpoint) {
    if (!checkpoint.tokenizerJson.empty())
        return openTokenizerJson(checkpoint.tokenizerJson);
    const Metadata& metadata = checkpoint.metadata;
    const auto* model = findTyped<std::string>(metadata, "tokenizer.ggml.model", "a string");
    if (!model || *model == "none" || *model == "no_vocab")
        return nullptr;
    if (*model != "llama" && *model != "gpt2")
        fail(ErrorKind::BadInput,
             "{}: tokenizer.ggml.model is \"{}\"; \"llama\" (SPM) and \"gpt2\" (byte-level BPE) "
             "are supported.",
             metadata.source, printable(*model));
    const auto* tokens =
        findTyped<MetadataValue::Strings>(metadata, "tokenizer.ggml.tokens", "an array of strings");
    if (!tokens)
        fail(ErrorKind::BadInput, "{}: tokenizer.ggml.tokens is missing; the file is damaged.",
             metadata.source);
    Vocabulary vocabulary(*tokens, tokenTypes(metadata), metadata.source);
    if (metadata.has("tokenizer.ggml.token_type") &&
        metadata.findIntegers("tokenizer.ggml.token_type")->empty())
        fail(ErrorKind::BadInput, "{}: tokenizer.ggml.token_type is empty; the file is damaged.",
             metadata.source);
    return *model == "llama" ? openSpm(metadata, std::move(vocabulary))
                             : openBpe(metadata, std::move(vocabulary));
}

} // namespace nibble
