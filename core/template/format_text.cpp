#include "core/template/interpreter.h"
#include "core/template/methods.h"
#include "core/template/unicode.h"

#include <cmath>

/// Python's two ways to put values into a text: "{}".format(…) and "%s" % ….
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

/// [[fill]align][sign][#][0][width][grouping][.precision][type], of both ways.
struct Spec {
    char32_t fill = ' ';
    char align = 0, sign = '-', grouping = 0, type = 0;
    bool alternate = false, zero = false;
    int64_t width = 0, precision = -1;
};

constexpr int64_t kWidest = 1 << 24, kFinest = 400;

int64_t readWidth(Interpreter& in, std::u32string_view text, size_t& at) {
    int64_t value = 0;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
        value = value * 10 + static_cast<int64_t>(text[at++] - '0');
        if (value > kWidest)
            in.fail("a width in a format is larger than 16,777,216, which is the limit");
    }
    return value;
}

Spec readSpec(Interpreter& in, const std::string& source) {
    const std::u32string text = characters(source);
    Spec spec;
    size_t at = 0;
    const auto isAlign = [](char32_t c) { return c == '<' || c == '>' || c == '^' || c == '='; };
    if (text.size() > 1 && isAlign(text[1])) {
        spec.fill = text[0];
        spec.align = static_cast<char>(text[1]);
        at = 2;
    } else if (!text.empty() && isAlign(text[0])) {
        spec.align = static_cast<char>(text[at++]);
    }
    const auto take = [&](std::u32string_view any) -> char {
        return at < text.size() && any.find(text[at]) != std::u32string_view::npos
                   ? static_cast<char>(text[at++])
                   : '\0';
    };
    if (const char sign = take(U"+- "))
        spec.sign = sign;
    spec.alternate = take(U"#");
    spec.zero = take(U"0");
    spec.width = readWidth(in, text, at);
    spec.grouping = take(U",_");
    if (take(U".")) {
        const size_t start = at;
        spec.precision = readWidth(in, text, at);
        if (at == start)
            in.fail("Format specifier missing precision");
    }
    spec.type = take(U"bcdeEfFgGnosxX%");
    if (at != text.size())
        in.fail("Invalid format specifier");
    return spec;
}

std::string grouped(std::string digits, char separator, size_t size) {
    for (size_t at = digits.size(); separator && at > size; at -= size)
        digits.insert(at - size, 1, separator);
    return digits;
}

std::string exponentText(double value, const Spec& spec, char type) {
    const int precision =
        static_cast<int>(std::min(spec.precision < 0 ? 6 : spec.precision, kFinest));
    char form[8] = {'%', '.', '*', type, 0, 0, 0, 0};
    if (spec.alternate) {
        form[1] = '#';
        form[2] = '.';
        form[3] = '*';
        form[4] = type;
    }
    char buffer[1024];
    const int length = std::snprintf(buffer, sizeof buffer, form, precision, value);
    return std::string(buffer, static_cast<size_t>(std::clamp(length, 0, 1023)));
}

/// Digits of a number without sign.
std::string digitsOf(Interpreter& in, const Value& value, const Spec& spec, std::string& prefix) {
    const auto isReal = [&](char type) {
        return type == 'e' || type == 'E' || type == 'f' || type == 'F' || type == 'g' ||
               type == 'G' || type == '%';
    };
    if (value.is(Kind::Float) || isReal(spec.type)) {
        const double real = std::abs(value.real());
        if (!std::isfinite(real))
            return spec.type == 'F' || spec.type == 'G' || spec.type == 'E'
                       ? (std::isnan(real) ? "NAN" : "INF")
                       : (std::isnan(real) ? "nan" : "inf");
        std::string digits;
        if (spec.type == '%')
            digits = exponentText(real * 100, spec, 'f') + "%";
        else if (isReal(spec.type))
            digits = exponentText(real, spec, spec.type);
        else if (spec.type == 0 && spec.precision < 0)
            digits = floatText(real);
        else if (spec.type == 0 || spec.type == 'n')
            digits = exponentText(real, spec, 'g');
        else
            in.fail(fmt::format("Unknown format code '{}' for object of type 'float'", spec.type));
        const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
        return grouped(digits.substr(0, whole), spec.grouping, 3) + digits.substr(whole);
    }
    const auto number = value.integer() < 0 ? 0 - static_cast<uint64_t>(value.integer())
                                            : static_cast<uint64_t>(value.integer());
    switch (spec.type) {
    case 'b':
        prefix = spec.alternate ? "0b" : "";
        return grouped(fmt::format("{:b}", number), spec.grouping, 4);
    case 'o':
        prefix = spec.alternate ? "0o" : "";
        return grouped(fmt::format("{:o}", number), spec.grouping, 4);
    case 'x':
        prefix = spec.alternate ? "0x" : "";
        return grouped(fmt::format("{:x}", number), spec.grouping, 4);
    case 'X':
        prefix = spec.alternate ? "0X" : "";
        return grouped(fmt::format("{:X}", number), spec.grouping, 4);
    case 0:
    case 'd':
    case 'n':
        return grouped(std::to_string(number), spec.grouping, 3);
    default:
        in.fail(fmt::format("Unknown format code '{}' for object of type '{}'", spec.type,
                            typeName(value)));
    }
}

