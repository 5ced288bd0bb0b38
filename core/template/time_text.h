#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace nibble::jinja {

/// strftime() in English, whatever language the program runs in: of midnight of `date`, or of this
/// moment where it is not set. Unknown fields stay as they are written.
std::string timeText(std::string_view format, std::optional<std::chrono::year_month_day> date);

} // namespace nibble::jinja
