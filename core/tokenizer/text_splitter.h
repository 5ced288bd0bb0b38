#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

/// A compiled PCRE2 pattern (UTF, Unicode properties, JIT where there is one) with the match limits
/// of limits.h. Error{BadInput} naming `source` when the pattern does not compile.
class Regex {
public:
    Regex(const std::string& pattern, const std::string& source);
    ~Regex();
    Regex(const Regex&) = delete;
    Regex& operator=(const Regex&) = delete;

    using Ranges = std::vector<std::pair<size_t, size_t>>;
    /// [begin, end) of every match in each of `texts` in turn, which must be valid UTF-8, handed to
    /// `found`. Empty matches count, but none that touches the end of the match before.
    /// Error{BadInput} when the pattern exceeds its limits on a text.
    void findAll(std::span<const std::string_view> texts,
                 const std::function<void(std::string_view, const Ranges&)>& found) const;

private:
    struct Code;
    std::unique_ptr<Code> m_code;
    std::string m_source;
};

/// Every match of `regex` in `text` replaced; bytes that are not UTF-8 stay.
std::string replaceMatches(std::string_view text, const Regex& regex, std::string_view by);

/// What becomes of a match (tokenizer.json's names).
enum class SplitBehaviour { Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous };

/// One step of pre-tokenizing: every piece of the step before is cut at the matches of a pattern.
struct SplitRule {
    std::shared_ptr<const Regex> regex;
    SplitBehaviour behaviour = SplitBehaviour::Isolated;
    bool invert = false; ///< the stretches between matches are the matches
    /// Matches are cut again into groups of so many characters, counted from their end (digits of
    /// large numbers); 0: they stay whole.
    int fromEnd = 0;
    /// Only the places where such a group begins are cut; a group that is not full, and what stands
    /// before and behind the match, stay with it.
    bool onlyInside = false;
};

/// The pieces of `text` after all rules, in order; bytes that are not UTF-8 form pieces of their
/// own.
std::vector<std::string_view> splitText(std::string_view text, std::span<const SplitRule> rules);

} // namespace nibble
