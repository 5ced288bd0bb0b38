#include "core/template/filters.h"

#include <cmath>

/// Filters that make or change numbers.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

Value absolute(Interpreter& in, const Value& value, const Bound&) {
    if (!value.isNumber())
        in.fail(fmt::format("bad operand type for abs(): '{}'", typeName(value)));
    if (value.is(Kind::Float))
        return Value::real(std::abs(value.real()));
    if (value.integer() == INT64_MIN)
        in.fail("an integer became too large: integers have 64 bits here");
    return Value::integer(std::abs(value.integer()));
}

Value wholeOf(Interpreter& in, double real) {
    if (std::isinf(real))
        in.fail("cannot convert float infinity to integer");
    if (!(std::abs(real) < 9.2e18))
        in.fail("an integer became too large: integers have 64 bits here");
    return Value::integer(static_cast<int64_t>(real));
}

Value toInteger(Interpreter& in, const Value& value, const Bound& arguments) {
    in.require(value);
    const Value other = arguments.valueOr(0, Value::integer(0));
    if (value.isInteger())
        return Value::integer(value.integer());
    if (value.is(Kind::Float))
        return std::isnan(value.real()) ? other : wholeOf(in, value.real());
    if (!value.isString())
        return other;
    if (const auto whole = parseInteger(
            value.text(), static_cast<int>(std::clamp<int64_t>(arguments.integer(1, 10), 0, 36))))
        return Value::integer(*whole);
    const auto real = parseFloat(value.text());
    return !real || !std::isfinite(*real) ? other : wholeOf(in, *real);
}

Value toFloat(Interpreter& in, const Value& value, const Bound& arguments) {
    in.require(value);
    const Value other = arguments.valueOr(0, Value::real(0));
    if (value.isNumber())
        return Value::real(value.real());
    const auto real = value.isString() ? parseFloat(value.text()) : std::nullopt;
    return real ? Value::real(*real) : other;
}

Value rounded(Interpreter& in, const Value& value, const Bound& arguments) {
    const int64_t digits = arguments.integer(0, 0);
    const std::string method = arguments.text(1, "common");
    if (method != "common" && method != "ceil" && method != "floor")
        in.fail("method must be common, ceil or floor");
    if (!value.isNumber())
        in.fail(fmt::format("type {} doesn't define __round__ method", typeName(value)));
    if (method == "common")
        return value.isInteger() && digits >= 0 ? Value::integer(value.integer())
               : value.isInteger()
                   ? Value::integer(static_cast<int64_t>(roundDecimal(value.real(), digits)))
                   : Value::real(roundDecimal(value.real(), digits));
    const double scale = std::pow(10.0, static_cast<double>(digits));
    const double scaled = value.real() * scale;
    return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value fileSize(Interpreter& in, const Value& value, const Bound& arguments) {
    in.require(value);
    const auto number = value.isNumber()   ? std::optional(value.real())
                        : value.isString() ? parseFloat(value.text())
                                           : std::nullopt;
    if (!number)
        in.fail("could not convert string to float: " + in.repr(value));
    const bool binary = arguments.truth(0, false);
    const double base = binary ? 1024 : 1000;
    if (*number == 1)
        return Value::string("1 Byte");
    if (*number < base)
        return Value::string(fmt::format("{:.0f} Bytes", std::trunc(*number)));
    double unit = base;
    std::string text;
    for (const char prefix : std::string_view(binary ? "KMGTPEZY" : "kMGTPEZY")) {
        unit *= base;
        text = fmt::format("{:.1f} {}{}", base * *number / unit, prefix, binary ? "iB" : "B");
        if (*number < unit)
            break;
    }
    return in.text(text);
}

Value random(Interpreter& in, const Value&, const Bound&) {
    in.fail("'random' is refused: the same conversation must give the same prompt");
}

constexpr FilterRow kRows[] = {
    {"abs", "", absolute},
    {"int", "default base", toInteger},
    {"float", "default", toFloat},
    {"round", "precision method", rounded},
    {"filesizeformat", "binary", fileSize},
    {"random", "", random},
};

} // namespace

std::span<const FilterRow> numberFilters() {
    return kRows;
}

} // namespace nibble::jinja
