#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

/// The values of the template language: Python's, as far as a template can make or see them.
namespace nibble::jinja {

class Interpreter;

/// Memory of one rendering, given back as its values die.
class Charge {
public:
    Charge() = default;
    Charge(int64_t& used, size_t bytes) : m_used(&used), m_bytes(static_cast<int64_t>(bytes)) {
        used += m_bytes;
    }
    ~Charge() {
        if (m_used)
            *m_used -= m_bytes;
    }
    Charge(const Charge&) = delete;
    Charge& operator=(const Charge&) = delete;

private:
    int64_t* m_used = nullptr;
    int64_t m_bytes = 0;
};

/// What a value refers to. `depth` counts the containers inside each other, so that walking and
/// freeing a value has a bound.
struct Object {
    Object() = default;
    Object(int64_t& used, size_t bytes) : charge(used, bytes) {}
    virtual ~Object() = default;
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    int depth = 1;
    Charge charge;
};

class Value {
public:
    enum class Kind : uint8_t {
        Undefined,
        None,
        Bool,
        Int,
        Float,
        String,
        List,
        Tuple,
        View, ///< what dict.items() and its like give
        Dict,
        Range,
        Namespace,
        Callable, ///< a macro, a method with its object, a global function
        Loop,
        Cycler,
        Joiner,
        Generator, ///< items made when they are asked for, once
        Block,     ///< `self`
    };

    Value() = default; ///< undefined, without a name
    static Value none() { return Value(Kind::None); }
    static Value boolean(bool b) {
        Value v(Kind::Bool);
        v.m_int = b;
        return v;
    }
    static Value integer(int64_t i) {
        Value v(Kind::Int);
        v.m_int = i;
        return v;
    }
    static Value real(double d) {
        Value v(Kind::Float);
        v.m_real = d;
        return v;
    }
    /// A short text that no memory limit needs to know of; Interpreter::text makes the others.
    static Value string(std::string text);
    Value(Kind kind, std::shared_ptr<Object> object) : m_kind(kind), m_object(std::move(object)) {}

    Kind kind() const { return m_kind; }
    bool is(Kind kind) const { return m_kind == kind; }
    bool isUndefined() const { return m_kind == Kind::Undefined; }
    bool isNone() const { return m_kind == Kind::None; }
    bool isString() const { return m_kind == Kind::String; }
    bool isNumber() const { return isInteger() || m_kind == Kind::Float; }
    bool isInteger() const { return m_kind == Kind::Int || m_kind == Kind::Bool; } ///< as Python
    bool isSequence() const { return m_kind == Kind::List || m_kind == Kind::Tuple; }

    int64_t integer() const { return m_int; } ///< of Int and Bool
    double real() const { return m_kind == Kind::Float ? m_real : static_cast<double>(m_int); }
    const std::string& text() const;         ///< of String
    const std::vector<Value>& items() const; ///< of List, Tuple and View
    template <typename T>
    T& as() const {
        return static_cast<T&>(*m_object);
    }
    const Object* object() const { return m_object.get(); }
    int depth() const { return m_object ? m_object->depth : 0; }

private:
    explicit Value(Kind kind) : m_kind(kind) {}
    Kind m_kind = Kind::Undefined;
    union {
        int64_t m_int = 0;
        double m_real;
    };
    std::shared_ptr<Object> m_object;
};

struct Text : Object {
    using Object::Object;
    std::string text;
};

struct Items : Object {
    using Object::Object;
    std::vector<Value> items;
    const char* typeName = "list"; ///< of a View: "dict_items"…
    bool isGroup = false;          ///< a pair of groupby: its items are `grouper` and `list` too
};

/// Keys in the order of their first appearance.
struct Dict : Object {
    using Object::Object;
    std::vector<std::pair<Value, Value>> items;
    /// Null when there is no such key.
    const Value* find(const Value& key) const;
    const Value* find(std::string_view key) const;
    void set(const Value& key, Value value);

private:
    std::optional<size_t> place(const Value& key, size_t hash) const;
    std::unordered_multimap<size_t, size_t> m_index; ///< hash → place
};

struct RangeObject : Object {
    using Object::Object;
    int64_t start = 0, stop = 0, step = 1;
    int64_t size() const;
};

/// Names with values, in the order in which they were set.
struct Namespace : Object {
    using Object::Object;
    std::vector<std::pair<std::string, Value>> names;
    Value* find(std::string_view name);
    void set(std::string_view name, Value value);
};

/// Why a value is undefined: what an error about it says.
struct UndefinedReason : Object {
    std::string message;
};

struct Arguments {
    std::vector<Value> positional;
    std::vector<std::pair<std::string, Value>> named;
};

struct Callable : Object {
    using Object::Object;
    std::string name;
    const char* typeName = "function";
    std::function<Value(Interpreter&, const Arguments&)> call;
    std::vector<std::string> parameters; ///< of a macro
    bool isMacro = false, catchesNamed = false, catchesMore = false, takesCaller = false;
};

struct Cycler : Object {
    using Object::Object;
    std::vector<Value> items;
    size_t at = 0;
};

struct Joiner : Object {
    using Object::Object;
    std::string separator;
    bool used = false;
};

struct Generator : Object {
    using Object::Object;
    std::function<std::optional<Value>()> next;
};

/// Equality and hash as Python's; of values that can be keys, and of all others.
bool equal(const Value& a, const Value& b);
size_t hashOf(const Value& value);
bool isHashable(const Value& value);
bool isTrue(const Value& value);

/// Python's name of the type ("str", "dict", "NoneType").
std::string typeName(const Value& value);
/// How Jinja names a value in its messages ("'dict object'", "'None'"), without the quotes.
std::string describe(const Value& value);

} // namespace nibble::jinja