std::string aligned(Interpreter& in, const std::string& text, const Spec& spec, char usual) {
    const char align = spec.align ? spec.align : usual;
    const double before = align == '<' ? 0 : align == '^' ? 0.5 : 1;
    return padded(in, text, spec.width, spec.fill, before);
}

std::string formatNumber(Interpreter& in, const Value& value, Spec spec) {
    if (spec.type == 'c') {
        std::string one;
        if (value.integer() < 0 || value.integer() > 0x10ffff)
            in.fail("%c arg not in range(0x110000)");
        append(one, static_cast<char32_t>(value.integer()));
        return aligned(in, one, spec, '<');
    }
    std::string prefix;
    std::string digits = digitsOf(in, value, spec, prefix);
    const bool negative = value.is(Kind::Float) ? std::signbit(value.real()) : value.integer() < 0;
    const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
    if (spec.zero && !spec.align) {
        spec.fill = '0';
        spec.align = '=';
    }
    if (spec.align == '=') {
        const auto width = spec.width - static_cast<int64_t>(sign.size() + prefix.size());
        if (spec.grouping && spec.fill == '0') { // separators go into the zeros too
            while (static_cast<int64_t>(digits.size()) < width)
                digits.insert(0, 1, digits.find(spec.grouping) == 3 ? spec.grouping : '0');
            return sign + prefix + digits;
        }
        return sign + prefix + padded(in, digits, width, spec.fill, 1);
    }
    return aligned(in, sign + prefix + digits, spec, '>');
}

std::string formatString(Interpreter& in, std::string text, Spec spec) {
    if (spec.zero && !spec.align) {
        spec.fill = '0';
        spec.align = '<';
    }
    if (spec.align == '=')
        in.fail("'=' alignment not allowed in string format specifier");
    if (spec.precision >= 0)
        text = utf8(characters(text).substr(0, static_cast<size_t>(spec.precision)));
    return aligned(in, text, spec, '<');
}

/// format(value, spec).
std::string formatValue(Interpreter& in, const Value& value, const std::string& source) {
    if (source.empty())
        return in.str(value);
    const Spec spec = readSpec(in, source);
    if (value.isNumber() && !(value.is(Kind::Bool) && spec.type == 0))
        return formatNumber(in, value, spec);
    if (value.isString() || value.is(Kind::Bool)) {
        if (spec.type && spec.type != 's')
            in.fail(fmt::format("Unknown format code '{}' for object of type 'str'", spec.type));
        return formatString(in, in.str(value), spec);
    }
    in.fail(fmt::format("unsupported format string passed to {}.__format__", typeName(value)));
}

class Formatter {
public:
    Formatter(Interpreter& in, const Arguments& arguments) : m_in(in), m_arguments(arguments) {}

