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

// Tokenizer files write patterns for another engine (Oniguruma). What PCRE2 reads otherwise is
// translated: \s, which here would take U+180E for a space although Unicode no longer does; \w,
// which here would leave out marks; \uXXXX;
// and classes inside classes, which only add to the outer one.
std::string translated(std::string_view pattern, const std::string& source) {
    constexpr std::string_view kSpaces = R"(\x{09}-\x{0D}\x{85}\p{Z})";
    constexpr std::string_view kWordCharacters = R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc})";
    std::string out;
    int depth = 0; // of classes
    for (size_t i = 0; i < pattern.size(); ++i) {
        const char c = pattern[i];
        const std::string_view rest = pattern.substr(i);
        if (c == '\\' && i + 1 < pattern.size()) {
            const char next = pattern[++i];
            const auto set = next == 's' || next == 'S' ? kSpaces : kWordCharacters;
            if ((next == 's' || next == 'w') && depth > 0)
                out += set;
            else if (next == 's' || next == 'w')
                out.append("[").append(set).append("]");
            else if ((next == 'S' || next == 'W') && depth == 0)
                out.append("[^").append(set).append("]");
            else if (next == 'u' && rest.size() >= 6) {
                out.append("\\x{").append(rest.substr(2, 4)).append("}");
                i += 4;
            } else
                out.append({c, next});
        } else if (c == '[' && depth > 0 && rest.starts_with("[:")) {
            const size_t end = std::min(rest.find(":]"), rest.size() - 2) + 2;
            out += rest.substr(0, end);
            i += end - 1;
        } else if (c == '[') {
            if (depth > 0 && rest.starts_with("[^"))
                fail(ErrorKind::BadInput,
                     "{}: the split pattern \"{}\" has a negated class inside a class, which is "
                     "not supported.",
                     source, printable(pattern));
            if (++depth == 1) {
                const size_t opening = rest.starts_with("[^") ? 2 : 1;
                out += rest.substr(0, opening);
                i += opening - 1;
                if (rest.substr(opening).starts_with(']')) { // first in a class it is a character
                    out += "\\]";
                    ++i;
                }
            }
        } else if (c == ']' && depth > 0) {
            if (--depth == 0)
                out += c;
        } else {
            out += c;
        }
    }
    return out;
}

constexpr size_t kJitStackStart = 32u << 10, kJitStackMost = 8u << 20;

/// The matches with each cut into groups of `rule.fromEnd` characters that end where it ends, or
/// only the places where those begin.
Regex::Ranges grouped(std::string_view text, const SplitRule& rule, const Regex::Ranges& matches) {
    const auto size = static_cast<size_t>(rule.fromEnd);
    Regex::Ranges groups;
    std::vector<size_t> starts;
    for (const auto& [begin, end] : matches) {
        starts.clear();
        for (size_t at = begin; at < end; at += firstCharacter(text.substr(at)).length)
            starts.push_back(at);
        const size_t first = starts.size() % size;
        if (first > 0 && !rule.onlyInside)
            groups.emplace_back(begin, first < starts.size() ? starts[first] : end);
        for (size_t i = first; i < starts.size(); i += size)
            groups.emplace_back(starts[i], rule.onlyInside            ? starts[i]
                                           : i + size < starts.size() ? starts[i + size]
                                                                      : end);
    }
    return groups;
}

void cutValid(std::string_view text, const SplitRule& rule, const Regex::Ranges& matches,
              std::vector<std::string_view>& pieces) {
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
    const std::string exact = translated(pattern, source);
    int error = 0;
    PCRE2_SIZE offset = 0;
    m_code->compiled.reset(
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(exact.data()), exact.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
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

void Regex::findAll(std::span<const std::string_view> texts,
                    const std::function<void(std::string_view, const Ranges&)>& found) const {
    const std::unique_ptr<pcre2_match_data, Free> data(
        pcre2_match_data_create_from_pattern(m_code->compiled.get(), nullptr));
    const std::unique_ptr<pcre2_match_context, Free> context(pcre2_match_context_create(nullptr));
    if (!data || !context)
        fail(ErrorKind::OutOfMemory, "Not enough memory to split text into words.");
    pcre2_set_match_limit(context.get(), limits::kRegexMatchLimit);
    pcre2_set_depth_limit(context.get(), limits::kRegexDepthLimit);
    std::unique_ptr<pcre2_jit_stack, Free> stack;
    uint32_t options = PCRE2_NO_UTF_CHECK;
    Ranges matches;
    for (const std::string_view text : texts) {
        matches.clear();
        for (size_t at = 0; at <= text.size();) {
            const int result =
                pcre2_match(m_code->compiled.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                            text.size(), at, options, data.get(), context.get());
            if (result == PCRE2_ERROR_NOMATCH)
                break;
            if (result == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
                stack.reset(pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr));
                pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
                continue;
            }
            if (result == PCRE2_ERROR_JIT_STACKLIMIT && !(options & PCRE2_NO_JIT)) {
                options |= PCRE2_NO_JIT;
                continue;
            }
            if (result < 0)
                fail(ErrorKind::BadInput,
                     "{}: a split pattern exceeds its limits on this text (PCRE2 error {}); the "
                     "tokenizer is damaged or hostile.",
                     m_source, result);
            const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
            const size_t begin = bounds[0], end = std::max<size_t>(bounds[0], bounds[1]);
            if (begin < end || matches.empty() || matches.back().second != begin)
                matches.emplace_back(begin, end);
            at = std::max(at, end);
            if (begin == end)
                at += at < text.size() ? firstCharacter(text.substr(at)).length : 1;
        }
        found(text, matches);
    }
}

std::string replaceMatches(std::string_view text, const Regex& regex, std::string_view by) {
    std::string out;
    forEachStretch(text, [&](std::string_view stretch, bool valid) {
        if (!valid) {
            out += stretch;
            return;
        }
        regex.findAll({&stretch, 1}, [&](std::string_view, const Regex::Ranges& matches) {
            size_t at = 0;
            for (const auto& [begin, end] : matches) {
                checkGrown(out.size() + begin - at + by.size());
                out.append(stretch.substr(at, begin - at)).append(by);
                at = end;
            }
            out += stretch.substr(at);
        });
    });
    return out;
}

std::vector<std::string_view> splitText(std::string_view text, std::span<const SplitRule> rules) {
    // The whole text is checked once here: PCRE2 would check what is left of it at every match.
    std::vector<std::string_view> pieces, next;
    std::vector<std::string_view> invalid;
    forEachStretch(text, [&](std::string_view stretch, bool valid) {
        pieces.push_back(stretch);
        if (!valid)
            invalid.push_back(stretch);
    });
    std::vector<std::string_view> run;
    for (const SplitRule& rule : rules) {
        next.clear();
        size_t skip = 0;
        const auto cutRun = [&] {
            rule.regex->findAll(run, [&](std::string_view piece, const Regex::Ranges& matches) {
                cutValid(piece, rule, rule.fromEnd > 0 ? grouped(piece, rule, matches) : matches,
                         next);
            });
            run.clear();
        };
        for (const std::string_view piece : pieces) {
            if (skip < invalid.size() && piece.data() == invalid[skip].data()) {
                cutRun();
                next.push_back(piece);
                ++skip;
            } else {
                run.push_back(piece);
            }
        }
        cutRun();
        pieces.swap(next);
    }
    return pieces;
}

} // namespace nibble
