#pragma once

#include "core/template/value.h"

#include <string>
#include <string_view>

/// Numbers as Python writes, reads and computes them. Integers have 64 bits; what needs more is
/// refused.
namespace nibble::jinja {

/// A number literal at the start of a text.
struct NumberText {
    size_t length = 0;
    bool isFloat = false, isTooLarge = false;
    int64_t integer = 0;
    double real = 0;
};
NumberText readNumber(std::string_view text, bool mayBeFloat);

std::string floatText(double value); ///< repr()

/// int(text, base) and float(text); nothing when the text is not one.
std::optional<int64_t> parseInteger(std::string_view text, int base);
std::optional<double> parseFloat(std::string_view text);

/// The operators + − * / // % ** on two numbers.
Value arithmetic(Interpreter& in, std::string_view op, const Value& a, const Value& b);
/// round(x, digits), half to even, exact in decimal.
double roundDecimal(double value, int64_t digits);

} // namespace nibble::jinja
