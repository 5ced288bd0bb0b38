#include "core/tokenizer/json_pipeline.h"

#include "core/base/error.h"
#include "core/tokenizer/normalize.h"
#include "core/tokenizer/split_rules.h"
#include "core/tokenizer/utf8.h"

#include <algorithm>

namespace nibble {
namespace {

using Json = nlohmann::json;
using Step = std::function<std::string(std::string_view)>;

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

    void warn(const char* part, const std::string& what,
              const char* effect = "some tokens may differ from those the model was trained with "
                                   "and its answers may be worse") {
        pipeline.warnings.push_back(
            fmt::format("The {} step \"{}\" is not known and is left out, so {}.", part,
                        printable(what), effect));
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

    void addRule(const SplitPattern& pattern, SplitBehaviour behaviour = SplitBehaviour::Isolated,
                 bool invert = false) {
        options().rules.push_back({std::make_shared<const Regex>(pattern.regex, source), behaviour,
                                   invert, pattern.fromEnd, pattern.onlyInside});
        patterns.push_back(pattern.regex);
    }

    void readNormalizer(const Json& part) {
        const std::string type = typeOf(part, "normalizer");
        const auto normalForm = [&](NormalForm form) {
            steps.push_back([form](std::string_view text) { return toNormalForm(text, form); });
        };
        if (type == "Sequence") {
            for (const Json& inner : arrayOf(part, "normalizers"))
                readNormalizer(inner);
        } else if (type == "Prepend") {
            options().prefix = SpacePrefix::EverySegment;
            steps.push_back([prefix = textOr(part, "prepend", "", source)](std::string_view text) {
                return text.empty() ? std::string() : prefix + std::string(text);
            });
        } else if (type == "Replace") {
            readReplace(part);
        } else if (type == "NFC") {
            normalForm(NormalForm::Nfc);
        } else if (type == "NFD") {
            normalForm(NormalForm::Nfd);
        } else if (type == "NFKC") {
            normalForm(NormalForm::Nfkc);
        } else if (type == "NFKD") {
            normalForm(NormalForm::Nfkd);
        } else if (type == "Lowercase") {
            steps.push_back(toLowerCase);
        } else if (type == "StripAccents") {
            steps.push_back(stripAccents);
        } else if (type == "Strip") {
            steps.push_back([left = flagOr(part, "strip_left", true, source),
                             right = flagOr(part, "strip_right", true, source)](
                                std::string_view text) { return stripSpaces(text, left, right); });
        } else {
            warn("normalizer", type);
        }
    }

    void readReplace(const Json& part) {
        const Json* pattern = findMember(part, "pattern");
        if (!pattern || !pattern->is_object())
            fail(ErrorKind::BadInput, "{}: a Replace step has no pattern; the file is damaged.",
                 source);
        const std::string content = textOr(part, "content", "", source);
        const std::string from = textOr(*pattern, "String", "", source);
        const std::string regex = textOr(*pattern, "Regex", "", source);
        if (from == " ")
            options().space = content;
        if (!from.empty())
            steps.push_back(
                [from, content](std::string_view text) { return replaceAll(text, from, content); });
        else if (!regex.empty())
            steps.push_back([compiled = std::make_shared<const Regex>(regex, source),
                             content](std::string_view text) {
                return replaceMatches(text, *compiled, content);
            });
    }

    void readPreTokenizer(const Json& part) {
        const std::string type = typeOf(part, "pre_tokenizer");
        if (type == "Sequence") {
            for (const Json& inner : arrayOf(part, "pretokenizers"))
                readPreTokenizer(inner);
        } else if (type == "ByteLevel") {
            options().byteLevel = true;
            if (flagOr(part, "add_prefix_space", true, source))
                spacePieces(SpacePrefix::EverySegment);
            if (flagOr(part, "use_regex", true, source))
                addRule(findNamedSplit("gpt-2")->patterns.front());
        } else if (type == "Digits") {
            addRule({flagOr(part, "individual_digits", false, source) ? R"(\p{N})" : R"(\p{N}+)"});
        } else if (type == "Split") {
            readSplit(part);
        } else if (type == "Metaspace") {
            readMetaspace(part);
        } else if (type == "Punctuation") {
            addRule({R"([\p{P}$+<=>^`|~])"}, behaviourOf(part, "Isolated"));
        } else if (type == "Whitespace") {
            addRule({R"(\w+|[^\w\s]+)"}, SplitBehaviour::Removed, true);
        } else if (type == "WhitespaceSplit") {
            addRule({R"(\s+)"}, SplitBehaviour::Removed);
        } else {
            warn("pre-tokenizer", type);
        }
    }

    /// From here on pieces have the prefix and the stand-in for spaces.
    void spacePieces(SpacePrefix prefix) {
        options().prefix = prefix;
        options().spacedByPieces = true;
        options().spacedAfter = options().rules.size();
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
        const std::string regex = textOr(*pattern, "Regex", "", source);
        if (regex.empty() && text.empty())
            fail(ErrorKind::BadInput, "{}: a Split step has no pattern; the file is damaged.",
                 source);
        // In PCRE2 "&&" inside a class is two ampersands, not an intersection.
        if (regex.find("&&[") != std::string::npos)
            warn("pre-tokenizer", "Split by an intersection of character classes");
        else
            addRule(regex.empty() ? SplitPattern{quotedPattern(text)} : knownPattern(regex),
                    behaviour, invert);
    }

    void readMetaspace(const Json& part) {
        options().space = textOr(part, "replacement", kSpmSpace, source);
        const bool add = flagOr(part, "add_prefix_space", true, source);
        const std::string scheme = textOr(part, "prepend_scheme", add ? "always" : "never", source);
        spacePieces(scheme == "always"  ? SpacePrefix::EverySegment
                    : scheme == "first" ? SpacePrefix::TextStart
                                        : SpacePrefix::None);
        if (flagOr(part, "split", true, source))
            addRule({quotedPattern(options().space)}, SplitBehaviour::MergedWithNext);
    }

    /// Only its parts matter: what they undo is known from the steps before.
    void readDecoder(const Json& part) {
        constexpr std::string_view kKnown[] = {"Metaspace", "Replace", "ByteFallback", "Fuse",
                                               "Strip"};
        const std::string type = typeOf(part, "decoder");
        if (type == "Sequence")
            for (const Json& inner : arrayOf(part, "decoders"))
                readDecoder(inner);
        else if (type == "ByteLevel")
            options().byteLevel = true;
        else if (std::ranges::find(kKnown, type) == std::end(kKnown))
            warn("decoder", type, "what the model writes may look different");
    }
};

} // namespace

JsonPipeline readJsonPipeline(const Json& document, bool ignoreMerges, const std::string& source) {
    Reader reader{source};
    reader.options().byteLevel = false;
    reader.options().ignoreMerges = ignoreMerges;
    if (const Json* normalizer = findMember(document, "normalizer"))
        reader.readNormalizer(*normalizer);
    if (const Json* pre = findMember(document, "pre_tokenizer"))
        reader.readPreTokenizer(*pre);
    if (const Json* decoder = findMember(document, "decoder"))
        reader.readDecoder(*decoder);

    if (!reader.steps.empty())
        reader.options().normalize = [steps = std::move(reader.steps)](std::string_view text) {
            std::string changed(text);
            for (const Step& step : steps)
                changed = step(changed);
            return changed;
        };
    for (const NamedSplit& row : namedSplits())
        if (reader.options().byteLevel && row.byteLevel && row.ignoreMerges == ignoreMerges &&
            std::ranges::equal(row.patterns, reader.patterns, {}, &SplitPattern::regex)) {
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
