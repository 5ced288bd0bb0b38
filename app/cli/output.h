#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nibble::cli {

/// Objects keep the order in which keys were added.
using Json = nlohmann::ordered_json;

/// Text to stdout; Error{CannotWrite} when it does not take it.
void print(std::string_view text);
/// One JSON object on one line of stdout. Bytes that are no UTF-8 become U+FFFD.
void printJson(const Json& object);

/// "4.07 GB", "638 MB", "12 kB" (powers of 1000).
std::string bytesText(uint64_t bytes);
/// Three significant digits or so, or "not measured" for nothing.
std::string numberText(std::optional<double> value, int decimals = 2);
/// null for nothing.
Json orNull(const std::optional<double>& value);

/// Rows of text in aligned columns; those that hold numbers stand right.
class Table {
public:
    enum class Align { Left, Right };
    explicit Table(std::vector<std::pair<std::string, Align>> columns);
    void add(std::vector<std::string> cells);
    std::string text() const;
    /// The same in Markdown.
    std::string markdown() const;

private:
    std::vector<std::pair<std::string, Align>> m_columns;
    std::vector<std::vector<std::string>> m_rows;
};

} // namespace nibble::cli
