#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace nibble {

/// Why a job could not complete. The values are the exit codes of nibble-cli.
enum class ErrorKind : int {
    Usage = 2,
    BadInput = 3,
    CannotWrite = 4,
    OutOfMemory = 5,
    DeviceLost = 6,
    Cancelled = 7,
    Internal = 70,
};

/// The one exception type: a kind, and a sentence that names the file, the field, what was found,
/// what was expected, and what to do.
class Error : public std::runtime_error {
public:
    Error(ErrorKind kind, const std::string& sentence)
        : std::runtime_error(sentence), m_kind(kind) {}

    ErrorKind kind() const { return m_kind; }
    int exitCode() const { return static_cast<int>(m_kind); }

private:
    ErrorKind m_kind;
};

/// Throws an Error with a formatted sentence.
template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> text, Args&&... args) {
    throw Error(kind, fmt::format(text, std::forward<Args>(args)...));
}

/// Text from a file, made safe for messages: control and bidirectional characters escaped, cut
/// after `limit` characters.
std::string printable(std::string_view text, size_t limit = 80);

} // namespace nibble
