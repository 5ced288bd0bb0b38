#pragma once

#include "core/template/ast.h"
#include "core/template/numbers.h"
#include "core/template/template.h"

#include <chrono>
#include <fmt/format.h>
#include <memory>
#include <string>
#include <vector>

namespace nibble::jinja {

/// Variables of one part of a template, inside those around it.
struct Scope {
    std::shared_ptr<Scope> parent;
    std::vector<std::pair<std::string_view, Value>> names; ///< views of the tree's names
    bool isKept = false; ///< a macro refers to it, so the interpreter frees it at the end
    Value* find(std::string_view name);
    void set(std::string_view name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

/// Goes once through what a value has inside.
class Iteration {
public:
    /// Error{BadInput} when it has nothing inside.
    Iteration(Interpreter& in, const Value& value);
    std::optional<Value> next();

private:
    Interpreter& m_in;
    Value m_value;
    size_t m_at = 0;
};

struct Loop;

/// Runs one template once, within limits of steps, time, memory, output and depth. What filters,
/// tests and methods need of it is public.
class Interpreter {
public:
    Interpreter(const Tree& tree, const RenderOptions& options);
    ~Interpreter();
    Interpreter(const Interpreter&) = delete;
    Interpreter& operator=(const Interpreter&) = delete;

    std::string run(const Json& variables);

    [[noreturn]] void fail(const std::string& message, bool refused = false) const;
    /// Counts work: about a microsecond's.
    void step(int64_t count = 1);
    /// Error{BadInput} when a text or list of so many bytes is more than there may be.
    void checkSize(uint64_t bytes) const;
    void checkDepth(int depth) const;

    Value text(std::string text);
    Value list(std::vector<Value> items, Value::Kind kind = Value::Kind::List);
    Value view(std::vector<Value> items, const char* typeName);
    std::shared_ptr<Dict> newDict(size_t entries);
    Value dict(std::shared_ptr<Dict> dict) const;
    Value undefined(std::string message) const;
    Value undefinedName(std::string_view name) const;
    /// Items of a function that ends with nothing; `source` is what it reads from.
    Value generator(const Value& source, std::function<std::optional<Value>()> next);
    Value generator(std::vector<Value> items);
    /// The same, made from `source` when the first of them is asked for.
    Value deferred(const Value& source, std::function<std::vector<Value>()> make);
    Value function(std::string name, std::function<Value(Interpreter&, const Arguments&)> call,
                   const char* typeName = "function");
    Value fromJson(const Json& json);
    std::shared_ptr<Namespace> newNamespace();
    /// Error{BadInput} with what an undefined value says of itself, when it is one.
    void require(const Value& value) const;

    std::string str(const Value& value);
    std::string repr(const Value& value);

    Value attribute(const Value& object, std::string_view name);
    /// What the type itself has of that name, not an entry of a dictionary.
    Value attributeOnly(const Value& object, std::string_view name);
    Value item(const Value& object, const Value& key);
    Value call(const Value& callee, const Arguments& arguments);
    Value binary(std::string_view op, const Value& a, const Value& b);
    bool compare(std::string_view op, const Value& a, const Value& b);
    bool less(const Value& a, const Value& b) { return compare("<", a, b); }
    bool contains(const Value& container, const Value& value);
    std::vector<Value> toList(const Value& value);
    /// The items of what must have exactly `count`.
    std::vector<Value> unpacked(const Value& value, size_t count);
    int64_t length(const Value& value);
    bool isIterable(const Value& value) const;

    const RenderOptions& options() const { return m_options; }
    const Tree& tree() const { return m_tree; }
    void setLine(int line) { m_line = line; }

    /// Counts how deep it is inside itself.
    class Level {
    public:
        explicit Level(Interpreter& in) : m_in(in) { in.enter(); }
        ~Level() { --m_in.m_depth; }
        Level(const Level&) = delete;
        Level& operator=(const Level&) = delete;

    private:
        Interpreter& m_in;
    };

private:
    friend struct Loop;
    enum class Flow : uint8_t { Next, Break, Continue };

    void enter();
    // statements.cpp
    Flow execute(const Body& body, const ScopePtr& scope, std::string& out);
    Flow execute(const Statement& s, const ScopePtr& scope, std::string& out);
    Flow executeFor(const Statement& s, const ScopePtr& scope, std::string& out);
    void runLoop(const Statement& s, const ScopePtr& scope, const Value& iterable, int depth,
                 std::string& out, Flow& flow);
    void executeBlock(const Statement& s, const ScopePtr& scope, std::string& out);
    std::string render(const Body& body, const ScopePtr& scope);
    void assign(const Expression& target, Value value, Scope& scope);
    void setField(const Expression& target, Value value, Scope& scope);
    Value makeMacro(const Statement& s, const ScopePtr& scope, const std::string& name);
    Value callMacro(const Statement& s, const std::string& name, const ScopePtr& scope,
                    const Arguments& arguments);
    void put(std::string& out, std::string_view text);
    ScopePtr inner(const ScopePtr& parent, const std::vector<std::string>& hidden) const;
    void keep(const ScopePtr& scope);

    // expressions.cpp
    Value evaluate(const Expression& e, const ScopePtr& scope);
    Value evaluateName(const Expression& e, const ScopePtr& scope);
    Value evaluateDict(const Expression& e, const ScopePtr& scope);
    Value evaluateItem(const Expression& e, const ScopePtr& scope);
    Value evaluateSlice(const Value& object, const Expression& slice, const ScopePtr& scope);
    bool evaluateCompare(const Expression& e, const ScopePtr& scope);
    Value evaluateCall(const Expression& e, const ScopePtr& scope, const Value* caller = nullptr);
    Value evaluateFilter(const Expression& e, const ScopePtr& scope, const Value* blockText);
    bool evaluateTest(const Expression& e, const ScopePtr& scope);
    Arguments evaluateArguments(const CallArguments& arguments, const ScopePtr& scope);
    std::vector<Value> evaluateAll(const std::vector<ExpressionPtr>& all, const ScopePtr& scope);
    Value negative(const Value& value, bool negate);

    void writeStr(std::string& out, const Value& value, bool asRepr);
    void writeItems(std::string& out, const std::vector<Value>& items, char open, char close);

    const Tree& m_tree;
    const RenderOptions& m_options;
    std::unordered_map<std::string_view, Value> m_globals;
    ScopePtr m_root;
    std::vector<ScopePtr> m_kept;
    std::vector<std::shared_ptr<Namespace>> m_namespaces;
    int64_t m_steps = 0, m_nextLook = 0;
    mutable int64_t m_memory = 0;
    int m_depth = 0, m_calls = 0, m_line = 1;
    double m_start; ///< seconds of this thread
};

/// The functions that every template has ("range", "namespace"…).
void addGlobals(Interpreter& in, std::unordered_map<std::string_view, Value>& globals);
/// A method or field that Python's type has; nothing when it has none of that name.
std::optional<Value> findMethod(Interpreter& in, const Value& object, std::string_view name);
/// json.dumps() with these settings.
struct JsonStyle {
    std::optional<std::string> indent; ///< of one level; none = all on one line
    bool ascii = false, sorted = false;
    std::string itemSeparator = ", ", keySeparator = ": ";
};
std::string toJson(Interpreter& in, const Value& value, const JsonStyle& style);
/// "…".format(…) and "…" % ….
std::string formatText(Interpreter& in, std::string_view text, const Arguments& arguments);
std::string formatPercent(Interpreter& in, std::string_view text, const Value& values);
/// repr() of a text.
std::string reprOf(std::string_view text);

} // namespace nibble::jinja
