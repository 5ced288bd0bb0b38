#include "core/template/filters.h"
#include "core/template/item_key.h"

/// Filters that apply another filter or a test to each item, when it is asked for.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

/// The items of `value`, each changed or left out by `step`.
Value each(Interpreter& in, const Value& value,
           std::function<std::optional<Value>(const Value&)> change) {
    if (!isTrue(value))
        return in.generator(std::vector<Value>{});
    // What is wrong with the value shows when the first item is asked for, as in Python.
    return in.generator(
        value,
        [&in, value, change = std::move(change),
         iteration = std::shared_ptr<Iteration>()]() mutable -> std::optional<Value> {
            if (!iteration)
                iteration = std::make_shared<Iteration>(in, value);
            while (const auto item = iteration->next())
                if (auto changed = change(*item))
                    return changed;
            return {};
        });
}

Value map(Interpreter& in, const Value& value, const Arguments& arguments) {
    if (arguments.positional.empty()) {
        std::optional<Value> attribute;
        Value other = Value::none();
        for (const auto& [name, one] : arguments.named) {
            if (name == "attribute")
                attribute = one;
            else if (name == "default")
                other = one;
            else
                in.fail(fmt::format("Unexpected keyword argument {}", reprOf(name)));
        }
        if (!attribute)
            in.fail("map requires a filter argument");
        return each(in, value, [key = ItemKey(in, *attribute, false, other)](const Value& item) {
            return std::optional(key.of(item));
        });
    }
    const std::string name = in.str(arguments.positional[0]);
    Arguments rest = arguments;
    rest.positional.erase(rest.positional.begin());
    return each(in, value, [&in, name, rest = std::move(rest)](const Value& item) {
        const FilterRow* row = findFilter(name);
        if (!row)
            in.fail(fmt::format("No filter named {}.", reprOf(name)));
        return std::optional(applyFilter(in, *row, item, rest));
    });
}

template <bool keeps, bool byAttribute>
Value select(Interpreter& in, const Value& value, const Arguments& arguments) {
    Arguments rest = arguments;
    std::optional<ItemKey> key;
    if (byAttribute) {
        if (rest.positional.empty())
            in.fail("Missing parameter for attribute name");
        key.emplace(in, rest.positional[0]);
        rest.positional.erase(rest.positional.begin());
    }
    std::optional<std::string> name;
    if (!rest.positional.empty()) {
        name = in.str(rest.positional[0]);
        rest.positional.erase(rest.positional.begin());
    }
    return each(
        in, value,
        [&in, key, name, rest = std::move(rest)](const Value& item) -> std::optional<Value> {
            const Value tested = key ? key->of(item) : item;
            bool holds = false;
            if (name) {
                const TestRow* row = findTest(*name);
                if (!row)
                    in.fail(fmt::format("No test named {}.", reprOf(*name)));
                holds = applyTest(in, *row, tested, rest);
            } else {
                holds = isTrue(tested);
            }
            return holds == keeps ? std::optional(item) : std::nullopt;
        });
}

constexpr FilterRow kRows[] = {
    {"map", nullptr, nullptr, map},
    {"select", nullptr, nullptr, select<true, false>},
    {"reject", nullptr, nullptr, select<false, false>},
    {"selectattr", nullptr, nullptr, select<true, true>},
    {"rejectattr", nullptr, nullptr, select<false, true>},
};

} // namespace

std::span<const FilterRow> selectionFilters() {
    return kRows;
}

} // namespace nibble::jinja
