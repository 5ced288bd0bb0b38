#include "core/base/limits.h"
#include "core/template/filters.h"
#include "core/template/interpreter.h"
#include "core/template/time_text.h"

/// Functions that every template can call.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

Value range(Interpreter& in, const Arguments& arguments) {
    if (!arguments.named.empty())
        in.fail("range() takes no keyword arguments");
    const auto& given = arguments.positional;
    if (given.empty() || given.size() > 3)
        in.fail(given.empty()
                    ? "range expected at least 1 argument, got 0"
                    : fmt::format("range expected at most 3 arguments, got {}", given.size()));
    for (const Value& value : given) {
        if (!value.isInteger())
            in.fail(
                fmt::format("'{}' object cannot be interpreted as an integer", typeName(value)));
        if (value.integer() > INT64_MAX / 4 || value.integer() < INT64_MIN / 4)
            in.fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
    }
    auto out = std::make_shared<RangeObject>();
    out->start = given.size() > 1 ? given[0].integer() : 0;
    out->stop = given[given.size() > 1].integer();
    out->step = given.size() > 2 ? given[2].integer() : 1;
    if (out->step == 0)
        in.fail("range() arg 3 must not be zero");
    if (out->size() > limits::kTemplateRange)
        in.fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
    return {Kind::Range, std::move(out)};
}

/// The entries that dict() and namespace() start from.
void entries(Interpreter& in, const char* function, const Arguments& arguments,
             const std::function<void(const Value& key, Value value)>& put) {
    if (arguments.positional.size() > 1)
        in.fail(fmt::format("{} expected at most 1 argument, got {}", function,
                            arguments.positional.size()));
    if (!arguments.positional.empty()) {
        const Value& from = arguments.positional[0];
        in.require(from);
        if (from.is(Kind::Dict)) {
            for (const auto& [key, value] : from.as<Dict>().items)
                put(key, value);
        } else {
            for (const Value& pair : in.toList(from)) {
                const auto both = in.toList(pair);
                if (both.size() != 2)
                    in.fail(fmt::format("dictionary update sequence element #0 has length {}; 2 is "
                                        "required",
                                        both.size()));
                put(both[0], both[1]);
            }
        }
    }
    for (const auto& [name, value] : arguments.named)
        put(in.text(name), value);
}

Value makeDict(Interpreter& in, const Arguments& arguments) {
    auto out = in.newDict(arguments.named.size() + 8);
    entries(in, "dict", arguments, [&](const Value& key, Value value) {
        if (!isHashable(key))
            in.fail("unhashable type: '" + typeName(key) + "'");
        in.checkSize(out->items.size() * 4 * sizeof(Value));
        out->set(key, std::move(value));
    });
    return in.dict(std::move(out));
}

Value makeNamespace(Interpreter& in, const Arguments& arguments) {
    const auto space = in.newNamespace();
    entries(in, "dict", arguments,
            [&](const Value& key, Value value) { space->set(in.str(key), std::move(value)); });
    return {Kind::Namespace, space};
}

Value cycler(Interpreter& in, const Arguments& arguments) {
    if (arguments.positional.empty())
        in.fail("at least one item has to be provided");
    auto out = std::make_shared<Cycler>();
    out->items = arguments.positional;
    for (const Value& item : out->items)
        out->depth = std::max(out->depth, item.depth() + 1);
    in.checkDepth(out->depth);
    return {Kind::Cycler, std::move(out)};
}

Value joiner(Interpreter& in, const Arguments& arguments) {
    auto out = std::make_shared<Joiner>();
    out->separator = Bound(in, "joiner", "sep", arguments).text(0, ", ");
    return {Kind::Joiner, std::move(out)};
}

Value raiseException(Interpreter& in, const Arguments& arguments) {
    in.fail(Bound(in, "raise_exception", "message", arguments).text(0, ""), true);
}

Value strftimeNow(Interpreter& in, const Arguments& arguments) {
    const Bound bound(in, "strftime_now", "format", arguments);
    bound.require(0);
    return in.text(timeText(bound.text(0, ""), in.options().date));
}

Value lipsum(Interpreter& in, const Arguments&) {
    in.fail("'lipsum' is refused: it writes text at random, and the same conversation must give "
            "the same prompt");
}

struct Row {
    const char* name;
    Value (*call)(Interpreter& in, const Arguments& arguments);
    const char* typeName = "function";
};
constexpr Row kRows[] = {
    {"range", range},
    {"dict", makeDict, "type"},
    {"lipsum", lipsum},
    {"cycler", cycler, "type"},
    {"joiner", joiner, "type"},
    {"namespace", makeNamespace, "type"},
    {"raise_exception", raiseException},
    {"strftime_now", strftimeNow},
};

} // namespace

void addGlobals(Interpreter& in, std::unordered_map<std::string_view, Value>& globals) {
    for (const Row& row : kRows)
        globals.emplace(row.name, in.function(row.name, row.call, row.typeName));
}

} // namespace nibble::jinja
