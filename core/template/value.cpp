#include "core/template/value.h"

#include <cmath>

namespace nibble::jinja {

using Kind = Value::Kind;

Value Value::string(std::string text) {
    auto object = std::make_shared<Text>();
    object->text = std::move(text);
    return Value(Kind::String, std::move(object));
}

const std::string& Value::text() const {
    return as<Text>().text;
}

const std::vector<Value>& Value::items() const {
    return as<Items>().items;
}

namespace {

bool equalItems(const std::vector<Value>& a, const std::vector<Value>& b) {
    if (a.size() != b.size())
        return false;
    for (size_t i = 0; i < a.size(); ++i)
        if (!equal(a[i], b[i]))
            return false;
    return true;
}

bool equalDicts(const Dict& a, const Dict& b) {
    if (a.items.size() != b.items.size())
        return false;
    for (const auto& [key, value] : a.items) {
        const Value* other = b.find(key);
        if (!other || !equal(value, *other))
            return false;
    }
    return true;
}

bool equalNumbers(const Value& a, const Value& b) {
    if (a.isInteger() && b.isInteger())
        return a.integer() == b.integer();
    if (a.is(Kind::Float) && b.is(Kind::Float))
        return a.real() == b.real();
    // Exactly: a large integer is not equal to the float that it rounds to.
    const double real = a.is(Kind::Float) ? a.real() : b.real();
    const int64_t whole = a.is(Kind::Float) ? b.integer() : a.integer();
    return std::abs(real) < 9.2e18 && std::trunc(real) == real &&
           static_cast<int64_t>(real) == whole;
}

} // namespace

bool equal(const Value& a, const Value& b) {
    if (a.isNumber() && b.isNumber())
        return equalNumbers(a, b);
    if (a.kind() != b.kind())
        return false;
    switch (a.kind()) {
    case Kind::Undefined:
    case Kind::None:
        return true;
    case Kind::String:
        return a.text() == b.text();
    case Kind::List:
    case Kind::Tuple:
    case Kind::View:
        return equalItems(a.items(), b.items());
    case Kind::Dict:
        return equalDicts(a.as<Dict>(), b.as<Dict>());
    case Kind::Range: {
        const auto &x = a.as<RangeObject>(), &y = b.as<RangeObject>();
        return x.size() == y.size() &&
               (x.size() == 0 || (x.start == y.start && (x.size() == 1 || x.step == y.step)));
    }
    default:
        return a.object() == b.object();
    }
}

bool isHashable(const Value& value) {
    switch (value.kind()) {
    case Kind::List:
    case Kind::Dict:
    case Kind::View:
        return false;
    case Kind::Tuple:
        for (const Value& item : value.items())
            if (!isHashable(item))
                return false;
        return true;
    default:
        return true;
    }
}

size_t hashOf(const Value& value) {
    switch (value.kind()) {
    case Kind::Undefined:
    case Kind::None:
        return static_cast<size_t>(value.kind());
    case Kind::Bool:
    case Kind::Int:
        return std::hash<int64_t>()(value.integer());
    case Kind::Float: // equal to the integer's where they are equal
        if (std::abs(value.real()) < 9.2e18 && std::trunc(value.real()) == value.real())
            return std::hash<int64_t>()(static_cast<int64_t>(value.real()));
        return std::hash<double>()(value.real());
    case Kind::String:
        return std::hash<std::string_view>()(value.text());
    case Kind::Tuple: {
        size_t hash = 7;
        for (const Value& item : value.items())
            hash = hash * 1'000'003 + hashOf(item);
        return hash;
    }
    default:
        return std::hash<const void*>()(value.object());
    }
}

bool isTrue(const Value& value) {
    switch (value.kind()) {
    case Kind::Undefined:
    case Kind::None:
        return false;
    case Kind::Bool:
    case Kind::Int:
        return value.integer() != 0;
    case Kind::Float:
        return value.real() != 0;
    case Kind::String:
        return !value.text().empty();
    case Kind::List:
    case Kind::Tuple:
    case Kind::View:
        return !value.items().empty();
    case Kind::Dict:
        return !value.as<Dict>().items.empty();
    case Kind::Range:
        return value.as<RangeObject>().size() > 0;
    default:
        return true;
    }
}

std::optional<size_t> Dict::place(const Value& key, size_t hash) const {
    for (auto [at, end] = m_index.equal_range(hash); at != end; ++at)
        if (equal(items[at->second].first, key))
            return at->second;
    return {};
}

const Value* Dict::find(const Value& key) const {
    const auto at = place(key, hashOf(key));
    return at ? &items[*at].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
    const size_t hash = std::hash<std::string_view>()(key);
    for (auto [at, end] = m_index.equal_range(hash); at != end; ++at)
        if (const auto& [name, value] = items[at->second]; name.isString() && name.text() == key)
            return &value;
    return nullptr;
}

void Dict::set(const Value& key, Value value) {
    depth = std::max({depth, key.depth() + 1, value.depth() + 1});
    const size_t hash = hashOf(key);
    if (const auto at = place(key, hash)) {
        items[*at].second = std::move(value);
        return;
    }
    m_index.emplace(hash, items.size());
    items.emplace_back(key, std::move(value));
}

int64_t RangeObject::size() const {
    // All three are bounded where ranges are made, so that nothing here overflows.
    if (step > 0)
        return start >= stop ? 0 : (stop - start - 1) / step + 1;
    return start <= stop ? 0 : (start - stop - 1) / -step + 1;
}

Value* Namespace::find(std::string_view name) {
    for (auto& [known, value] : names)
        if (known == name)
            return &value;
    return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
    if (Value* known = find(name))
        *known = std::move(value);
    else
        names.emplace_back(name, std::move(value));
}

std::string typeName(const Value& value) {
    switch (value.kind()) {
    case Kind::Undefined:
        return "Undefined";
    case Kind::None:
        return "NoneType";
    case Kind::Bool:
        return "bool";
    case Kind::Int:
        return "int";
    case Kind::Float:
        return "float";
    case Kind::String:
        return "str";
    case Kind::List:
        return "list";
    case Kind::Tuple:
        return "tuple";
    case Kind::View:
        return value.as<Items>().typeName;
    case Kind::Dict:
        return "dict";
    case Kind::Range:
        return "range";
    case Kind::Namespace:
        return "Namespace";
    case Kind::Callable:
        return value.as<Callable>().typeName;
    case Kind::Loop:
        return "LoopContext";
    case Kind::Cycler:
        return "Cycler";
    case Kind::Joiner:
        return "Joiner";
    case Kind::Generator:
        return "generator";
    case Kind::Block:
        return "TemplateReference";
    }
    return {};
}

std::string describe(const Value& value) {
    switch (value.kind()) {
    case Kind::None:
        return "None";
    case Kind::Undefined:
    case Kind::Loop:
    case Kind::Block:
        return "jinja2.runtime." + typeName(value) + " object";
    case Kind::Namespace:
    case Kind::Cycler:
    case Kind::Joiner:
        return "jinja2.utils." + typeName(value) + " object";
    case Kind::Callable:
        if (value.as<Callable>().isMacro)
            return "jinja2.runtime.Macro object";
        [[fallthrough]];
    default:
        return typeName(value) + " object";
    }
}

} // namespace nibble::jinja
