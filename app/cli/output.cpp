#include "app/cli/output.h"

#include "app/cli/interrupt.h"
#include "core/base/error.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>

namespace nibble::cli {

namespace {

/// Columns that a UTF-8 text takes on a terminal, all characters taken as one wide.
size_t width(const std::string& text) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

} // namespace

void print(std::string_view text) {
    clearProgressLine();
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        fail(ErrorKind::CannotWrite, "The standard output cannot be written: {}.",
             std::strerror(errno));
}

void printJson(const Json& object) {
    print(object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string bytesText(uint64_t bytes) {
    constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
    auto value = static_cast<double>(bytes);
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
        value /= 1000;
        ++unit;
    }
    const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

std::string numberText(std::optional<double> value, int decimals) {
    if (!value || std::isnan(*value))
        return "not measured";
    return fmt::format("{:.{}f}", *value, decimals);
}

Json orNull(const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
}

Table::Table(std::vector<std::pair<std::string, Align>> columns) : m_columns(std::move(columns)) {}

void Table::add(std::vector<std::string> cells) {
    cells.resize(m_columns.size());
    m_rows.push_back(std::move(cells));
}

std::string Table::text() const {
    std::vector<size_t> widths;
    for (size_t i = 0; i < m_columns.size(); ++i) {
        widths.push_back(width(m_columns[i].first));
        for (const auto& row : m_rows)
            widths[i] = std::max(widths[i], width(row[i]));
    }
    std::string out;
    const auto line = [&](const auto& cell) {
        std::string text;
        for (size_t i = 0; i < m_columns.size(); ++i) {
            const std::string& value = cell(i);
            const std::string space(widths[i] - width(value), ' ');
            text += m_columns[i].second == Align::Right ? space + value : value + space;
            text += "  ";
        }
        text.erase(text.find_last_not_of(' ') + 1);
        out += text + "\n";
    };
    line([&](size_t i) -> const std::string& { return m_columns[i].first; });
    for (const auto& row : m_rows)
        line([&](size_t i) -> const std::string& { return row[i]; });
    return out;
}

std::string Table::markdown() const {
    std::string out = "|", rule = "|";
    for (const auto& [title, align] : m_columns) {
        out += " " + title + " |";
        rule += align == Align::Right ? "---:|" : "---|";
    }
    out += "\n" + rule + "\n";
    for (const auto& row : m_rows) {
        out += "|";
        for (const std::string& cell : row)
            out += " " + cell + " |";
        out += "\n";
    }
    return out;
}

} // namespace nibble::cli
