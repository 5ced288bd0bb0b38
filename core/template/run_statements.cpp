#include "core/base/limits.h"
#include "core/template/interpreter.h"
#include "core/template/loop.h"

#include <algorithm>

namespace nibble::jinja {

using Kind = Statement::Kind;

void Interpreter::put(std::string& out, std::string_view text) {
    if (out.size() + text.size() > limits::kTemplateOutput)
        fail(fmt::format("it writes more than {} MiB, which is the limit",
                         limits::kTemplateOutput >> 20));
    step(static_cast<int64_t>(text.size() / 1024));
    out += text;
}

ScopePtr Interpreter::inner(const ScopePtr& parent, const std::vector<std::string>& hidden) const {
    auto scope = std::make_shared<Scope>();
    scope->parent = parent;
    for (const std::string& name : hidden)
        scope->set(name, undefinedName(name));
    return scope;
}

/// The variables around a macro live as long as it may be called.
void Interpreter::keep(const ScopePtr& scope) {
    if (scope->isKept)
        return;
    constexpr int64_t kBytes = 256; // of a scope and its place in the list, until the end
    checkSize(kBytes);
    m_memory += kBytes;
    scope->isKept = true;
    m_kept.push_back(scope);
}

std::string Interpreter::render(const Body& body, const ScopePtr& scope) {
    std::string out;
    execute(body, scope, out);
    return out;
}

Interpreter::Flow Interpreter::execute(const Body& body, const ScopePtr& scope, std::string& out) {
    for (const StatementPtr& one : body)
        if (const Flow flow = execute(*one, scope, out); flow != Flow::Next)
            return flow;
    return Flow::Next;
}

Interpreter::Flow Interpreter::execute(const Statement& s, const ScopePtr& scope,
                                       std::string& out) {
    const Level level(*this);
    step();
    m_line = s.line;
    switch (s.kind) {
    case Kind::Text:
        put(out, s.text);
        return Flow::Next;
    case Kind::Print:
        for (const ExpressionPtr& one : s.expressions) {
            const Value value = evaluate(*one, scope);
            if (value.isString())
                put(out, value.text());
            else
                put(out, str(value));
        }
        return Flow::Next;
    case Kind::If:
        for (size_t i = 0; i < s.expressions.size(); ++i)
            if (isTrue(evaluate(*s.expressions[i], scope)))
                return execute(s.bodies[i], scope, out);
        return s.bodies.size() > s.expressions.size() ? execute(s.bodies.back(), scope, out)
                                                      : Flow::Next;
    case Kind::For:
        return executeFor(s, scope, out);
    case Kind::Break:
        return Flow::Break;
    case Kind::Continue:
        return Flow::Continue;
    case Kind::Set:
        assign(*s.targets[0], evaluate(*s.expressions[0], scope), *scope);
        return Flow::Next;
    default:
        executeBlock(s, scope, out);
        return Flow::Next;
    }
}

void Interpreter::executeBlock(const Statement& s, const ScopePtr& scope, std::string& out) {
    switch (s.kind) {
    case Kind::SetBlock: {
        Value value = text(render(s.bodies[0], inner(scope, s.hidden[0])));
        if (s.expressions[0])
            value = evaluateFilter(*s.expressions[0], scope, &value);
        assign(*s.targets[0], std::move(value), *scope);
        return;
    }
    case Kind::Macro:
        scope->set(s.text, makeMacro(s, scope, s.text));
        return;
    case Kind::CallBlock: {
        const Value caller = makeMacro(s, scope, "caller");
        put(out, str(evaluateCall(*s.expressions[0], scope, &caller)));
        return;
    }
    case Kind::FilterBlock: {
        const Value value = text(render(s.bodies[0], inner(scope, s.hidden[0])));
        put(out, str(evaluateFilter(*s.expressions[0], scope, &value)));
        return;
    }
    case Kind::With: {
        // All values first: they do not see each other's names.
        std::vector<Value> values = evaluateAll(s.expressions, scope);
        const ScopePtr own = inner(scope, s.hidden[0]);
        for (size_t i = 0; i < values.size(); ++i)
            assign(*s.targets[i], std::move(values[i]), *own);
        execute(s.bodies[0], own, out);
        return;
    }
    case Kind::Block:
        execute(s.bodies[0], inner(s.scoped ? scope : m_root, s.hidden[0]), out);
        return;
    case Kind::Scope:
        execute(s.bodies[0], inner(scope, s.hidden[0]), out);
        return;
    default:
        fail(fmt::format("'{}' would read another template, and templates here read no files; no "
                         "loader for this environment specified",
                         s.text));
    }
}

Interpreter::Flow Interpreter::executeFor(const Statement& s, const ScopePtr& scope,
                                          std::string& out) {
    Flow flow = Flow::Next;
    runLoop(s, scope, evaluate(*s.expressions[0], scope), 0, out, flow);
    return flow;
}

void Interpreter::runLoop(const Statement& s, const ScopePtr& scope, const Value& iterable,
                          int depth, std::string& out, Flow& flow) {
    if (depth > 0 && ++m_calls > limits::kTemplateCallDepth)
        fail(fmt::format("a recursive loop goes more than {} levels deep, which is the limit "
                         "(maximum recursion depth exceeded)",
                         limits::kTemplateCallDepth));
    const auto loop = std::make_shared<Loop>(m_memory, *this, s, scope, iterable, depth);
    const Value loopValue(Value::Kind::Loop, loop);
    bool ranThrough = false; // an item that was left by break or continue does not count
    while (loop->advance()) {
        const ScopePtr own = inner(scope, s.hidden[0]);
        own->set("loop", loopValue);
        assign(*s.targets[0], loop->current, *own);
        const Flow inside = execute(s.bodies[0], own, out);
        if (inside == Flow::Break)
            break;
        ranThrough |= inside == Flow::Next;
    }
    if (depth > 0)
        --m_calls;
    if (!ranThrough && !s.bodies[1].empty())
        flow = execute(s.bodies[1], inner(scope, s.hidden[1]), out);
}

void Interpreter::assign(const Expression& target, Value value, Scope& scope) {
    if (target.kind == Expression::Kind::Name)
        return scope.set(target.name, std::move(value));
    if (target.kind == Expression::Kind::Attribute)
        return setField(target, std::move(value), scope);
    const std::vector<ExpressionPtr>& parts = target.parts;
    std::vector<Value> values = unpacked(value, parts.size());
    for (size_t i = 0; i < parts.size(); ++i)
        assign(*parts[i], std::move(values[i]), scope);
}

std::vector<Value> Interpreter::unpacked(const Value& value, size_t count) {
    if (!isIterable(value))
        fail("cannot unpack non-iterable " + typeName(value) + " object");
    Iteration iteration(*this, value);
    std::vector<Value> values;
    while (values.size() <= count)
        if (auto item = iteration.next())
            values.push_back(std::move(*item));
        else
            break;
    if (values.size() > count)
        fail(fmt::format("too many values to unpack (expected {})", count));
    if (values.size() < count)
        fail(
            fmt::format("not enough values to unpack (expected {}, got {})", count, values.size()));
    return values;
}

/// `set ns.field = value`.
void Interpreter::setField(const Expression& target, Value value, Scope& scope) {
    const std::string& name = target.parts[0]->name;
    Value* space = scope.find(name);
    for (Scope* around = scope.parent.get(); !space && around; around = around->parent.get())
        space = around->find(name);
    if (!space || !space->is(Value::Kind::Namespace))
        fail("cannot assign attribute on non-namespace object");
    auto& fields = space->as<Namespace>();
    if (!fields.find(target.name)) {
        checkSize(sizeof(Value) + 64);
        step(static_cast<int64_t>(fields.names.size() / 16));
    }
    fields.set(target.name, std::move(value));
}

Value Interpreter::makeMacro(const Statement& s, const ScopePtr& scope, const std::string& name) {
    keep(scope);
    // Scopes end with the interpreter, so that the macro may refer to its own without owning it.
    Value made = function(
        name,
        [&s, around = std::weak_ptr<Scope>(scope), name](Interpreter& in, const Arguments& a) {
            return in.callMacro(s, name, around.lock(), a);
        },
        "Macro");
    auto& macro = made.as<Callable>();
    macro.isMacro = true;
    macro.parameters = s.signature.names;
    macro.takesCaller = s.signature.takesCaller;
    macro.catchesMore = s.signature.takesMore;
    macro.catchesNamed = s.signature.takesNamed;
    return made;
}

Value Interpreter::callMacro(const Statement& s, const std::string& name, const ScopePtr& scope,
                             const Arguments& arguments) {
    const Signature& signature = s.signature;
    const ScopePtr own = inner(scope, s.hidden[0]);
    std::vector<bool> given(signature.names.size());
    bool hasCaller = false;
    const size_t direct = std::min(arguments.positional.size(), signature.names.size());
    for (size_t i = 0; i < direct; ++i) {
        own->set(signature.names[i], arguments.positional[i]);
        given[i] = true;
    }
    std::vector<Value> more(arguments.positional.begin() + static_cast<long>(direct),
                            arguments.positional.end());
    if (!more.empty() && !signature.takesMore)
        fail(fmt::format("macro {} takes not more than {} argument(s)", reprOf(name),
                         signature.names.size()));
    auto named = newDict(arguments.named.size());
    for (const auto& [key, value] : arguments.named) {
        const auto at = std::find(signature.names.begin(), signature.names.end(), key);
        const auto place = static_cast<size_t>(at - signature.names.begin());
        if (at != signature.names.end() && !given[place]) {
            own->set(*at, value);
            given[place] = true;
        } else if (key == "caller" && signature.takesCaller) {
            own->set("caller", value);
            hasCaller = true;
        } else if (signature.takesNamed) {
            named->set(text(key), value);
        } else {
            fail(key == "caller"
                     ? fmt::format("macro {} was invoked with two values for the "
                                   "special caller argument. This is most likely a bug.",
                                   reprOf(name))
                     : fmt::format("macro {} takes no keyword argument {}", reprOf(name),
                                   reprOf(key)));
        }
    }
    if (signature.takesCaller && !hasCaller && !own->find("caller"))
        own->set("caller", undefined("No caller defined"));
    if (signature.takesMore)
        own->set("varargs", list(std::move(more), Value::Kind::Tuple));
    if (signature.takesNamed)
        own->set("kwargs", dict(std::move(named)));
    if (++m_calls > limits::kTemplateCallDepth)
        fail(fmt::format("macros call each other more than {} levels deep, which is the limit "
                         "(maximum recursion depth exceeded)",
                         limits::kTemplateCallDepth));
    const size_t plain = signature.names.size() - signature.defaults.size();
    for (size_t i = 0; i < signature.names.size(); ++i)
        if (!given[i])
            own->set(signature.names[i], i < plain
                                             ? undefined("parameter " + reprOf(signature.names[i]) +
                                                         " was not provided")
                                             : evaluate(*signature.defaults[i - plain], own));
    Value out = text(render(s.bodies[0], own));
    --m_calls;
    return out;
}

} // namespace nibble::jinja
