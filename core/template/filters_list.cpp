#include "core/template/filters.h"
#include "core/template/item_key.h"
#include "core/template/methods.h"
#include "core/template/unicode.h"

#include <algorithm>

/// Filters that sort, count and cut what has items.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

Value length(Interpreter& in, const Value& value, const Bound&) {
    return Value::integer(in.length(value));
}

Value list(Interpreter& in, const Value& value, const Bound&) {
    return in.list(in.toList(value));
}

Value first(Interpreter& in, const Value& value, const Bound&) {
    Iteration iteration(in, value);
    const auto item = iteration.next();
    return item ? *item : in.undefined("No first item, sequence was empty.");
}

Value last(Interpreter& in, const Value& value, const Bound&) {
    if (value.is(Kind::Generator) || !in.isIterable(value))
        in.fail(fmt::format("'{}' object is not reversible", typeName(value)));
    const std::vector<Value> all = in.toList(value);
    return all.empty() ? in.undefined("No last item, sequence was empty.") : all.back();
}

Value reverse(Interpreter& in, const Value& value, const Bound&) {
    if (!in.isIterable(value))
        in.fail("argument must be iterable");
    if (value.isString()) {
        std::u32string all = characters(value.text());
        std::reverse(all.begin(), all.end());
        return in.text(utf8(all));
    }
    std::vector<Value> all = in.toList(value);
    std::reverse(all.begin(), all.end());
    return value.is(Kind::Generator) ? in.list(std::move(all)) : in.generator(std::move(all));
}

Value join(Interpreter& in, const Value& value, const Bound& arguments) {
    std::vector<Value> all = in.toList(value);
    if (arguments.has(1) && !arguments.value(1).isNone()) {
        const ItemKey key(in, arguments.value(1));
        for (Value& item : all)
            item = key.of(item);
    }
    return in.text(joined(in, all, arguments.text(0, ""), false));
}

/// Sorted by keys made beforehand; equal ones keep their order, also in reverse.
std::vector<Value> sorted(Interpreter& in, std::vector<Value> items,
                          const std::function<Value(const Value&)>& key, bool reverse) {
    std::vector<std::pair<Value, Value>> keyed;
    in.checkSize(items.size() * 2 * sizeof(Value));
    for (Value& item : items)
        keyed.emplace_back(key(item), item);
    std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
        return reverse ? in.less(b.first, a.first) : in.less(a.first, b.first);
    });
    for (size_t i = 0; i < items.size(); ++i)
        items[i] = std::move(keyed[i].second);
    return items;
}

Value sort(Interpreter& in, const Value& value, const Bound& arguments) {
    std::vector<ItemKey> keys;
    const bool foldCase = !arguments.truth(1, false);
    const Value attribute = arguments.valueOr(2, Value::none());
    if (attribute.isString()) {
        const std::string& all = attribute.text();
        for (size_t at = 0; at <= all.size();) {
            const size_t end = std::min(all.find(',', at), all.size());
            keys.emplace_back(in, Value::string(all.substr(at, end - at)), foldCase);
            at = end + 1;
        }
    } else {
        keys.emplace_back(in, attribute, foldCase);
    }
    return in.list(sorted(
        in, in.toList(value),
        [&](const Value& item) {
            std::vector<Value> out;
            for (const ItemKey& key : keys)
                out.push_back(key.of(item));
            return in.list(std::move(out));
        },
        arguments.truth(0, false)));
}

Value dictsort(Interpreter& in, const Value& value, const Bound& arguments) {
    const std::string by = arguments.text(1, "key");
    if (by != "key" && by != "value")
        in.fail("You can only sort by either \"key\" or \"value\"");
    in.require(value);
    if (!value.is(Kind::Dict))
        in.fail(fmt::format("'{}' object has no attribute 'items'", typeName(value)));
    std::vector<Value> pairs;
    for (const auto& [key, item] : value.as<Dict>().items)
        pairs.push_back(in.list({key, item}, Kind::Tuple));
    const bool foldCase = !arguments.truth(0, false);
    const size_t place = by == "value";
    return in.list(sorted(
        in, std::move(pairs),
        [&](const Value& pair) {
            return foldCase ? withoutCase(in, pair.items()[place]) : pair.items()[place];
        },
        arguments.truth(2, false)));
}

Value unique(Interpreter& in, const Value& value, const Bound& arguments) {
    const ItemKey key(in, arguments.valueOr(1, Value::none()), !arguments.truth(0, false));
    return in.deferred(value, [&in, value, key] {
        std::vector<Value> out;
        auto seen = in.newDict(0);
        for (const Value& item : in.toList(value)) {
            const Value one = key.of(item);
            if (!isHashable(one))
                in.fail("unhashable type: '" + typeName(one) + "'");
            if (seen->find(one))
                continue;
            in.checkSize(out.size() * 4 * sizeof(Value));
            seen->set(one, Value::none());
            out.push_back(item);
        }
        return out;
    });
}

template <bool largest>
Value extreme(Interpreter& in, const Value& value, const Bound& arguments) {
    const ItemKey key(in, arguments.valueOr(1, Value::none()), !arguments.truth(0, false));
    std::optional<Value> best, bestKey;
    for (const Value& item : in.toList(value)) {
        Value one = key.of(item);
        if (best && !(largest ? in.compare(">", one, *bestKey) : in.less(one, *bestKey)))
            continue;
        best = item;
        bestKey = std::move(one);
    }
    return best ? *best : in.undefined("No aggregated item, sequence was empty.");
}