    std::string run(std::string_view text, int depth) {
        if (depth > 2)
            m_in.fail("Max string recursion exceeded");
        std::string out;
        for (size_t at = 0; at < text.size();) {
            const char c = text[at++];
            if (c != '{' && c != '}') {
                out += c;
            } else if (at < text.size() && text[at] == c) {
                out += c;
                ++at;
            } else if (c == '}') {
                m_in.fail("Single '}' encountered in format string");
            } else {
                out += field(text, at, depth);
                m_in.checkSize(out.size());
            }
            m_in.step(0);
        }
        return out;
    }

private:
    /// name[!conversion][:spec], with fields again in the spec.
    std::string field(std::string_view text, size_t& at, int depth) {
        const size_t start = at;
        int open = 1;
        while (at < text.size() && open > 0) {
            open += text[at] == '{' ? 1 : text[at] == '}' ? -1 : 0;
            ++at;
        }
        if (open > 0)
            m_in.fail(at == start ? "Single '{' encountered in format string"
                                  : "expected '}' before end of string");
        const std::string_view inside = text.substr(start, at - 1 - start);
        const size_t end = std::min(inside.find_first_of("!:"), inside.size());
        Value value = lookUp(inside.substr(0, end));
        std::string_view rest = inside.substr(end);
        m_in.step();
        if (rest.starts_with('!')) {
            if (rest.size() < 2 || (rest[1] != 's' && rest[1] != 'r' && rest[1] != 'a'))
                m_in.fail("Unknown conversion specifier in a format");
            value = m_in.text(rest[1] == 's' ? m_in.str(value) : m_in.repr(value));
            rest.remove_prefix(2);
        }
        if (rest.starts_with(':'))
            rest.remove_prefix(1);
        return formatValue(m_in, value, run(rest, depth + 1));
    }

    Value lookUp(std::string_view path) {
        size_t at = std::min(path.find_first_of(".["), path.size());
        const std::string_view name = path.substr(0, at);
        Value value = first(name);
        while (at < path.size()) {
            if (path[at] == '.') {
                const size_t end = std::min(path.find_first_of(".[", at + 1), path.size());
                value = m_in.attribute(value, path.substr(at + 1, end - at - 1));
                at = end;
                continue;
            }
            const size_t end = path.find(']', at);
            if (end == std::string_view::npos)
                m_in.fail("Missing ']' in format string");
            const auto key = path.substr(at + 1, end - at - 1);
            const auto number = parseInteger(key, 10);
            value = m_in.item(value,
                              number ? Value::integer(*number) : Value::string(std::string(key)));
            at = end + 1;
        }
        return value;
    }

    Value first(std::string_view name) {
        const auto number = parseInteger(name, 10);
        if (!name.empty() && !number) {
            for (const auto& [key, value] : m_arguments.named)
                if (key == name)
                    return value;
            m_in.fail(reprOf(name)); // a KeyError says no more
        }
        const auto place = number ? *number : m_next++;
        if (place < 0 || place >= static_cast<int64_t>(m_arguments.positional.size()))
            m_in.fail("tuple index out of range");
        return m_arguments.positional[static_cast<size_t>(place)];
    }

    Interpreter& m_in;
    const Arguments& m_arguments;
    int64_t m_next = 0;
};

} // namespace

std::string formatText(Interpreter& in, std::string_view text, const Arguments& arguments) {
    in.step(static_cast<int64_t>(text.size() / 64));
    return Formatter(in, arguments).run(text, 0);
}

