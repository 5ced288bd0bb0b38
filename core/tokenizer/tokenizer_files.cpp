#include "core/tokenizer/tokenizer_files.h"

#include "core/tokenizer/split_rules.h"
#include "core/tokenizer/utf8.h"
#include "core/tokenizer/vocabulary.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <unordered_map>

namespace nibble {
namespace {

// Sorted, because the ordered kind searches all keys for each that is added.
using Json = nlohmann::json;

/// What Tokenizer::putInto states of a vocabulary.
struct Contents {
    std::vector<std::string> tokens;
    std::vector<TokenType> types;
    std::vector<float> scores;
    std::vector<std::string> merges;
    std::string split;
    bool byteLevel = false, spacePrefix = false;
    std::unordered_map<std::string_view, TokenId> ids;

    explicit Contents(const Tokenizer& tokenizer) {
        Metadata m;
        tokenizer.putInto(m);
        const auto key = [](const char* name) { return "tokenizer.ggml." + std::string(name); };
        tokens = *m.findStrings(key("tokens"));
        for (const int64_t type : *m.findIntegers(key("token_type")))
            types.push_back(static_cast<TokenType>(type));
        byteLevel = m.stringOr(key("model"), "") == "gpt2";
        split = m.stringOr(key("pre"), "default");
        spacePrefix = m.booleanOr(key("add_space_prefix"), false);
        if (const auto* stored = m.findFloats(key("scores")))
            scores = *stored;
        if (const auto* stored = m.findStrings(key("merges")))
            merges = *stored;
        scores.resize(tokens.size());
        for (size_t id = 0; id < tokens.size(); ++id) {
            // A table by text has room for one id each.
            while (!ids.emplace(tokens[id], static_cast<TokenId>(id)).second)
                tokens[id] = fmt::format("[unused {}]", id) + tokens[id];
        }
    }
    bool isSpecial(size_t id) const {
        return types[id] == TokenType::Control || types[id] == TokenType::Unknown;
    }
    bool isPlain(size_t id) const { return types[id] == TokenType::Normal; }
    bool hasAllBytes() const { return std::ranges::count(types, TokenType::Byte) == 256; }
};

/// Merges of an SPM vocabulary, whose own rule is that the pair which forms the token of the
/// highest score merges first: every way to cut a token into two others, best token first.
Json mergesOfScores(const Contents& c) {
    struct Merge {
        float score;
        TokenId left, right;
    };
    std::vector<Merge> merges;
    for (size_t id = 0; id < c.tokens.size(); ++id) {
        if (!c.isPlain(id))
            continue;
        const std::string_view text = c.tokens[id];
        const size_t first = merges.size();
        for (size_t at = 1; at < text.size(); ++at) {
            if ((text[at] & 0xc0) == 0x80)
                continue; // inside a character
            const auto left = c.ids.find(text.substr(0, at)), right = c.ids.find(text.substr(at));
            if (left != c.ids.end() && right != c.ids.end() && c.isPlain(size_t(left->second)) &&
                c.isPlain(size_t(right->second)))
                merges.push_back({c.scores[id], left->second, right->second});
        }
        std::sort(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(),
                  [](const Merge& a, const Merge& b) {
                      return std::pair(a.left, a.right) < std::pair(b.left, b.right);
                  });
    }
    std::ranges::stable_sort(merges, std::greater(), &Merge::score);
    Json out = Json::array();
    for (const Merge& merge : merges)
        out.push_back(Json::array({c.tokens[size_t(merge.left)], c.tokens[size_t(merge.right)]}));
    return out;
}

Json mergesAsWritten(const Contents& c) {
    Json out = Json::array();
    for (const std::string& merge : c.merges) {
        const size_t space = merge.find(' ', 1);
        out.push_back(Json::array({merge.substr(0, space), merge.substr(space + 1)}));
    }
    return out;
}

Json replaces(const char* from, std::string_view to) {
    return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

/// Spaces as SPM has them.
void addSpmSteps(Json& document, const Contents& c) {
    Json normalizers = Json::array(), decoders = Json::array();
    if (c.spacePrefix)
        normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpmSpace}});
    normalizers.push_back(replaces(" ", kSpmSpace));
    document["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
    document["pre_tokenizer"] = nullptr;
    decoders.push_back(replaces(std::string(kSpmSpace).c_str(), " "));
    decoders.push_back({{"type", "ByteFallback"}});
    decoders.push_back({{"type", "Fuse"}});
    if (c.spacePrefix)
        decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    document["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
}

Json byteLevelStep(bool ownRules) {
    return {{"type", "ByteLevel"},
            {"add_prefix_space", false},
            {"trim_offsets", true},
            {"use_regex", ownRules}};
}

/// Words cut by the named rules, then bytes spelled by characters. Returns whether whole words that
/// are tokens stay.
bool addByteLevelSteps(Json& document, const Contents& c) {
    const NamedSplit* split = findNamedSplit(c.split);
    if (!split)
        split = findNamedSplit("default");
    const std::string gpt2 = findNamedSplit("gpt-2")->patterns.front().regex;
    std::vector<std::string> patterns;
    for (const SplitPattern& pattern : split->patterns)
        patterns.push_back(spelledPattern(pattern));
    const bool endsInGpt2 = patterns.back() == gpt2;
    if (endsInGpt2)
        patterns.pop_back();
    Json steps = Json::array();
    for (const std::string& pattern : patterns)
        steps.push_back({{"type", "Split"},
                         {"pattern", {{"Regex", pattern}}},
                         {"behavior", "Isolated"},
                         {"invert", false}});
    steps.push_back(byteLevelStep(endsInGpt2));
    document["normalizer"] = nullptr;
    document["pre_tokenizer"] =
        steps.size() == 1 ? steps.front() : Json{{"type", "Sequence"}, {"pretokenizers", steps}};
    document["decoder"] = byteLevelStep(true);
    return split->ignoreMerges;
}

Json startOfText(const Tokenizer::Info& info, const std::string& bos) {
    const Json special = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    const auto text = [](const char* id, int type) {
        return Json{{"Sequence", {{"id", id}, {"type_id", type}}}};
    };
    const Json again = {{"SpecialToken", {{"id", bos}, {"type_id", 1}}}};
    return {{"type", "TemplateProcessing"},
            {"single", {special, text("A", 0)}},
            {"pair", {special, text("A", 0), again, text("B", 1)}},
            {"special_tokens", {{bos, {{"id", bos}, {"ids", {info.bos}}, {"tokens", {bos}}}}}}};
}

Json tokenizerJson(const Contents& c, const Tokenizer::Info& info) {
    Json document = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    Json added = Json::array();
    for (size_t id = 0; id < c.tokens.size(); ++id)
        if (c.isSpecial(id) || c.types[id] == TokenType::UserDefined)
            added.push_back({{"id", id},
                             {"content", c.tokens[id]},
                             {"single_word", false},
                             {"lstrip", false},
                             {"rstrip", false},
                             {"normalized", false},
                             {"special", c.isSpecial(id)}});
    document["added_tokens"] = added;
    bool ignoreMerges = false;
    if (c.byteLevel)
        ignoreMerges = addByteLevelSteps(document, c);
    else
        addSpmSteps(document, c);
    document["post_processor"] = info.addBos && info.bos >= 0
                                     ? startOfText(info, c.tokens[size_t(info.bos)])
                                 : c.byteLevel ? byteLevelStep(true)
                                               : Json();
    Json vocabulary = Json::object();
    for (size_t id = 0; id < c.tokens.size(); ++id)
        vocabulary[c.tokens[id]] = id;
    document["model"] = {
        {"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token",
         info.unknown >= 0 && !c.byteLevel ? Json(c.tokens[size_t(info.unknown)]) : Json()},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", !c.byteLevel},
        {"byte_fallback", !c.byteLevel && c.hasAllBytes()},
        {"ignore_merges", ignoreMerges},
        {"vocab", std::move(vocabulary)},
        {"merges", c.merges.empty() && !c.byteLevel ? mergesOfScores(c) : mergesAsWritten(c)}};
    return document;
}

/// Bytes that are no UTF-8, which some vocabularies have, become U+FFFD.
std::string textOf(const Json& json) {
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace

std::map<std::string, std::string>
tokenizerFiles(const Tokenizer& tokenizer, const std::string& chatTemplate, int64_t contextLength) {
    const Contents contents(tokenizer);
    const Tokenizer::Info& info = tokenizer.info();
    Json names = Json::object(), generation = Json::object();
    const std::pair<const char*, TokenId> special[] = {
        {"bos_token", info.bos}, {"eos_token", info.eos}, {"unk_token", info.unknown}};
    for (const auto& [name, id] : special)
        if (id >= 0)
            names[name] = contents.tokens[size_t(id)];
    Json config = names;
    config["tokenizer_class"] = "PreTrainedTokenizerFast";
    config["add_bos_token"] = info.addBos;
    config["add_eos_token"] = false;
    config["clean_up_tokenization_spaces"] = false;
    config["model_max_length"] = contextLength;
    if (!chatTemplate.empty())
        config["chat_template"] = chatTemplate;
    if (info.bos >= 0)
        generation["bos_token_id"] = info.bos;
    std::vector<TokenId> stops;
    for (const TokenId id : info.stops)
        if (id >= 0 && std::ranges::find(stops, id) == stops.end())
            stops.push_back(id);
    if (!stops.empty())
        generation["eos_token_id"] = stops;
    return {{"tokenizer.json", textOf(tokenizerJson(contents, info))},
            {"tokenizer_config.json", textOf(config)},
            {"special_tokens_map.json", textOf(names)},
            {"generation_config.json", textOf(generation)}};
}

} // namespace nibble
