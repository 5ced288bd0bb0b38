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

SpmTokenizer::Matchings matchings(const Metadata& metadata, const Vocabulary& vocabulary) {
    // Phi-3's tokens swallow the white space after them, which GGUF has no key for: as other
    // engines do, it is known by the name.
    std::string name = metadata.stringOr("general.name", "");
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    SpmTokenizer::Matchings tokens;
    if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos)
        return tokens;
    for (TokenId id = 0; id < vocabulary.size(); ++id) {
        const std::string& text = vocabulary.text(id);
        const bool special =
            vocabulary.isSpecial(id) || vocabulary.type(id) == TokenType::UserDefined;
        if (special && text != "<unk>" && text != "<s>" && text != "<|endoftext|>")
            tokens[id].takesSpaceAfter = true;
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
        info.warnings.push_back(
            "The vocabulary has no scores; text is merged from left to right, so some tokens may "
            "differ from those the model was trained with and its answers may be worse.");
    }
    SpmOptions options;
    if (!booleanOr(metadata, "tokenizer.ggml.add_space_prefix", true))
        options.prefix = SpacePrefix::None;
    const auto matched = matchings(metadata, vocabulary);
    return std::make_shared<SpmTokenizer>(std::move(vocabulary), std::move(scores), options,
                                          std::move(info), matched);
}

std::shared_ptr<const Tokenizer> openBpe(const Metadata& metadata, Vocabulary vocabulary,
                                         bool textBpe) {
    const auto* merges =
        findTyped<MetadataValue::Strings>(metadata, "tokenizer.ggml.merges", "an array of strings");
    if (!merges)
        fail(ErrorKind::BadInput,
             "{}: tokenizer.ggml.merges is missing, without which a vocabulary of this kind cannot "
             "be used.",
             metadata.source);
    const auto* pre = findTyped<std::string>(metadata, "tokenizer.ggml.pre", "a string");
    // Files of this kind name no rules: there is only one set.
    const std::string name = textBpe ? kTextBpe : pre ? *pre : "default";
    Tokenizer::Info info = readInfo(metadata, false);
    if (!pre && !textBpe)
        info.warnings.push_back(
            "The file does not say how text is cut into words (tokenizer.ggml.pre); it is split "
            "by the default rules, so some tokens may differ from those the model was trained "
            "with and its answers may be worse. A newer conversion of the model may say it.");
    const NamedSplit* split = findNamedSplit(name);
    info.addBos = booleanOr(metadata, "tokenizer.ggml.add_bos_token", split && split->addBos);
    return makeNamedBpe(std::move(vocabulary), *merges, name, std::move(info));
}

/// Kinds of tokenizers that other engines know and this one refuses, for the message.
constexpr std::pair<const char*, const char*> kOtherKinds[] = {
    {"t5", "Unigram"},     {"bert", "WordPiece"},   {"rwkv", "RWKV"},
    {"plamo2", "PLaMo-2"}, {"hybriddna", "k-mers"}, {"whitespace", "whole words"},
};

} // namespace

std::shared_ptr<const Tokenizer> openTokenizer(const Checkpoint& checkpoint) {
    if (!checkpoint.tokenizerFile.empty())
        return openTokenizerFile(checkpoint.tokenizerFile);
    const Metadata& metadata = checkpoint.metadata;
    const auto* model = findTyped<std::string>(metadata, "tokenizer.ggml.model", "a string");
    if (!model || *model == "none" || *model == "no_vocab")
        return nullptr;
    const bool textBpe = *model == kTextBpe;
    if (*model != "llama" && *model != "gpt2" && !textBpe) {
        std::string kind;
        for (const auto& [name, text] : kOtherKinds)
            if (*model == name)
                kind = fmt::format(" ({})", text);
        fail(ErrorKind::BadInput,
             "{}: tokenizer.ggml.model is \"{}\"{}; \"llama\" (SPM), \"gpt2\" (byte-level BPE) "
             "and \"{}\" (BPE on text) are supported.",
             metadata.source, printable(*model), kind, kTextBpe);
    }
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
                             : openBpe(metadata, std::move(vocabulary), textBpe);
}

} // namespace nibble
