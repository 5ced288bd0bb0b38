#include "core/template/template_error.h"

namespace nibble {
namespace {

/// Enough of what a template has to say for itself.
constexpr size_t kMessageBytes = 1000;

std::string sentence(const std::string& name, int line, const std::string& message, bool refused) {
    std::string text = printable(message, kMessageBytes);
    if (text.empty() || (text.back() != '.' && text.back() != '!' && text.back() != '?'))
        text += '.';
    return refused ? fmt::format("The chat template of {} refuses this conversation (line {}): {}",
                                 printable(name), line, text)
                   : fmt::format("The chat template of {} cannot be used; line {}: {}",
                                 printable(name), line, text);
}

} // namespace

TemplateError::TemplateError(const std::string& name, int line, const std::string& message,
                             bool refused)
    : Error(ErrorKind::BadInput, sentence(name, line, message, refused)), m_message(message),
      m_line(line), m_refused(refused) {}

} // namespace nibble