namespace {

/// One conversion of "%", from behind its percent sign.
std::string percentField(Interpreter& in, const std::u32string& text, size_t& at,
                         const std::function<const Value&(const std::string* key)>& take) {
    std::optional<std::string> key;
    if (at < text.size() && text[at] == '(') {
        const size_t end = text.find(U')', at);
        if (end == std::u32string::npos)
            in.fail("incomplete format key");
        key = utf8(std::u32string_view(text).substr(at + 1, end - at - 1));
        at = end + 1;
    }
    Spec spec;
    for (; at < text.size(); ++at) {
        if (text[at] == '-')
            spec.align = '<';
        else if (text[at] == '+' || (text[at] == ' ' && spec.sign != '+'))
            spec.sign = static_cast<char>(text[at]);
        else if (text[at] == '#')
            spec.alternate = true;
        else if (text[at] == '0')
            spec.zero = true;
        else if (text[at] != ' ')
            break;
    }
    const auto number = [&]() -> int64_t {
        if (at >= text.size() || text[at] != '*')
            return readWidth(in, text, at);
        ++at;
        const Value& value = take(nullptr);
        if (!value.isInteger() || value.integer() > kWidest || value.integer() < -kWidest)
            in.fail("* wants int");
        return value.integer();
    };
    spec.width = number();
    if (spec.width < 0) {
        spec.align = '<';
        spec.width = -spec.width;
    }
    if (at < text.size() && text[at] == '.') {
        ++at;
        spec.precision = std::max<int64_t>(0, number());
    }
    while (at < text.size() && (text[at] == 'l' || text[at] == 'h' || text[at] == 'L'))
        ++at;
    if (at >= text.size())
        in.fail("incomplete format");
    const char32_t type = text[at++];
    if (type == '%')
        return "%";
    const Value& value = take(key ? &*key : nullptr);
    if (!spec.align)
        spec.align = spec.zero ? '=' : '>';
    if (spec.align == '=' || (spec.zero && spec.align != '<'))
        spec.fill = '0';
    switch (type) {
    case 's':
    case 'r':
    case 'a':
        spec.fill = ' ';
        spec.align = spec.align == '<' ? '<' : '>';
        spec.zero = false;
        return formatString(in, type == 's' ? in.str(value) : in.repr(value), spec);
    case 'c':
        spec.fill = ' ';
        spec.align = spec.align == '<' ? '<' : '>';
        if (value.isString())
            return formatString(in, value.text(), spec);
        spec.type = 'c';
        break;
    case 'd':
    case 'i':
    case 'u':
        if (!value.isNumber())
            in.fail(fmt::format("%{} format: a real number is required, not {}",
                                static_cast<char>(type), typeName(value)));
        spec.type = 'd';
        if (value.is(Kind::Float)) {
            if (!(std::abs(value.real()) < 9e18))
                in.fail("an integer became too large: integers have 64 bits here");
            return formatNumber(in, Value::integer(static_cast<int64_t>(value.real())), spec);
        }
        break;
    case 'x':
    case 'X':
    case 'o':
        if (!value.isInteger())
            in.fail(fmt::format("%{} format: an integer is required, not {}",
                                static_cast<char>(type), typeName(value)));
        spec.type = static_cast<char>(type);
        break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        spec.type = static_cast<char>(type);
        break;
    default: {
        std::string one;
        append(one, type);
        in.fail(fmt::format("unsupported format character '{}' (0x{:x}) at index {}", one,
                            static_cast<uint32_t>(type), at - 1));
    }
    }
    if (!value.isNumber())
        in.fail("must be real number, not " + typeName(value));
    return formatNumber(in, value, spec);
}

} // namespace

std::string formatPercent(Interpreter& in, std::string_view source, const Value& values) {
    const std::u32string text = characters(source);
    in.step(static_cast<int64_t>(text.size() / 64));
    size_t used = 0;
    bool byKey = false;
    const auto take = [&](const std::string* key) -> const Value& {
        in.step();
        if (key) {
            byKey = true;
            if (!values.is(Kind::Dict))
                in.fail("format requires a mapping");
            const Value* found = values.as<Dict>().find(*key);
            if (!found)
                in.fail(reprOf(*key));
            return *found;
        }
        if (!values.is(Kind::Tuple)) {
            if (used++ > 0)
                in.fail("not enough arguments for format string");
            return values;
        }
        if (used >= values.items().size())
            in.fail("not enough arguments for format string");
        return values.items()[used++];
    };
    std::string out;
    for (size_t at = 0; at < text.size();) {
        if (text[at] == '%')
            out += percentField(in, text, ++at, take);
        else
            append(out, text[at++]);
        if (out.size() > (1u << 20))
            in.checkSize(out.size());
    }
    // Whatever can be asked for items counts as a mapping, which need not be used up.
    const bool mapping = values.is(Kind::Dict) || values.is(Kind::List) || values.is(Kind::Range) ||
                         values.isUndefined();
    const bool allUsed =
        mapping || (values.is(Kind::Tuple) ? used == values.items().size() : used == 1);
    if (!allUsed && !byKey)
        in.fail("not all arguments converted during string formatting");
    return out;
}

} // namespace nibble::jinja
