#include "core/tokenizer/json_pipeline.h"

#include "core/base/error.h"
#include "core/tokenizer/split_rules.h"
#include "core/tokenizer/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

namespace nibble {
namespace {

using Json = nlohmann::json;
using Step = std::function<std::string(std::string_view)>;

std::string unicodeNormal(std::string_view text, int form) {
    if (std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; }))
        return std::string(text);
    utf8proc_uint8_t* mapped = nullptr;
    const utf8proc_ssize_t length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                     static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                     static_cast<utf8proc_option_t>(UTF8PROC_STABLE | form));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
    if (length < 0) // text that is not UTF-8 has no normal form
        return std::string(text);
    return std::string(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
}

std::string quotedPattern(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const bool plain = static_cast<unsigned char>(c) >= 0x80 || (c >= '0' && c <= '9') ||
                           (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!plain)
            out += '\\';
        out += c;
    }
    return out;
}

struct Reader {
    const std::string& source;
    JsonPipeline pipeline{};
    std::vector<Step> steps{};
    std::vector<std::string> patterns{}; ///< of the rules, to recognise a named set

    BpeOptions& options() { return pipeline.options; }

    void warn(const char* part, const std::string& what) {
        pipeline.warning +=
            fmt::format("{}The {} step \"{}\" is not known and is left out, so some tokens "
                        "may differ from those the model was trained with.",
                        pipeline.warning.empty() ? "" : " ", part, printable(what));
    }
    std::string typeOf(const Json& part, const char* what) const {
        if (!part.is_object())
            fail(ErrorKind::BadInput, "{}: {} is not an object; the file is damaged.", source,
                 what);
        return textOr(part, "type", "", source);
    }
    const Json& arrayOf(const Json& part, const char* key) const {
        const Json* list = findMember(part, key);
        if (!list || !list->is_array())
            fail(ErrorKind::BadInput, "{}: \"{}\" is not an array; the file is damaged.", source,
                 key);
        return *list;
    }

    void addRule(const std::string& pattern, SplitBehaviour behaviour = SplitBehaviour::Isolated,
                 bool invert = false) {
        options().rules.push_back(
            {std::make_shared<const Regex>(pattern, source), behaviour, invert});
        patterns.push_back(pattern);
    }

