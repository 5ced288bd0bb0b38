#include "core/tokenizer/text_splitter.h"

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/tokenizer/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace nibble {
namespace {

struct Free {
    void operator()(pcre2_code* p) const { pcre2_code_free(p); }
    void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
    void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
    void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};

// PCRE2's \s takes U+180E for a space, which Unicode (and so every tokenizer) no longer does.
std::string withUnicodeSpaces(std::string_view pattern) {
    constexpr std::string_view kSpaces = R"(\x{09}-\x{0D}\x{85}\p{Z})";
    std::string out;
    bool inClass = false;
    for (size_t i = 0; i < pattern.size(); ++i) {
        const char c = pattern[i];
        if (c == '\\' && i + 1 < pattern.size()) {
            const char next = pattern[++i];
            if (next == 's' && inClass)
                out += kSpaces;
            else if (next == 's' || (next == 'S' && !inClass))
                out.append(next == 's' ? "[" : "[^").append(kSpaces).append("]");
            else
                out.append({c, next});
            continue;
        }
        if (c == '[' || c == ']')
            inClass = c == '[';
        out += c;
    }
    return out;
}

constexpr size_t kJitStackStart = 32u << 10, kJitStackMost = 8u << 20;

using Ranges = std::vector<std::pair<size_t, size_t>>;

void cutValid(std::string_view text, const SplitRule& rule, Ranges& matches,
              std::vector<std::string_view>& pieces) {
    matches.clear();
    rule.regex->findAll(text, matches);
    bool joinNext = false, previousMatch = false;
    const size_t first = pieces.size();
    const auto extendLast = [&](std::string_view part) {
        pieces.back() = {pieces.back().data(), pieces.back().size() + part.size()};
    };
    const auto add = [&](size_t begin, size_t end, bool match) {
        if (begin == end)
            return;
        const std::string_view part = text.substr(begin, end - begin);
        match = match != rule.invert;
        const bool hasLast = pieces.size() > first;
        bool join = joinNext;
        joinNext = false;
        switch (rule.behaviour) {
        case SplitBehaviour::Isolated:
            join = false;
            break;
        case SplitBehaviour::Removed:
            if (match)
                return;
            join = false;
            break;
        case SplitBehaviour::MergedWithPrevious:
            join = match && hasLast && !previousMatch;
            break;
        case SplitBehaviour::MergedWithNext:
            joinNext = match;
            join = join && !match;
            break;
        case SplitBehaviour::Contiguous:
            join = hasLast && match == previousMatch;
            break;
        }
        if (join)
            extendLast(part);
        else
            pieces.push_back(part);
        previousMatch = match;
    };
    size_t at = 0;
    for (const auto& [begin, end] : matches) {
        add(at, begin, false);
        add(begin, end, true);
        at = end;
    }
    add(at, text.size(), false);
}

} // namespace

struct Regex::Code {
    std::unique_ptr<pcre2_code, Free> compiled;
};

Regex::Regex(const std::string& pattern, const std::string& source)
    : m_code(std::make_unique<Code>()), m_source(source) {
    const std::string exact = withUnicodeSpaces(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    m_code->compiled.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(exact.data()), exact.size(),
                                         PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error,
                                         &offset, nullptr));
    if (!m_code->compiled) {
        char message[256] = {};
        pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
        fail(ErrorKind::BadInput,
             "{}: the split pattern \"{}\" is no regular expression that can be used: {}.", source,
             printable(pattern), message);
    }
    // Without a JIT for this processor the interpreter does the same, slower.
    pcre2_jit_compile(m_code->compiled.get(), PCRE2_JIT_COMPLETE);
}

Regex::~Regex() = default;

void Regex::findAll(std::string_view text, Ranges& matches) const {
    const std::unique_ptr<pcre2_match_data, Free> data(
        pcre2_match_data_create_from_pattern(m_code->compiled.get(), nullptr));
    const std::unique_ptr<pcre2_match_context, Free> context(pcre2_match_context_create(nullptr));
    if (!data || !context)
        fail(ErrorKind::OutOfMemory, "Not enough memory to split text into words.");
    pcre2_set_match_limit(context.get(), limits::kRegexMatchLimit);
    pcre2_set_depth_limit(context.get(), limits::kRegexDepthLimit);
    std::unique_ptr<pcre2_jit_stack, Free> stack;
    uint32_t options = PCRE2_NO_UTF_CHECK;
    for (size_t at = 0; at < text.size();) {
        const int found =
            pcre2_match(m_code->compiled.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                        text.size(), at, options, data.get(), context.get());
        if (found == PCRE2_ERROR_NOMATCH)
            return;
        if (found == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
            stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr));
            pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
            continue;
        }
        if (found == PCRE2_ERROR_JIT_STACKLIMIT && !(options & PCRE2_NO_JIT)) {
            options |= PCRE2_NO_JIT;
            continue;
        }
        if (found < 0)
            fail(ErrorKind::BadInput,
                 "{}: a split pattern exceeds its limits on this text (PCRE2 error {}); the "
                 "tokenizer is "
                 "damaged or hostile.",
                 m_source, found);
        const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
        if (bounds[1] > bounds[0]) {
            matches.emplace_back(bounds[0], bounds[1]);
            at = bounds[1];
        } else {
            at = std::max(at, size_t(bounds[1]));
            at += at < text.size() ? firstCharacter(text.substr(at)).length : 1;
        }
    }
}

std::vector<std::string_view> splitText(std::string_view text, std::span<const SplitRule> rules) {
    // The whole text is checked once here: PCRE2 would check what is left of it at every match.
    std::vector<std::string_view> pieces, next, invalid;
    for (size_t at = 0, begin = 0; at < text.size() || begin < at;) {
        const Utf8Step step =
            at < text.size() ? firstCharacter(text.substr(at)) : Utf8Step{Utf8::Invalid, 0};
        if (step.kind == Utf8::Character) {
            at += step.length;
            continue;
        }
        if (at > begin)
            pieces.push_back(text.substr(begin, at - begin));
        if (step.length > 0) {
            pieces.push_back(text.substr(at, step.length));
            invalid.push_back(pieces.back());
        }
        at += step.length;
        begin = at;
    }
    Ranges matches;
    for (const SplitRule& rule : rules) {
        next.clear();
        size_t skip = 0;
        for (const std::string_view piece : pieces) {
            if (skip < invalid.size() && piece.data() == invalid[skip].data()) {
                next.push_back(piece);
                ++skip;
            } else {
                cutValid(piece, rule, matches, next);
            }
        }
        pieces.swap(next);
    }
    return pieces;
}

} // namespace nibble
