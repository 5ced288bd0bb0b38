#include "core/template/filters.h"
#include "core/template/unicode.h"

#include <algorithm>

/// What can stand behind `is`.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

using Others = std::span<const Value>;

template <Kind kind>
bool isKind(Interpreter&, const Value& value, Others) {
    return value.is(kind);
}

bool isDefined(Interpreter&, const Value& value, Others) {
    return !value.isUndefined();
}
bool isTrueItself(Interpreter&, const Value& value, Others) {
    return value.is(Kind::Bool) && value.integer();
}
bool isFalseItself(Interpreter&, const Value& value, Others) {
    return value.is(Kind::Bool) && !value.integer();
}
bool isNumber(Interpreter&, const Value& value, Others) {
    return value.isNumber();
}
bool isSequence(Interpreter&, const Value& value, Others) {
    return value.isSequence() || value.isString() || value.is(Kind::Dict) ||
           value.is(Kind::Range) || value.isUndefined();
}
bool isIterable(Interpreter& in, const Value& value, Others) {
    return in.isIterable(value) || value.is(Kind::Loop);
}
bool isCallable(Interpreter&, const Value& value, Others) {
    return value.is(Kind::Callable) || value.is(Kind::Loop) || value.is(Kind::Joiner) ||
           value.isUndefined();
}
bool isNever(Interpreter&, const Value&, Others) {
    return false;
}

template <int rest>
bool hasRest(Interpreter& in, const Value& value, Others) {
    return equal(in.binary("%", value, Value::integer(2)), Value::integer(rest));
}
bool isDivisible(Interpreter& in, const Value& value, Others others) {
    return equal(in.binary("%", value, others[0]), Value::integer(0));
}

bool isLowerText(Interpreter& in, const Value& value, Others) {
    const std::u32string text = characters(in.str(value));
    return std::any_of(text.begin(), text.end(), isLower) &&
           std::none_of(text.begin(), text.end(),
                        [](char32_t c) { return isCased(c) && !isLower(c); });
}
bool isUpperText(Interpreter& in, const Value& value, Others) {
    const std::u32string text = characters(in.str(value));
    return std::any_of(text.begin(), text.end(), isUpper) &&
           std::none_of(text.begin(), text.end(),
                        [](char32_t c) { return isCased(c) && !isUpper(c); });
}

bool isSame(Interpreter&, const Value& value, Others others) {
    const Value& other = others[0];
    if (value.kind() != other.kind())
        return false;
    if (value.isInteger() || value.isNone())
        return value.integer() == other.integer();
    return value.object() && value.object() == other.object();
}
bool isIn(Interpreter& in, const Value& value, Others others) {
    return in.contains(others[0], value);
}

/// Each comparison under all its names.
bool equals(Interpreter&, const Value& value, Others others) {
    return equal(value, others[0]);
}
bool differs(Interpreter&, const Value& value, Others others) {
    return !equal(value, others[0]);
}
bool less(Interpreter& in, const Value& value, Others others) {
    return in.compare("<", value, others[0]);
}
bool lessOrEqual(Interpreter& in, const Value& value, Others others) {
    return in.compare("<=", value, others[0]);
}
bool greater(Interpreter& in, const Value& value, Others others) {
    return in.compare(">", value, others[0]);
}
bool greaterOrEqual(Interpreter& in, const Value& value, Others others) {
    return in.compare(">=", value, others[0]);
}

bool isFilter(Interpreter&, const Value& value, Others) {
    return value.isString() && findFilter(value.text());
}
bool isTest(Interpreter&, const Value& value, Others) {
    return value.isString() && findTest(value.text());
}

constexpr TestRow kRows[] = {
    {"boolean", 0, isKind<Kind::Bool>},
    {"callable", 0, isCallable},
    {"defined", 0, isDefined},
    {"divisibleby", 1, isDivisible},
    {"escaped", 0, isNever},
    {"even", 0, hasRest<0>},
    {"false", 0, isFalseItself},
    {"filter", 0, isFilter},
    {"float", 0, isKind<Kind::Float>},
    {"in", 1, isIn},
    {"integer", 0, isKind<Kind::Int>},
    {"iterable", 0, isIterable},
    {"lower", 0, isLowerText},
    {"mapping", 0, isKind<Kind::Dict>},
    {"none", 0, isKind<Kind::None>},
    {"number", 0, isNumber},
    {"odd", 0, hasRest<1>},
    {"sameas", 1, isSame},
    {"sequence", 0, isSequence},
    {"string", 0, isKind<Kind::String>},
    {"test", 0, isTest},
    {"true", 0, isTrueItself},
    {"undefined", 0, isKind<Kind::Undefined>},
    {"upper", 0, isUpperText},
    {"==", 1, equals},
    {"eq", 1, equals},
    {"equalto", 1, equals},
    {"!=", 1, differs},
    {"ne", 1, differs},
    {"<", 1, less},
    {"lt", 1, less},
    {"lessthan", 1, less},
    {"<=", 1, lessOrEqual},
    {"le", 1, lessOrEqual},
    {">", 1, greater},
    {"gt", 1, greater},
    {"greaterthan", 1, greater},
    {">=", 1, greaterOrEqual},
    {"ge", 1, greaterOrEqual},
};

} // namespace

const TestRow* findTest(std::string_view name) {
    for (const TestRow& row : kRows)
        if (row.name == name)
            return &row;
    return nullptr;
}

bool applyTest(Interpreter& in, const TestRow& row, const Value& value,
               const Arguments& arguments) {
    in.step();
    std::vector<Value> all = arguments.positional;
    for (const auto& [name, one] : arguments.named)
        all.push_back(one);
    if (static_cast<int>(all.size()) != row.arguments)
        in.fail(fmt::format("test_{}() takes {} positional argument{} but {} were given", row.name,
                            row.arguments + 1, row.arguments > 0 ? "s" : "", all.size() + 1));
    return row.holds(in, value, all);
}

} // namespace nibble::jinja
