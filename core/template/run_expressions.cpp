#include "core/template/filters.h"
#include "core/template/interpreter.h"
#include "core/template/loop.h"
#include "core/template/unicode.h"

#include <algorithm>

namespace nibble::jinja {

using Kind = Expression::Kind;

Value Interpreter::evaluate(const Expression& e, const ScopePtr& scope) {
    const Level level(*this);
    step();
    switch (e.kind) {
    case Kind::Constant:
        return e.constant;
    case Kind::Name:
        return evaluateName(e, scope);
    case Kind::List:
        return list(evaluateAll(e.parts, scope));
    case Kind::Tuple:
        return list(evaluateAll(e.parts, scope), Value::Kind::Tuple);
    case Kind::Dict:
        return evaluateDict(e, scope);
    case Kind::Not:
        return Value::boolean(!isTrue(evaluate(*e.parts[0], scope)));
    case Kind::Negative:
    case Kind::Positive:
        return negative(evaluate(*e.parts[0], scope), e.kind == Kind::Negative);
    case Kind::Binary: {
        const Value left = evaluate(*e.parts[0], scope);
        return binary(e.name, left, evaluate(*e.parts[1], scope));
    }
    case Kind::And:
    case Kind::Or:
        // The value that decides is the result, as in Python.
        for (size_t i = 0;; ++i) {
            Value value = evaluate(*e.parts[i], scope);
            if (i + 1 == e.parts.size() || isTrue(value) == (e.kind == Kind::Or))
                return value;
        }
    case Kind::Compare:
        return Value::boolean(evaluateCompare(e, scope));
    case Kind::Concat: {
        std::string out;
        for (const ExpressionPtr& one : e.parts) {
            const std::string part = str(evaluate(*one, scope));
            checkSize(out.size() + part.size());
            out += part;
        }
        return text(std::move(out));
    }
    case Kind::Conditional:
        if (isTrue(evaluate(*e.parts[0], scope)))
            return evaluate(*e.parts[1], scope);
        return e.parts[2]
                   ? evaluate(*e.parts[2], scope)
                   : undefined(fmt::format("the inline if-expression on line {} evaluated to false "
                                           "and no else section was defined.",
                                           e.line));
    case Kind::Attribute:
        return attribute(evaluate(*e.parts[0], scope), e.name);
    case Kind::Item:
        return evaluateItem(e, scope);
    case Kind::Call:
        return evaluateCall(e, scope);
    case Kind::Filter:
        return evaluateFilter(e, scope, nullptr);
    case Kind::Test:
        return Value::boolean(evaluateTest(e, scope));
    case Kind::Slice:
        break;
    }
    fail("a slice stands where it has no object");
}

Value Interpreter::evaluateName(const Expression& e, const ScopePtr& scope) {
    for (Scope* at = scope.get(); at; at = at->parent.get())
        if (const Value* found = at->find(e.name))
            return *found;
    if (const auto found = m_globals.find(e.name); found != m_globals.end())
        return found->second;
    if (e.name == "self")
        return {Value::Kind::Block, nullptr};
    return undefinedName(e.name);
}

std::vector<Value> Interpreter::evaluateAll(const std::vector<ExpressionPtr>& all,
                                            const ScopePtr& scope) {
    std::vector<Value> out;
    out.reserve(all.size());
    for (const ExpressionPtr& one : all)
        out.push_back(evaluate(*one, scope));
    return out;
}

Value Interpreter::evaluateDict(const Expression& e, const ScopePtr& scope) {
    auto out = newDict(e.parts.size() / 2);
    for (size_t i = 0; i + 1 < e.parts.size(); i += 2) {
        const Value key = evaluate(*e.parts[i], scope);
        if (!isHashable(key))
            fail("unhashable type: '" + typeName(key) + "'");
        out->set(key, evaluate(*e.parts[i + 1], scope));
    }
    return dict(std::move(out));
}

Value Interpreter::evaluateItem(const Expression& e, const ScopePtr& scope) {
    const Value object = evaluate(*e.parts[0], scope);
    if (e.parts[1]->kind == Kind::Slice)
        return evaluateSlice(object, *e.parts[1], scope);
    return item(object, evaluate(*e.parts[1], scope));
}

namespace {

/// The places that a slice takes of `size`, as Python counts them.
struct Places {
    int64_t start, stop, count, step;
};

Places placesOf(Interpreter& in, const std::optional<Value> (&bounds)[3], int64_t size) {
    const auto number = [&](size_t i) -> std::optional<int64_t> {
        if (!bounds[i] || bounds[i]->isNone())
            return {};
        if (!bounds[i]->isInteger())
            in.fail("slice indices must be integers or None or have an __index__ method");
        return bounds[i]->integer();
    };
    const int64_t step = number(2).value_or(1);
    if (step == 0)
        in.fail("slice step cannot be zero");
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? size - 1 : size;
    const auto bound = [&](size_t i, int64_t other) {
        const auto given = number(i);
        if (!given)
            return other;
        return std::clamp(*given < 0 ? *given + size : *given, low, high);
    };
    const int64_t start = bound(0, step < 0 ? high : low), stop = bound(1, step < 0 ? low : high);
    const int64_t distance = step < 0 ? start - stop : stop - start;
    // Steps beyond the size take one item; smaller ones keep the division from overflowing.
    const int64_t stride = step < 0 ? -std::max(step, -size - 1) : std::min(step, size + 1);
    return {start, stop, distance <= 0 ? 0 : (distance - 1) / stride + 1,
            step < 0 ? -stride : stride};
}

} // namespace

Value Interpreter::evaluateSlice(const Value& object, const Expression& slice,
                                 const ScopePtr& scope) {
    std::optional<Value> bounds[3];
    for (size_t i = 0; i < 3; ++i)
        if (slice.parts[i])
            bounds[i] = evaluate(*slice.parts[i], scope);
    require(object);
    if (object.isString()) {
        step(static_cast<int64_t>(object.text().size() / 256));
        const std::u32string all = characters(object.text());
        const Places places = placesOf(*this, bounds, static_cast<int64_t>(all.size()));
        std::u32string out;
        for (int64_t i = 0; i < places.count; ++i)
            out += all[static_cast<size_t>(places.start + i * places.step)];
        return text(utf8(out));
    }
    if (object.isSequence()) {
        const Places places = placesOf(*this, bounds, static_cast<int64_t>(object.items().size()));
        checkSize(static_cast<uint64_t>(places.count) * sizeof(Value));
        std::vector<Value> out;
        for (int64_t i = 0; i < places.count; ++i)
            out.push_back(object.items()[static_cast<size_t>(places.start + i * places.step)]);
        return list(std::move(out), object.kind());
    }
    if (object.is(Value::Kind::Range)) {
        const auto& range = object.as<RangeObject>();
        const Places places = placesOf(*this, bounds, range.size());
        auto out = std::make_shared<RangeObject>();
        out->start = range.start + places.start * range.step;
        out->step = range.step * places.step;
        out->stop = range.start + places.stop * range.step;
        return {Value::Kind::Range, std::move(out)};
    }
    if (object.is(Value::Kind::Dict))
        fail("unhashable type: 'slice'");
    fail("'" + typeName(object) + "' object is not subscriptable");
}

bool Interpreter::evaluateCompare(const Expression& e, const ScopePtr& scope) {
    Value left = evaluate(*e.parts[0], scope);
    for (size_t i = 0; i < e.names.size(); ++i) {
        Value right = evaluate(*e.parts[i + 1], scope);
        if (!compare(e.names[i], left, right))
            return false;
        left = std::move(right);
    }
    return true;
}

Arguments Interpreter::evaluateArguments(const CallArguments& arguments, const ScopePtr& scope) {
    Arguments out;
    out.positional = evaluateAll(arguments.positional, scope);
    for (const auto& [name, value] : arguments.named)
        out.named.emplace_back(name, evaluate(*value, scope));
    if (arguments.more) {
        for (Value& value : toList(evaluate(*arguments.more, scope)))
            out.positional.push_back(std::move(value));
    }
    if (arguments.moreNamed) {
        const Value named = evaluate(*arguments.moreNamed, scope);
        if (!named.is(Value::Kind::Dict))
            fail("argument after ** must be a mapping, not " + typeName(named));
        for (const auto& [name, value] : named.as<Dict>().items) {
            if (!name.isString())
                fail("keywords must be strings");
            out.named.emplace_back(name.text(), value);
        }
    }
    return out;
}

Value Interpreter::evaluateCall(const Expression& e, const ScopePtr& scope, const Value* caller) {
    const Value callee = evaluate(*e.parts[0], scope);
    Arguments arguments = evaluateArguments(e.arguments, scope);
    if (caller)
        arguments.named.emplace_back("caller", *caller);
    m_line = e.line;
    return call(callee, arguments);
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
    const Level level(*this);
    require(callee);
    switch (callee.kind()) {
    case Value::Kind::Callable: {
        const int line = m_line;
        Value out = callee.as<Callable>().call(*this, arguments);
        m_line = line;
        return out;
    }
    case Value::Kind::Loop:
        return callee.as<Loop>().recurse(arguments);
    case Value::Kind::Joiner: {
        auto& joiner = callee.as<Joiner>();
        return text(std::exchange(joiner.used, true) ? joiner.separator : "");
    }
    default:
        fail("'" + typeName(callee) + "' object is not callable");
    }
}

Value Interpreter::evaluateFilter(const Expression& e, const ScopePtr& scope,
                                  const Value* blockText) {
    const Level level(*this);
    // A chain's first filter has no expression of its own: it takes the block's text.
    const Value value = !e.parts[0] ? *blockText
                        : blockText ? evaluateFilter(*e.parts[0], scope, blockText)
                                    : evaluate(*e.parts[0], scope);
    m_line = e.line;
    if (!e.filter)
        fail(fmt::format("No filter named {} found.", reprOf(e.name)));
    const Arguments arguments = evaluateArguments(e.arguments, scope);
    m_line = e.line;
    return applyFilter(*this, *e.filter, value, arguments);
}

bool Interpreter::evaluateTest(const Expression& e, const ScopePtr& scope) {
    const Value value = evaluate(*e.parts[0], scope);
    m_line = e.line;
    if (!e.test)
        fail(fmt::format("No test named {} found.", reprOf(e.name)));
    return applyTest(*this, *e.test, value, evaluateArguments(e.arguments, scope));
}

} // namespace nibble::jinja
