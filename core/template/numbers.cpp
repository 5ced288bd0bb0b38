#include "core/template/numbers.h"

#include "core/template/interpreter.h"
#include "core/template/unicode.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

namespace nibble::jinja {
namespace {

/// Length of digits with single underscores between them.
size_t digitsLength(std::string_view text, size_t at) {
    size_t end = at;
    while (end < text.size()) {
        if (text[end] >= '0' && text[end] <= '9')
            ++end;
        else if (text[end] == '_' && end > at && end + 1 < text.size() && text[end + 1] >= '0' &&
                 text[end + 1] <= '9')
            ++end;
        else
            break;
    }
    return end - at;
}

std::string withoutUnderscores(std::string_view text) {
    std::string out;
    for (const char c : text)
        if (c != '_')
            out += c;
    return out;
}

/// Digits in a base; underscores between digits are allowed. False when it is not one.
bool readDigits(std::string_view text, int base, int64_t& out, bool& tooLarge) {
    if (text.empty() || text.front() == '_' || text.back() == '_' ||
        text.find("__") != std::string_view::npos)
        return false;
    const std::string digits = withoutUnderscores(text);
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), out, base);
    if (result.ptr != digits.data() + digits.size() || digits[0] == '-')
        return false;
    tooLarge = result.ec == std::errc::result_out_of_range;
    return true;
}

int baseOf(char letter) {
    switch (letter | 0x20) {
    case 'x':
        return 16;
    case 'o':
        return 8;
    case 'b':
        return 2;
    default:
        return 0;
    }
}

} // namespace

NumberText readNumber(std::string_view text, bool mayBeFloat) {
    NumberText out;
    if (text.size() > 2 && text[0] == '0' && baseOf(text[1])) {
        const int base = baseOf(text[1]);
        const auto isDigit = [&](char c) {
            const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
            return c == '_' || (digit >= 0 && digit < base);
        };
        size_t end = 2;
        while (end < text.size() && isDigit(text[end]))
            ++end;
        while (end > 2 && text[end - 1] == '_')
            --end;
        const size_t skip = text[2] == '_' ? 3 : 2;
        if (end > skip &&
            readDigits(text.substr(skip, end - skip), base, out.integer, out.isTooLarge)) {
            out.length = end;
            return out;
        }
    }
    size_t end = digitsLength(text, 0);
    if (mayBeFloat) {
        size_t real = end;
        if (real < text.size() && text[real] == '.')
            if (const size_t fraction = digitsLength(text, real + 1))
                real += 1 + fraction;
        if (real < text.size() && (text[real] | 0x20) == 'e') {
            size_t exponent = real + 1;
            if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-'))
                ++exponent;
            if (const size_t digits = digitsLength(text, exponent))
                real = exponent + digits;
        }
        if (real > end) {
            out.isFloat = true;
            out.length = real;
            out.real = std::strtod(withoutUnderscores(text.substr(0, real)).c_str(), nullptr);
            return out;
        }
    }
    // A leading zero is a number of its own unless only zeros follow.
    if (text[0] == '0') {
        size_t zeros = 0;
        while (zeros < end && (text[zeros] == '0' || text[zeros] == '_'))
            ++zeros;
        end = zeros;
        while (text[end - 1] == '_')
            --end;
    }
    out.length = end;
    readDigits(text.substr(0, end), 10, out.integer, out.isTooLarge);
    return out;
}

std::string floatText(double value) {
    if (std::isnan(value))
        return "nan";
    if (std::isinf(value))
        return value < 0 ? "-inf" : "inf";
    char buffer[64];
    const auto end =
        std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
    const std::string_view text(buffer, static_cast<size_t>(end - buffer));
    const size_t e = text.find('e');
    const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
    if (exponent < -4 || exponent >= 16)
        return std::string(text);
    const auto fixed =
        std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
    std::string out(buffer, fixed);
    return out.find('.') == std::string::npos ? out + ".0" : out;
}

std::optional<int64_t> parseInteger(std::string_view text, int base) {
    text = stripRight(stripLeft(text));
    bool negative = false, tooLarge = false;
    if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
        negative = text[0] == '-';
        text.remove_prefix(1);
    }
    if (text.size() > 2 && text[0] == '0' && baseOf(text[1]) &&
        (base == 0 || base == baseOf(text[1]))) {
        base = baseOf(text[1]);
        text.remove_prefix(text[2] == '_' ? 3 : 2);
    }
    int64_t value = 0;
    if (base < 2 || base > 36)
        base = 10;
    if (!readDigits(text, base, value, tooLarge) || tooLarge)
        return {};
    return negative ? -value : value;
}