    void readNormalizer(const Json& part) {
        const std::string type = typeOf(part, "normalizer");
        const auto normalForm = [&](int form) {
            steps.push_back([form](std::string_view text) { return unicodeNormal(text, form); });
        };
        if (type == "Sequence") {
            for (const Json& inner : arrayOf(part, "normalizers"))
                readNormalizer(inner);
        } else if (type == "Prepend") {
            options().prefix = SpacePrefix::EverySegment;
            options().prefixText = textOr(part, "prepend", "", source);
        } else if (type == "Replace") {
            readReplace(part);
        } else if (type == "NFC") {
            normalForm(UTF8PROC_COMPOSE);
        } else if (type == "NFD") {
            normalForm(UTF8PROC_DECOMPOSE);
        } else if (type == "NFKC") {
            normalForm(UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
        } else if (type == "NFKD") {
            normalForm(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
        } else {
            warn("normalizer", type);
        }
    }

    void readReplace(const Json& part) {
        const Json* pattern = findMember(part, "pattern");
        const std::string content = textOr(part, "content", "", source);
        if (!pattern || !pattern->is_object() || !findMember(*pattern, "String")) {
            warn("normalizer", "Replace by a regular expression");
            return;
        }
        const std::string from = textOr(*pattern, "String", "", source);
        if (from == " ")
            options().space = content;
        else if (!from.empty())
            steps.push_back(
                [from, content](std::string_view text) { return replaceAll(text, from, content); });
    }

    void readPreTokenizer(const Json& part) {
        const std::string type = typeOf(part, "pre_tokenizer");
        if (type == "Sequence") {
            for (const Json& inner : arrayOf(part, "pretokenizers"))
                readPreTokenizer(inner);
        } else if (type == "ByteLevel") {
            options().byteLevel = true;
            if (flagOr(part, "add_prefix_space", true, source)) {
                options().prefix = SpacePrefix::EverySegment;
                options().prefixUnlessSpace = true;
            }
            if (flagOr(part, "use_regex", true, source))
                addRule(findNamedSplit("gpt-2")->patterns.front());
        } else if (type == "Digits") {
            addRule(flagOr(part, "individual_digits", false, source) ? R"(\p{N})" : R"(\p{N}+)");
        } else if (type == "Split") {
            readSplit(part);
        } else if (type == "Metaspace") {
            readMetaspace(part);
        } else if (type == "Punctuation") {
            addRule(R"([\p{P}$+<=>^`|~])", behaviourOf(part, "Isolated"));
        } else if (type == "Whitespace") {
            addRule(R"(\w+|[^\w\s]+)", SplitBehaviour::Removed, true);
        } else if (type == "WhitespaceSplit") {
            addRule(R"(\s+)", SplitBehaviour::Removed);
        } else {
            warn("pre-tokenizer", type);
        }
    }

    SplitBehaviour behaviourOf(const Json& part, std::string_view fallback) const {
        const std::string name = textOr(part, "behavior", fallback, source);
        constexpr std::pair<const char*, SplitBehaviour> kNames[] = {
            {"Isolated", SplitBehaviour::Isolated},
            {"Removed", SplitBehaviour::Removed},
            {"MergedWithPrevious", SplitBehaviour::MergedWithPrevious},
            {"MergedWithNext", SplitBehaviour::MergedWithNext},
            {"Contiguous", SplitBehaviour::Contiguous}};
        for (const auto& [known, behaviour] : kNames)
            if (name == known)
                return behaviour;
        fail(ErrorKind::BadInput, "{}: the split behaviour \"{}\" does not exist.", source,
             printable(name));
    }

    void readSplit(const Json& part) {
        const Json* pattern = findMember(part, "pattern");
        if (!pattern || !pattern->is_object())
            fail(ErrorKind::BadInput, "{}: a Split step has no pattern; the file is damaged.",
                 source);
        const SplitBehaviour behaviour = behaviourOf(part, "Isolated");
        const bool invert = flagOr(part, "invert", false, source);
        const std::string text = textOr(*pattern, "String", "", source);
        std::string regex = textOr(*pattern, "Regex", "", source);
        if (regex.empty() && text.empty())
            fail(ErrorKind::BadInput, "{}: a Split step has no pattern; the file is damaged.",
                 source);
        if (const NamedSplit* known = findOriginalSplit(regex))
            regex = known->patterns.front();
        // In PCRE2 "&&" inside a class is two ampersands, not an intersection.
        if (regex.find("&&[") != std::string::npos)
            warn("pre-tokenizer", "Split by an intersection of character classes");
        else
            addRule(regex.empty() ? quotedPattern(text) : regex, behaviour, invert);
    }

    void readMetaspace(const Json& part) {
        options().space = textOr(part, "replacement", kSpmSpace, source);
        const bool add = flagOr(part, "add_prefix_space", true, source);
        const std::string scheme = textOr(part, "prepend_scheme", add ? "always" : "never", source);
        options().prefix = scheme == "always"  ? SpacePrefix::EverySegment
                           : scheme == "first" ? SpacePrefix::TextStart
                                               : SpacePrefix::None;
        options().prefixText = " ";
        options().prefixUnlessSpace = true;
        if (flagOr(part, "split", true, source))
            addRule(quotedPattern(options().space), SplitBehaviour::MergedWithNext);
    }
};

bool mentionsByteLevel(const Json& part) {
    if (!part.is_object())
        return false;
    const Json* type = findMember(part, "type");
    if (type && *type == "ByteLevel")
        return true;
    const Json* inner = findMember(part, "decoders");
    return inner && inner->is_array() && std::ranges::any_of(*inner, mentionsByteLevel);
}

} // namespace

JsonPipeline readJsonPipeline(const Json& document, bool ignoreMerges, const std::string& source) {
    Reader reader{source};
    reader.options().byteLevel = false;
    reader.options().ignoreMerges = ignoreMerges;
    if (const Json* normalizer = findMember(document, "normalizer"))
        reader.readNormalizer(*normalizer);
    if (const Json* pre = findMember(document, "pre_tokenizer"))
        reader.readPreTokenizer(*pre);
    if (const Json* decoder = findMember(document, "decoder");
        decoder && mentionsByteLevel(*decoder))
        reader.options().byteLevel = true;

    if (!reader.steps.empty())
        reader.options().normalize = [steps = std::move(reader.steps)](std::string_view text) {
            std::string changed(text);
            for (const Step& step : steps)
                changed = step(changed);
            return changed;
        };
    for (const NamedSplit& row : namedSplits())
        if (reader.options().byteLevel && row.ignoreMerges == ignoreMerges &&
            std::ranges::equal(row.patterns, reader.patterns)) {
            reader.pipeline.preTokenizer = row.names.front();
            break;
        }
    return std::move(reader.pipeline);
}

const Json* findMember(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string textOr(const Json& object, const char* key, std::string_view fallback,
                   const std::string& source) {
    const Json* value = findMember(object, key);
    if (!value)
        return std::string(fallback);
    if (!value->is_string())
        fail(ErrorKind::BadInput, "{}: \"{}\" is not a text; the file is damaged.", source, key);
    return value->get<std::string>();
}

bool flagOr(const Json& object, const char* key, bool fallback, const std::string& source) {
    const Json* value = findMember(object, key);
    if (!value)
        return fallback;
    if (!value->is_boolean())
        fail(ErrorKind::BadInput, "{}: \"{}\" is not true or false; the file is damaged.", source,
             key);
    return value->get<bool>();
}

} // namespace nibble
