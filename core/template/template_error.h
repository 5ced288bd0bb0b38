#pragma once

#include "core/base/error.h"

namespace nibble {

/// A template that cannot be read or rendered: Error{BadInput} that also says where, and whether it
/// was the template itself that refused (by raise_exception).
class TemplateError : public Error {
public:
    TemplateError(const std::string& name, int line, const std::string& message,
                  bool refused = false);

    const std::string& message() const { return m_message; } ///< without name and line
    int line() const { return m_line; }
    bool refused() const { return m_refused; }

private:
    std::string m_message;
    int m_line;
    bool m_refused;
};

} // namespace nibble
