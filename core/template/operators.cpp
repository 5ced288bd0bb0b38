#include "core/template/interpreter.h"
#include "core/template/loop.h"
#include "core/template/unicode.h"

#include <algorithm>

/// What operators and subscripts do with each type.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

[[noreturn]] void unsupported(Interpreter& in, std::string_view op, const Value& a,
                              const Value& b) {
    in.fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'",
                        op == "**" ? "** or pow()" : op, typeName(a), typeName(b)));
}

Value repeated(Interpreter& in, const Value& sequence, int64_t times) {
    const auto count = static_cast<uint64_t>(std::max<int64_t>(times, 0));
    uint64_t bytes = 0;
    const uint64_t one =
        sequence.isString() ? sequence.text().size() : sequence.items().size() * sizeof(Value);
    in.checkSize(__builtin_mul_overflow(one, count, &bytes) ? UINT64_MAX : bytes);
    if (one == 0)
        return sequence;
    if (sequence.isString()) {
        std::string out;
        out.reserve(bytes);
        for (uint64_t i = 0; i < count; ++i)
            out += sequence.text();
        return in.text(std::move(out));
    }
    std::vector<Value> out;
    out.reserve(count * sequence.items().size());
    for (uint64_t i = 0; i < count; ++i)
        out.insert(out.end(), sequence.items().begin(), sequence.items().end());
    return in.list(std::move(out), sequence.kind());
}

Value sumOf(Interpreter& in, const Value& a, const Value& b) {
    if (a.isString() && b.isString()) {
        in.checkSize(a.text().size() + b.text().size());
        return in.text(a.text() + b.text());
    }
    if (a.isSequence() && a.kind() == b.kind()) {
        std::vector<Value> out = a.items();
        out.insert(out.end(), b.items().begin(), b.items().end());
        return in.list(std::move(out), a.kind());
    }
    if (a.isString() || a.isSequence())
        in.fail(
            fmt::format("can only concatenate {0} (not \"{1}\") to {0}", typeName(a), typeName(b)));
    unsupported(in, "+", a, b);
}

int compareNumbers(const Value& a, const Value& b) {
    if (a.isInteger() && b.isInteger())
        return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
    return a.real() < b.real() ? -1 : a.real() > b.real();
}

} // namespace

Value Interpreter::binary(std::string_view op, const Value& a, const Value& b) {
    if (op == "%" && a.isString())
        return text(formatPercent(*this, a.text(), b));
    require(a);
    require(b);
    if (a.isNumber() && b.isNumber())
        return arithmetic(*this, op, a, b);
    if (op == "+")
        return sumOf(*this, a, b);
    const auto repeats = [](const Value& v) { return v.isString() || v.isSequence(); };
    if (op == "*" && (repeats(a) || repeats(b))) {
        const Value &sequence = repeats(a) ? a : b, &times = repeats(a) ? b : a;
        if (!times.isInteger())
            fail(fmt::format("can't multiply sequence by non-int of type '{}'", typeName(times)));
        return repeated(*this, sequence, times.integer());
    }
    unsupported(*this, op, a, b);
}

Value Interpreter::negative(const Value& value, bool negate) {
    require(value);
    if (!value.isNumber())
        fail(fmt::format("bad operand type for unary {}: '{}'", negate ? '-' : '+',
                         typeName(value)));
    if (value.is(Kind::Float))
        return Value::real(negate ? -value.real() : value.real());
    if (negate && value.integer() == INT64_MIN)
        fail("an integer became too large: integers have 64 bits here");
    return Value::integer(negate ? -value.integer() : value.integer());
}

bool Interpreter::compare(std::string_view op, const Value& a, const Value& b) {
    step();
    if (op == "in")
        return contains(b, a);
    if (op == "not in")
        return !contains(b, a);
    if (op == "==" || op == "!=")
        return equal(a, b) == (op == "==");
    require(a);
    require(b);
    int order = 0;
    if (a.isNumber() && b.isNumber()) {
        if (a.real() != a.real() || b.real() != b.real())
            return false; // not a number: in no order
        order = compareNumbers(a, b);
    } else if (a.isString() && b.isString()) {
        order = a.text().compare(b.text()); // bytes of UTF-8 are in the order of characters
    } else if (a.isSequence() && a.kind() == b.kind()) {
        const auto &x = a.items(), &y = b.items();
        size_t at = 0;
        while (at < x.size() && at < y.size() && equal(x[at], y[at])) {
            step();
            ++at;
        }
        if (at < x.size() && at < y.size())
            return compare(op, x[at], y[at]);
        order = x.size() < y.size() ? -1 : x.size() > y.size();
    } else {
        fail(fmt::format("'{}' not supported between instances of '{}' and '{}'", op, typeName(a),
                         typeName(b)));
    }
    return op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
}

bool Interpreter::contains(const Value& container, const Value& value) {
    switch (container.kind()) {
    case Kind::String:
        if (!value.isString())
            fail("'in <string>' requires string as left operand, not " + typeName(value));
        step(static_cast<int64_t>(container.text().size() / 256));
        return container.text().find(value.text()) != std::string::npos;
    case Kind::Dict:
        if (!isHashable(value))
            fail("unhashable type: '" + typeName(value) + "'");
        return container.as<Dict>().find(value) != nullptr;
    default:
        break;
    }
    if (!isIterable(container))
        fail("argument of type '" + typeName(container) + "' is not iterable");
    Iteration iteration(*this, container);
    while (const auto item = iteration.next())
        if (equal(*item, value))
            return true;
    return false;
}

