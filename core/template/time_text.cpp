#include "core/template/time_text.h"

#include <ctime>
#include <fmt/format.h>

namespace nibble::jinja {
namespace {

constexpr const char* kDays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                 "Thursday", "Friday", "Saturday"};
constexpr const char* kMonths[] = {"January",   "February", "March",    "April",
                                   "May",       "June",     "July",     "August",
                                   "September", "October",  "November", "December"};

std::tm momentOf(std::optional<std::chrono::year_month_day> date) {
    std::tm out{};
    if (!date) {
        const std::time_t now = std::time(nullptr);
        localtime_r(&now, &out);
        return out;
    }
    const std::chrono::sys_days days(*date);
    const std::chrono::year_month_day first(date->year(), std::chrono::January,
                                            std::chrono::day(1));
    out.tm_year = static_cast<int>(date->year()) - 1900;
    out.tm_mon = static_cast<int>(static_cast<unsigned>(date->month())) - 1;
    out.tm_mday = static_cast<int>(static_cast<unsigned>(date->day()));
    out.tm_wday = static_cast<int>(std::chrono::weekday(days).c_encoding());
    out.tm_yday = static_cast<int>((days - std::chrono::sys_days(first)).count());
    return out;
}

/// Week of the year; weeks start on `firstDay`, days before the first such day are week 0.
int week(const std::tm& t, int firstDay) {
    return (t.tm_yday + 7 - (t.tm_wday - firstDay + 7) % 7) / 7;
}

/// One field; `pad` is what fills a number up: '0', ' ', or nothing for "%-d".
std::string field(char name, const std::tm& t, char pad) {
    const auto number = [&](int value, int width, char usual = '0') {
        const char fill = pad == 'x' ? usual : pad;
        std::string text = std::to_string(value);
        if (fill && static_cast<int>(text.size()) < width)
            text.insert(0, static_cast<size_t>(width) - text.size(), fill);
        return text;
    };
    const int hour = t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12;
    const auto several = [&](std::string_view names) {
        std::string out;
        for (const char one : names)
            out += (one >= 'A' && one <= 'z') ? field(one, t, 'x') : std::string(1, one);
        return out;
    };
    switch (name) {
    case 'a':
        return std::string(kDays[t.tm_wday]).substr(0, 3);
    case 'A':
        return kDays[t.tm_wday];
    case 'b':
    case 'h':
        return std::string(kMonths[t.tm_mon]).substr(0, 3);
    case 'B':
        return kMonths[t.tm_mon];
    case 'c':
        return several("a b e H:M:S Y");
    case 'C':
        return number((t.tm_year + 1900) / 100, 2);
    case 'd':
        return number(t.tm_mday, 2);
    case 'D':
    case 'x':
        return several("m/d/y");
    case 'e':
        return number(t.tm_mday, 2, ' ');
    case 'f':
        return "000000";
    case 'F':
        return several("Y-m-d");
    case 'H':
        return number(t.tm_hour, 2);
    case 'I':
        return number(hour, 2);
    case 'j':
        return number(t.tm_yday + 1, 3);
    case 'k':
        return number(t.tm_hour, 2, ' ');
    case 'l':
        return number(hour, 2, ' ');
    case 'm':
        return number(t.tm_mon + 1, 2);
    case 'M':
        return number(t.tm_min, 2);
    case 'n':
        return "\n";
    case 'p':
        return t.tm_hour < 12 ? "AM" : "PM";
    case 'P':
        return t.tm_hour < 12 ? "am" : "pm";
    case 'R':
        return several("H:M");
    case 'r':
        return several("I:M:S p");
    case 'S':
        return number(t.tm_sec, 2);
    case 't':
        return "\t";
    case 'T':
    case 'X':
        return several("H:M:S");
    case 'u':
        return number(t.tm_wday == 0 ? 7 : t.tm_wday, 1);
    case 'U':
        return number(week(t, 0), 2);
    case 'w':
        return number(t.tm_wday, 1);
    case 'W':
        return number(week(t, 1), 2);
    case 'y':
        return number((t.tm_year + 1900) % 100, 2);
    case 'Y':
        return number(t.tm_year + 1900, 1);
    case 'z':
    case 'Z': // a time without a zone
        return {};
    case '%':
        return "%";
    default:
        return std::string("%") + name;
    }
}

} // namespace

std::string timeText(std::string_view format, std::optional<std::chrono::year_month_day> date) {
    const std::tm moment = momentOf(date);
    std::string out;
    for (size_t at = 0; at < format.size(); ++at) {
        if (format[at] != '%' || at + 1 == format.size()) {
            out += format[at];
            continue;
        }
        char pad = 'x';
        const char flag = format[at + 1];
        if ((flag == '-' || flag == '_' || flag == '0') && at + 2 < format.size()) {
            pad = flag == '-' ? '\0' : flag == '_' ? ' ' : '0';
            ++at;
        }
        out += field(format[++at], moment, pad);
    }
    return out;
}

} // namespace nibble::jinja
