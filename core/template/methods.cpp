#include "core/template/methods.h"

#include "core/template/unicode.h"

#include <cmath>

/// Methods of lists, dictionaries, numbers and what the language itself brings.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

std::vector<Value> pairsOf(Interpreter& in, const Dict& dict) {
    std::vector<Value> out;
    in.checkSize(dict.items.size() * 4 * sizeof(Value));
    for (const auto& [key, value] : dict.items)
        out.push_back(in.list({key, value}, Kind::Tuple));
    return out;
}

Value dictItems(Interpreter& in, const Value& self, const Bound&) {
    return in.view(pairsOf(in, self.as<Dict>()), "dict_items");
}
Value dictKeys(Interpreter& in, const Value& self, const Bound&) {
    return in.view(in.toList(self), "dict_keys");
}
Value dictValues(Interpreter& in, const Value& self, const Bound&) {
    std::vector<Value> out;
    for (const auto& [key, value] : self.as<Dict>().items)
        out.push_back(value);
    return in.view(std::move(out), "dict_values");
}
Value dictGet(Interpreter& in, const Value& self, const Bound& arguments) {
    if (!arguments.has(0))
        in.fail("get expected at least 1 argument, got 0");
    const Value& key = arguments.value(0);
    if (!isHashable(key))
        in.fail("unhashable type: '" + typeName(key) + "'");
    const Value* found = self.as<Dict>().find(key);
    return found ? *found : arguments.valueOr(1, Value::none());
}
/// Nothing changes afterwards, so that one and its copy are the same.
Value copy(Interpreter&, const Value& self, const Bound&) {
    return self;
}

Value listIndex(Interpreter& in, const Value& self, const Bound& arguments) {
    const Value& wanted = arguments.require(0);
    const std::vector<Value> all = in.toList(self);
    const auto size = static_cast<int64_t>(all.size());
    const auto bound = [&](size_t i, int64_t other) {
        const int64_t at = arguments.integer(i, other);
        return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
    };
    for (int64_t i = bound(1, 0), end = bound(2, size); i < end; ++i) {
        in.step();
        if (equal(all[static_cast<size_t>(i)], wanted))
            return Value::integer(i);
    }
    in.fail(self.is(Kind::Tuple) ? "tuple.index(x): x not in tuple"
                                 : in.repr(wanted) + " is not in " + typeName(self));
}
Value listCount(Interpreter& in, const Value& self, const Bound& arguments) {
    int64_t count = 0;
    for (const Value& item : in.toList(self)) {
        in.step();
        count += equal(item, arguments.require(0));
    }
    return Value::integer(count);
}

Value isWhole(Interpreter&, const Value& self, const Bound&) {
    return Value::boolean(std::isfinite(self.real()) && std::trunc(self.real()) == self.real());
}
Value bitLength(Interpreter&, const Value& self, const Bound&) {
    int64_t bits = 0;
    for (auto rest = static_cast<uint64_t>(std::abs(self.integer())); rest; rest >>= 1)
        ++bits;
    return Value::integer(bits);
}

constexpr MethodRow kDict[] = {
    {"items", "", dictItems},        {"keys", "", dictKeys}, {"values", "", dictValues},
    {"get", "key default", dictGet}, {"copy", "", copy},
};
constexpr MethodRow kList[] = {
    {"index", "value start stop", listIndex},
    {"count", "value", listCount},
    {"copy", "", copy},
};
constexpr MethodRow kNumber[] = {
    {"is_integer", "", isWhole},
    {"bit_length", "", bitLength},
};

Value bound(Interpreter& in, const Value& self, const MethodRow& row) {
    return in.function(
        row.name,
        [self, &row](Interpreter& inner, const Arguments& arguments) {
            inner.step();
            return row.callAny
                       ? row.callAny(inner, self, arguments)
                       : row.call(inner, self, Bound(inner, row.name, row.parameters, arguments));
        },
        "builtin_function_or_method");
}

std::optional<Value> find(Interpreter& in, const Value& self, std::span<const MethodRow> rows,
                          std::string_view name) {
    for (const MethodRow& row : rows)
        if (row.name == name)
            return bound(in, self, row);
    return {};
}

std::optional<Value> macroField(Interpreter& in, const Callable& macro, std::string_view name) {
    if (name == "name")
        return Value::string(macro.name);
    if (name == "caller")
        return Value::boolean(macro.takesCaller);
    if (name == "catch_varargs")
        return Value::boolean(macro.catchesMore);
    if (name == "catch_kwargs")
        return Value::boolean(macro.catchesNamed);
    if (name != "arguments")
        return {};
    std::vector<Value> names;
    for (const std::string& parameter : macro.parameters)
        names.push_back(Value::string(parameter));
    return in.list(std::move(names), Kind::Tuple);
}

std::optional<Value> cyclerField(Interpreter& in, const Value& self, std::string_view name) {
    auto& cycler = self.as<Cycler>();
    if (name == "current")
        return cycler.items[cycler.at];
    if (name == "next")
        return in.function("next", [self](Interpreter&, const Arguments&) {
            auto& at = self.as<Cycler>();
            const Value item = at.items[at.at];
            at.at = (at.at + 1) % at.items.size();
            return item;
        });
    if (name == "reset")
        return in.function("reset", [self](Interpreter&, const Arguments&) {
            self.as<Cycler>().at = 0;
            return Value::none();
        });
    return {};
}

} // namespace

std::optional<Value> findMethod(Interpreter& in, const Value& object, std::string_view name) {
    switch (object.kind()) {
    case Kind::String:
        for (const auto rows : {stringMethods(), stringQuestions(), stringPadding()})
            if (auto found = find(in, object, rows, name))
                return found;
        return {};
    case Kind::Dict:
        return find(in, object, kDict, name);
    case Kind::List:
        return find(in, object, kList, name);
    case Kind::Tuple:
        if (object.as<Items>().isGroup && (name == "grouper" || name == "list"))
            return object.items()[name == "list"];
        return name == "copy" ? std::nullopt : find(in, object, kList, name);
    case Kind::Float:
        return name == "is_integer" ? find(in, object, kNumber, name) : std::nullopt;
    case Kind::Int:
    case Kind::Bool:
        if (name == "real" || name == "numerator")
            return Value::integer(object.integer());
        return name == "bit_length" ? find(in, object, kNumber, name) : std::nullopt;
    case Kind::Range: {
        if (name == "count" || name == "index")
            return find(in, object, kList, name);
        const auto& range = object.as<RangeObject>();
        if (name == "start" || name == "stop" || name == "step")
            return Value::integer(name == "start"  ? range.start
                                  : name == "stop" ? range.stop
                                                   : range.step);
        return {};
    }
    case Kind::Callable:
        return object.as<Callable>().isMacro ? macroField(in, object.as<Callable>(), name)
                                             : std::nullopt;
    case Kind::Cycler:
        return cyclerField(in, object, name);
    default:
        return {};
    }
}

} // namespace nibble::jinja