std::optional<double> parseFloat(std::string_view text) {
    text = stripRight(stripLeft(text));
    std::string_view digits = text;
    if (!digits.empty() && (digits[0] == '+' || digits[0] == '-'))
        digits.remove_prefix(1);
    const std::string word = lower(digits);
    const bool isWord = word == "inf" || word == "infinity" || word == "nan";
    if (!isWord) {
        // Only what a literal may be made of: strtod itself would also take hexadecimal ones.
        if (digits.empty() || digits.find_first_not_of("0123456789_.eE+-") != digits.npos ||
            digits.front() == '_' || digits.back() == '_' || digits.find("__") != digits.npos)
            return {};
    }
    const std::string clean = isWord ? std::string(text) : withoutUnderscores(text);
    char* end = nullptr;
    const double value = std::strtod(clean.c_str(), &end);
    if (end != clean.c_str() + clean.size())
        return {};
    return value;
}

namespace {

[[noreturn]] void tooLarge(Interpreter& in) {
    in.fail("an integer became too large: integers have 64 bits here");
}

Value power(Interpreter& in, const Value& a, const Value& b) {
    if (a.isInteger() && b.isInteger() && b.integer() >= 0) {
        int64_t base = a.integer(), result = 1;
        for (int64_t exponent = b.integer(); exponent > 0; exponent >>= 1) {
            if (exponent & 1 && __builtin_mul_overflow(result, base, &result))
                tooLarge(in);
            if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
                tooLarge(in);
        }
        return Value::integer(result);
    }
    if (a.real() == 0 && b.real() < 0)
        in.fail("0.0 cannot be raised to a negative power");
    const double result = std::pow(a.real(), b.real());
    if (std::isnan(result) && !std::isnan(a.real()) && !std::isnan(b.real()))
        in.fail("a negative number cannot be raised to a fraction here");
    if (std::isinf(result) && !std::isinf(a.real()) && !std::isinf(b.real()))
        in.fail("(34, 'Numerical result out of range')");
    return Value::real(result);
}

Value integerArithmetic(Interpreter& in, std::string_view op, int64_t a, int64_t b) {
    int64_t out = 0;
    if (op == "+"   ? __builtin_add_overflow(a, b, &out)
        : op == "-" ? __builtin_sub_overflow(a, b, &out)
        : op == "*" ? __builtin_mul_overflow(a, b, &out)
                    : false)
        tooLarge(in);
    if (op == "//" || op == "%") {
        if (b == 0)
            in.fail(op == "%" ? "integer modulo by zero" : "integer division or modulo by zero");
        if (b == -1) { // the only quotient that can overflow, and a trap in the processor
            if (op == "//" && __builtin_sub_overflow(int64_t{0}, a, &out))
                tooLarge(in);
            return Value::integer(op == "//" ? out : 0);
        }
        const int64_t rest = a % b;
        const bool lower = rest != 0 && (rest < 0) != (b < 0);
        out = op == "//" ? a / b - lower : rest + (lower ? b : 0);
    }
    return Value::integer(out);
}

} // namespace

Value arithmetic(Interpreter& in, std::string_view op, const Value& a, const Value& b) {
    if (op == "**")
        return power(in, a, b);
    if (op == "/") {
        if (b.real() == 0)
            in.fail(a.isInteger() && b.isInteger() ? "division by zero" : "float division by zero");
        return Value::real(a.real() / b.real());
    }
    if (a.isInteger() && b.isInteger())
        return integerArithmetic(in, op, a.integer(), b.integer());
    const double x = a.real(), y = b.real();
    if (op == "+")
        return Value::real(x + y);
    if (op == "-")
        return Value::real(x - y);
    if (op == "*")
        return Value::real(x * y);
    if (y == 0)
        in.fail(op == "%" ? "float modulo" : "float floor division by zero");
    double rest = std::fmod(x, y);
    double quotient = (x - rest) / y;
    if (rest != 0) {
        if ((y < 0) != (rest < 0)) {
            rest += y;
            quotient -= 1;
        }
    } else {
        rest = std::copysign(0.0, y);
    }
    if (op == "%")
        return Value::real(rest);
    if (quotient == 0)
        return Value::real(std::copysign(0.0, x / y));
    double whole = std::floor(quotient);
    if (quotient - whole > 0.5)
        whole += 1;
    return Value::real(whole);
}

double roundDecimal(double value, int64_t digits) {
    if (!std::isfinite(value) || digits > 300)
        return value;
    if (digits < -300)
        return std::copysign(0.0, value);
    if (digits >= 0) // correctly rounded decimal text, half to even, as Python does it
        return std::strtod(fmt::format("{:.{}f}", value, digits).c_str(), nullptr);
    const double scale = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(value / scale) * scale;
}

} // namespace nibble::jinja