Value sum(Interpreter& in, const Value& value, const Bound& arguments) {
    const ItemKey key(in, arguments.valueOr(0, Value::none()));
    Value total = arguments.valueOr(1, Value::integer(0));
    if (total.isString())
        in.fail("sum() can't sum strings [use ''.join(seq) instead]");
    for (const Value& item : in.toList(value))
        total = in.binary("+", total, key.of(item));
    return total;
}

Value batch(Interpreter& in, const Value& value, const Bound& arguments) {
    arguments.require(0);
    const int64_t size = arguments.integer(0, 1);
    const Value fill = arguments.valueOr(1, Value::none());
    return in.deferred(value, [&in, value, size, fill] {
        std::vector<Value> out, row;
        for (const Value& item : in.toList(value)) {
            if (static_cast<int64_t>(row.size()) == size)
                out.push_back(in.list(std::exchange(row, {})));
            row.push_back(item);
        }
        if (row.empty())
            return out;
        const int64_t missing = size - static_cast<int64_t>(row.size());
        if (!fill.isNone() && missing > 0) {
            in.checkSize(static_cast<uint64_t>(missing) * sizeof(Value));
            row.insert(row.end(), static_cast<size_t>(missing), fill);
        }
        out.push_back(in.list(std::move(row)));
        return out;
    });
}

Value slice(Interpreter& in, const Value& value, const Bound& arguments) {
    arguments.require(0);
    const int64_t slices = arguments.integer(0, 1);
    const Value fill = arguments.valueOr(1, Value::none());
    return in.deferred(value, [&in, value, slices, fill] {
        const std::vector<Value> all = in.toList(value);
        const auto size = static_cast<int64_t>(all.size());
        if (slices == 0)
            in.fail("integer division or modulo by zero");
        in.checkSize(static_cast<uint64_t>(std::max<int64_t>(0, slices)) * sizeof(Items));
        std::vector<Value> out;
        int64_t at = 0;
        for (int64_t i = 0; i < slices; ++i) {
            const bool isLonger = i < size % slices;
            const int64_t end = at + size / slices + isLonger;
            std::vector<Value> row(all.begin() + at, all.begin() + end);
            if (!fill.isNone() && !isLonger)
                row.push_back(fill);
            out.push_back(in.list(std::move(row)));
            at = end;
        }
        return out;
    });
}

Value groupby(Interpreter& in, const Value& value, const Bound& arguments) {
    const Value other = arguments.valueOr(1, Value::none());
    const bool foldCase = !arguments.truth(2, false);
    const ItemKey key(in, arguments.require(0), foldCase, other),
        real(in, arguments.require(0), false, other);
    const std::vector<Value> items = sorted(
        in, in.toList(value), [&](const Value& item) { return key.of(item); }, false);
    std::vector<Value> out, group;
    const auto close = [&] {
        if (group.empty())
            return;
        Value grouper = real.of(group.front());
        Value pair = in.list({std::move(grouper), in.list(std::exchange(group, {}))}, Kind::Tuple);
        pair.as<Items>().isGroup = true;
        out.push_back(std::move(pair));
    };
    for (const Value& item : items) {
        if (!group.empty() && !equal(key.of(item), key.of(group.back())))
            close();
        group.push_back(item);
    }
    close();
    return in.list(std::move(out));
}

Value items(Interpreter& in, const Value& value, const Bound&) {
    return in.deferred(value, [&in, value] {
        std::vector<Value> out;
        if (value.isUndefined())
            return out;
        if (!value.is(Kind::Dict))
            in.fail("Can only get item pairs from a mapping.");
        for (const auto& [key, item] : value.as<Dict>().items)
            out.push_back(in.list({key, item}, Kind::Tuple));
        return out;
    });
}

Value orDefault(Interpreter& in, const Value& value, const Bound& arguments) {
    const bool replaces = value.isUndefined() || (arguments.truth(1, false) && !isTrue(value));
    return replaces ? arguments.valueOr(0, in.text("")) : value;
}

Value attr(Interpreter& in, const Value& value, const Bound& arguments) {
    return in.attributeOnly(value, arguments.text(0, ""));
}

constexpr FilterRow kRows[] = {
    {"length", "", length},
    {"count", "", length},
    {"list", "", list},
    {"first", "", first},
    {"last", "", last},
    {"reverse", "", reverse},
    {"join", "d attribute", join},
    {"sort", "reverse case_sensitive attribute", sort},
    {"dictsort", "case_sensitive by reverse", dictsort},
    {"unique", "case_sensitive attribute", unique},
    {"min", "case_sensitive attribute", extreme<false>},
    {"max", "case_sensitive attribute", extreme<true>},
    {"sum", "attribute start", sum},
    {"batch", "linecount fill_with", batch},
    {"slice", "slices fill_with", slice},
    {"groupby", "attribute default case_sensitive", groupby},
    {"items", "", items},
    {"default", "default_value boolean", orDefault},
    {"d", "default_value boolean", orDefault},
    {"attr", "name", attr},
};

} // namespace

std::span<const FilterRow> listFilters() {
    return kRows;
}

} // namespace nibble::jinja
