#pragma once

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

    /// Appends [begin, end) of every non-empty match in `text`, which must be valid UTF-8.
    /// Error{BadInput} when the pattern exceeds its limits on this text.
    void findAll(std::string_view text, std::vector<std::pair<size_t, size_t>>& matches) const;

private:
    struct Code;
    std::unique_ptr<Code> m_code;
    std::string m_source;
};

/// What becomes of a match (tokenizer.json's names).
enum class SplitBehaviour { Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous };

/// One step of pre-tokenizing: every piece of the step before is cut at the matches of a pattern.
struct SplitRule {
    std::shared_ptr<const Regex> regex;
    SplitBehaviour behaviour = SplitBehaviour::Isolated;
    bool invert = false; ///< the stretches between matches are the matches
};

/// The pieces of `text` after all rules, in order; bytes that are not UTF-8 form pieces of their
/// own.
std::vector<std::string_view> splitText(std::string_view text, std::span<const SplitRule> rules);

} // namespace nibble