namespace {

/// Names of a type's own machinery, which would lead out of the sandbox in Python.
bool isInternal(std::string_view name) {
    constexpr std::string_view kNames[] = {
        "__class__",        "__dict__",    "__doc__",          "__init__", "__module__",
        "__subclasshook__", "__eq__",      "__getattribute__", "__hash__", "__str__",
        "__repr__",         "__reduce__",  "__new__",          "__dir__",  "__format__",
        "__sizeof__",       "__setattr__", "__delattr__",      "__ne__",   "__lt__",
        "__init_subclass__"};
    return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

/// What a template may not touch: harmless until it is used.
Value unsafe(const Interpreter& in, const Value& object, std::string_view name) {
    return in.undefined(fmt::format("access to attribute {} of {} object is unsafe.", reprOf(name),
                                    reprOf(typeName(object))));
}

/// Methods that change their object.
bool changes(const Value& object, std::string_view name) {
    static constexpr std::string_view kOfLists[] = {"append", "clear",  "pop",  "reverse",
                                                    "insert", "extend", "sort", "remove"};
    static constexpr std::string_view kOfDicts[] = {"clear", "pop", "popitem", "setdefault",
                                                    "update"};
    const auto has = [&](const auto& names) {
        return std::find(std::begin(names), std::end(names), name) != std::end(names);
    };
    return (object.is(Kind::List) && has(kOfLists)) || (object.is(Kind::Dict) && has(kOfDicts));
}

/// What Python's getattr() gives; nothing where there is no such attribute.
std::optional<Value> attributeOf(Interpreter& in, const Value& object, std::string_view name) {
    if (changes(object, name) || isInternal(name))
        return unsafe(in, object, name);
    switch (object.kind()) {
    case Kind::Namespace:
        if (Value* value = object.as<Namespace>().find(name)) {
            if (name.starts_with('_'))
                return unsafe(in, object, name);
            return *value;
        }
        return {};
    case Kind::Loop:
        return object.as<Loop>().field(name, object);
    default:
        return findMethod(in, object, name);
    }
}

/// What Python's object[key] gives; nothing where there is no such item.
std::optional<Value> itemOf(Interpreter& in, const Value& object, const Value& key) {
    if (object.is(Kind::Dict)) {
        const Value* found = isHashable(key) ? object.as<Dict>().find(key) : nullptr;
        return found ? std::optional(*found) : std::nullopt;
    }
    if (!key.isInteger())
        return {};
    const bool indexed = object.isString() || object.isSequence() || object.is(Kind::Range);
    if (!indexed)
        return {};
    const int64_t size = in.length(object);
    const int64_t at = key.integer() < 0 ? key.integer() + size : key.integer();
    if (at < 0 || at >= size)
        return {};
    if (object.is(Kind::Range)) {
        const auto& range = object.as<RangeObject>();
        return Value::integer(range.start + at * range.step);
    }
    if (!object.isString())
        return object.items()[static_cast<size_t>(at)];
    const std::string& text = object.text();
    size_t byte = static_cast<size_t>(at);
    if (static_cast<size_t>(size) != text.size()) { // not all of one byte
        in.step(static_cast<int64_t>(text.size() / 256));
        byte = 0;
        for (int64_t i = 0; i < at; ++i)
            byte += characterBytes(text[byte]);
    }
    return Value::string(text.substr(byte, characterBytes(text[byte])));
}

} // namespace

Value Interpreter::attribute(const Value& object, std::string_view name) {
    if (object.isUndefined() && isInternal(name))
        return unsafe(*this, object, name);
    require(object);
    if (auto found = attributeOf(*this, object, name))
        return std::move(*found);
    if (object.is(Kind::Dict))
        if (const Value* found = object.as<Dict>().find(name))
            return *found;
    if (object.is(Kind::Block)) {
        const auto block = m_tree.blocks.find(name);
        if (block != m_tree.blocks.end())
            return function(
                std::string(name), [s = block->second](Interpreter& in, const Arguments&) {
                    return in.text(in.render(s->bodies[0], in.inner(in.m_root, s->hidden[0])));
                });
    }
    return undefined(fmt::format("{} has no attribute {}", reprOf(describe(object)), reprOf(name)));
}

Value Interpreter::attributeOnly(const Value& object, std::string_view name) {
    require(object);
    if (auto found = attributeOf(*this, object, name))
        return std::move(*found);
    return undefined(fmt::format("{} has no attribute {}", reprOf(describe(object)), reprOf(name)));
}

Value Interpreter::item(const Value& object, const Value& key) {
    require(object);
    if (auto found = itemOf(*this, object, key))
        return std::move(*found);
    if (!key.isString())
        return undefined(fmt::format("{} has no element {}", describe(object), repr(key)));
    if (auto found = attributeOf(*this, object, key.text()))
        return std::move(*found);
    return undefined(
        fmt::format("{} has no attribute {}", reprOf(describe(object)), reprOf(key.text())));
}

} // namespace nibble::jinja
