#include "core/template/methods.h"

#include "core/template/unicode.h"

#include <algorithm>

/// Methods of texts that ask what they are made of, and those that fill them up.
namespace nibble::jinja {

std::string padded(Interpreter& in, std::string_view text, int64_t width, char32_t fill,
                   double before) {
    const int64_t missing = width - countCharacters(text);
    if (missing <= 0)
        return std::string(text);
    in.checkSize(static_cast<uint64_t>(missing) * 4 + text.size());
    const auto front = static_cast<int64_t>(static_cast<double>(missing) * before);
    std::string one, out;
    append(one, fill);
    for (int64_t i = 0; i < front; ++i)
        out += one;
    out += text;
    for (int64_t i = front; i < missing; ++i)
        out += one;
    return out;
}

namespace {

template <bool (*holds)(char32_t)>
Value all(Interpreter& in, const Value& self, const Bound&) {
    const std::string_view text = self.text();
    in.step(static_cast<int64_t>(text.size() / 64));
    for (size_t at = 0; at < text.size();)
        if (!holds(nextCharacter(text, at)))
            return Value::boolean(false);
    return Value::boolean(!text.empty());
}

bool isAlnum(char32_t c) {
    return isAlpha(c) || isNumeric(c);
}
bool isNameStart(char32_t c) {
    return isAlpha(c) || c == '_';
}

Value isAscii(Interpreter&, const Value& self, const Bound&) {
    return Value::boolean(std::all_of(self.text().begin(), self.text().end(),
                                      [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

Value isAllPrintable(Interpreter& in, const Value& self, const Bound& arguments) {
    return self.text().empty() ? Value::boolean(true) : all<isPrintable>(in, self, arguments);
}

Value isIdentifier(Interpreter&, const Value& self, const Bound&) {
    const std::u32string text = characters(self.text());
    return Value::boolean(!text.empty() && isNameStart(text[0]) &&
                          std::all_of(text.begin(), text.end(),
                                      [](char32_t c) { return isNameStart(c) || isDecimal(c); }));
}

/// All letters with case have this one, and there is one.
template <bool (*wanted)(char32_t), bool (*other)(char32_t)>
Value isInCase(Interpreter&, const Value& self, const Bound&) {
    bool found = false;
    for (const char32_t c : characters(self.text())) {
        if (other(c) || (isCased(c) && !wanted(c)))
            return Value::boolean(false);
        found |= wanted(c);
    }
    return Value::boolean(found);
}

Value isTitle(Interpreter&, const Value& self, const Bound&) {
    bool inWord = false, found = false;
    for (const char32_t c : characters(self.text())) {
        if (isCased(c) && isLower(c) != inWord)
            return Value::boolean(false);
        found |= isCased(c);
        inWord = isCased(c);
    }
    return Value::boolean(found);
}

char32_t fillOf(Interpreter& in, const Bound& arguments) {
    const std::u32string fill = characters(arguments.text(1, " "));
    if (fill.size() != 1)
        in.fail("The fill character must be exactly one character long");
    return fill[0];
}

Value ljust(Interpreter& in, const Value& self, const Bound& arguments) {
    arguments.require(0);
    return in.text(padded(in, self.text(), arguments.integer(0, 0), fillOf(in, arguments), 0));
}
Value rjust(Interpreter& in, const Value& self, const Bound& arguments) {
    arguments.require(0);
    return in.text(padded(in, self.text(), arguments.integer(0, 0), fillOf(in, arguments), 1));
}
Value center(Interpreter& in, const Value& self, const Bound& arguments) {
    arguments.require(0);
    const int64_t width = arguments.integer(0, 0), size = countCharacters(self.text());
    // An odd character more goes to the left where the width is odd, as in Python.
    const int64_t missing = std::max<int64_t>(0, width - size);
    const int64_t left = missing / 2 + (missing & width & 1);
    const std::string front =
        padded(in, self.text(), std::min(width, size + left), fillOf(in, arguments), 1);
    return in.text(padded(in, front, width, fillOf(in, arguments), 0));
}

Value zfill(Interpreter& in, const Value& self, const Bound& arguments) {
    std::string_view text = self.text();
    arguments.require(0);
    const bool hasSign = !text.empty() && (text[0] == '+' || text[0] == '-');
    const std::string sign(hasSign ? text.substr(0, 1) : "");
    text.remove_prefix(sign.size());
    const auto width = arguments.integer(0, 0) - static_cast<int64_t>(sign.size());
    return in.text(sign + padded(in, text, width, '0', 1));
}

Value expandTabs(Interpreter& in, const Value& self, const Bound& arguments) {
    const int64_t size = arguments.integer(0, 8);
    std::string out;
    int64_t column = 0;
    for (const char c : self.text()) {
        if (c == '\t') {
            const int64_t spaces = size > 0 ? size - column % size : 0;
            in.checkSize(out.size() + static_cast<uint64_t>(spaces));
            out.append(static_cast<size_t>(spaces), ' ');
            column += spaces;
            continue;
        }
        out += c;
        column = c == '\n' || c == '\r'                           ? 0
                 : (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? column + 1
                                                                  : column;
    }
    return in.text(std::move(out));
}

constexpr MethodRow kQuestions[] = {
    {"isalpha", "", all<isAlpha>},
    {"isalnum", "", all<isAlnum>},
    {"isdecimal", "", all<isDecimal>},
    {"isdigit", "", all<isDigit>},
    {"isnumeric", "", all<isNumeric>},
    {"isspace", "", all<isSpace>},
    {"isprintable", "", isAllPrintable},
    {"isascii", "", isAscii},
    {"isidentifier", "", isIdentifier},
    {"islower", "", isInCase<isLower, isUpper>},
    {"isupper", "", isInCase<isUpper, isLower>},
    {"istitle", "", isTitle},
};

constexpr MethodRow kPadding[] = {
    {"ljust", "width fillchar", ljust},    {"rjust", "width fillchar", rjust},
    {"center", "width fillchar", center},  {"zfill", "width", zfill},
    {"expandtabs", "tabsize", expandTabs},
};

} // namespace

std::span<const MethodRow> stringQuestions() {
    return kQuestions;
}
std::span<const MethodRow> stringPadding() {
    return kPadding;
}

} // namespace nibble::jinja
