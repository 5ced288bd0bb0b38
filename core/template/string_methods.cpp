#include "core/template/methods.h"

#include "core/template/unicode.h"

#include <algorithm>

/// Methods of texts that look into them or cut them.
namespace nibble::jinja {

using Kind = Value::Kind;

std::vector<std::string> lines(std::string_view text, bool keepEnds) {
    std::vector<std::string> out;
    size_t start = 0;
    for (size_t at = 0; at < text.size();) {
        const size_t end = at;
        const char32_t c = nextCharacter(text, at);
        const bool isEnd = (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 ||
                           c == 0x2028 || c == 0x2029;
        if (!isEnd)
            continue;
        if (c == '\r' && at < text.size() && text[at] == '\n')
            ++at;
        out.emplace_back(text.substr(start, (keepEnds ? at : end) - start));
        start = at;
    }
    if (start < text.size())
        out.emplace_back(text.substr(start));
    return out;
}

std::string replaced(Interpreter& in, std::string_view text, std::string_view from,
                     std::string_view to, int64_t count) {
    std::string out;
    size_t at = 0;
    in.step(static_cast<int64_t>(text.size() / 128));
    const auto put = [&](std::string_view part) {
        if (out.size() + part.size() > out.capacity())
            in.checkSize(2 * (out.size() + part.size()));
        out += part;
    };
    if (from.empty()) { // between all characters, and at both ends
        while (count != 0) {
            --count;
            put(to);
            if (at >= text.size())
                return out;
            const size_t length = characterBytes(text[at]);
            put(text.substr(at, length));
            at += length;
        }
        put(text.substr(at));
        return out;
    }
    while (count != 0) {
        const size_t found = text.find(from, at);
        if (found == std::string_view::npos)
            break;
        --count;
        in.step();
        put(text.substr(at, found - at));
        put(to);
        at = found + from.size();
    }
    put(text.substr(at));
    return out;
}

std::string joined(Interpreter& in, const std::vector<Value>& items, std::string_view separator,
                   bool onlyText) {
    std::string out;
    for (size_t i = 0; i < items.size(); ++i) {
        if (onlyText && !items[i].isString())
            in.fail(fmt::format("sequence item {}: expected str instance, {} found", i,
                                typeName(items[i])));
        const std::string part = in.str(items[i]);
        in.checkSize(2 * (out.size() + part.size() + separator.size()));
        in.step(static_cast<int64_t>(1 + part.size() / 1024));
        if (i > 0)
            out += separator;
        out += part;
    }
    return out;
}

namespace {

/// What an argument that is text, or missing or none, gives.
std::optional<std::string> textOrNone(Interpreter& in, const Bound& arguments, size_t i) {
    if (!arguments.has(i) || arguments.value(i).isNone())
        return {};
    const Value& value = arguments.value(i);
    in.require(value);
    if (!value.isString())
        in.fail("must be str or None, not " + typeName(value));
    return value.text();
}

const std::string& needText(Interpreter& in, const Bound& arguments, size_t i) {
    const Value& value = arguments.require(i);
    in.require(value);
    if (!value.isString())
        in.fail("must be str, not " + typeName(value));
    return value.text();
}

Value texts(Interpreter& in, const std::vector<std::string>& parts, Kind kind = Kind::List) {
    std::vector<Value> out;
    in.checkSize(parts.size() * (sizeof(Value) + sizeof(Text)));
    for (const std::string& part : parts)
        out.push_back(in.text(part));
    return in.list(std::move(out), kind);
}

enum Sides { Left = 1, Right = 2 };

template <int sides>
Value strip(Interpreter& in, const Value& self, const Bound& arguments) {
    std::string_view text = self.text();
    if (arguments.has(0) && !arguments.value(0).isNone() && !arguments.value(0).isString())
        in.fail("strip arg must be None or str");
    const auto set = textOrNone(in, arguments, 0);
    if (!set) {
        if (sides & Left)
            text = stripLeft(text);
        if (sides & Right)
            text = stripRight(text);
        return in.text(std::string(text));
    }
    const std::u32string all = characters(text), taken = characters(*set);
    size_t start = 0, end = all.size();
    const auto isTaken = [&](char32_t c) { return taken.find(c) != std::u32string::npos; };
    in.step(static_cast<int64_t>(all.size() * (1 + taken.size() / 64) / 64));
    while ((sides & Left) && start < end && isTaken(all[start]))
        ++start;
    while ((sides & Right) && end > start && isTaken(all[end - 1]))
        --end;
    return in.text(utf8(std::u32string_view(all).substr(start, end - start)));
}

std::vector<std::string> splitAtSpace(std::string_view text, int64_t most, bool fromRight) {
    std::vector<std::string> out;
    text = fromRight ? stripRight(text) : stripLeft(text);
    while (!text.empty()) {
        if (most-- == 0) {
            out.emplace_back(fromRight ? stripRight(text) : stripLeft(text));
            break;
        }
        size_t at = fromRight ? text.size() : 0;
        if (fromRight) {
            while (at > 0 && !spaceBefore(text, at))
                --at;
            out.emplace_back(text.substr(at));
            text = stripRight(text.substr(0, at));
        } else {
            while (at < text.size() && !spaceAt(text, at))
                at += characterBytes(text[at]);
            out.emplace_back(text.substr(0, at));
            text = stripLeft(text.substr(std::min(at, text.size())));
        }
    }
    return out;
}

std::vector<std::string> splitAt(std::string_view text, std::string_view separator, int64_t most,
                                 bool fromRight) {
    std::vector<std::string> out;
    while (most-- != 0) {
        const size_t at = fromRight ? text.rfind(separator) : text.find(separator);
        if (at == std::string_view::npos)
            break;
        const size_t after = at + separator.size();
        out.emplace_back(fromRight ? text.substr(after) : text.substr(0, at));
        text = fromRight ? text.substr(0, at) : text.substr(after);
    }
    out.emplace_back(text);
    return out;
}

template <bool fromRight>
Value split(Interpreter& in, const Value& self, const Bound& arguments) {
    const auto separator = textOrNone(in, arguments, 0);
    const int64_t most = arguments.integer(1, -1);
    in.step(static_cast<int64_t>(self.text().size() / 64));
    in.checkSize(self.text().size() * 32);
    if (separator && separator->empty())
        in.fail("empty separator");
    std::vector<std::string> parts = separator ? splitAt(self.text(), *separator, most, fromRight)
                                               : splitAtSpace(self.text(), most, fromRight);
    if (fromRight)
        std::reverse(parts.begin(), parts.end());
    return texts(in, parts);
}

Value splitLines(Interpreter& in, const Value& self, const Bound& arguments) {
    in.step(static_cast<int64_t>(self.text().size() / 64));
    in.checkSize(self.text().size() * 32);
    return texts(in, lines(self.text(), arguments.truth(0, false)));
}

template <bool fromRight>
Value partition(Interpreter& in, const Value& self, const Bound& arguments) {
    const std::string &text = self.text(), &separator = needText(in, arguments, 0);
    if (separator.empty())
        in.fail("empty separator");
    const size_t at = fromRight ? text.rfind(separator) : text.find(separator);
    if (at == std::string::npos)
        return texts(in,
                     fromRight ? std::vector<std::string>{"", "", text}
                               : std::vector<std::string>{text, "", ""},
                     Kind::Tuple);
    return texts(in, {text.substr(0, at), separator, text.substr(at + separator.size())},
                 Kind::Tuple);
}

/// Where the optional start and end of find() and its like lie, in bytes; false where the start is
/// behind the end of the text.
bool part(Interpreter& in, const std::string& text, const Bound& arguments, size_t& start,
          size_t& end) {
    const auto size = countCharacters(text);
    in.step(static_cast<int64_t>(text.size() / 256));
    const auto place = [&](size_t i, int64_t other) {
        if (!arguments.has(i) || arguments.value(i).isNone())
            return other;
        const int64_t at = arguments.integer(i, other);
        return at < 0 ? std::max<int64_t>(0, at + size) : at;
    };
    const int64_t from = place(1, 0), to = std::min(place(2, size), size);
    const auto bytes = [&](int64_t count) {
        size_t at = 0;
        for (int64_t i = 0; i < count; ++i)
            at += characterBytes(text[at]);
        return at;
    };
    if (from > size || from > to)
        return false;
    start = bytes(from);
    end = bytes(to);
    return true;
}

template <bool fromRight, bool mustFind>
Value findText(Interpreter& in, const Value& self, const Bound& arguments) {
    const std::string &text = self.text(), &wanted = needText(in, arguments, 0);
    size_t start = 0, end = 0;
    size_t at = std::string_view::npos;
    if (part(in, text, arguments, start, end)) {
        const auto inside = std::string_view(text).substr(start, end - start);
        at = fromRight ? inside.rfind(wanted) : inside.find(wanted);
    }
    if (at != std::string_view::npos)
        return Value::integer(countCharacters(std::string_view(text).substr(0, start + at)));
    if (mustFind)
        in.fail("substring not found");
    return Value::integer(-1);
}

Value countText(Interpreter& in, const Value& self, const Bound& arguments) {
    const std::string &text = self.text(), &wanted = needText(in, arguments, 0);
    size_t start = 0, end = 0;
    if (!part(in, text, arguments, start, end))
        return Value::integer(0);
    const auto inside = std::string_view(text).substr(start, end - start);
    if (wanted.empty())
        return Value::integer(countCharacters(inside) + 1);
    int64_t count = 0;
    for (size_t at = 0; (at = inside.find(wanted, at)) != std::string_view::npos;
         at += wanted.size())
        ++count;
    return Value::integer(count);
}

/// startswith and endswith, of one text or any of a tuple.
template <bool atStart>
Value hasEdge(Interpreter& in, const Value& self, const Bound& arguments) {
    size_t start = 0, end = 0;
    const Value& edges = arguments.require(0);
    in.require(edges);
    const bool inside = part(in, self.text(), arguments, start, end);
    const auto text = std::string_view(self.text()).substr(start, end - start);
    const auto has = [&](const Value& edge) {
        if (!edge.isString())
            in.fail(fmt::format("{} first arg must be str or a tuple of str, not {}",
                                atStart ? "startswith" : "endswith", typeName(edge)));
        return inside && (atStart ? text.starts_with(edge.text()) : text.ends_with(edge.text()));
    };
    if (!edges.is(Kind::Tuple))
        return Value::boolean(has(edges));
    for (const Value& edge : edges.items())
        if (has(edge))
            return Value::boolean(true);
    return Value::boolean(false);
}

template <bool atStart>
Value removeEdge(Interpreter& in, const Value& self, const Bound& arguments) {
    std::string_view text = self.text();
    const std::string& edge = needText(in, arguments, 0);
    if (atStart ? text.starts_with(edge) : text.ends_with(edge))
        text = atStart ? text.substr(edge.size()) : text.substr(0, text.size() - edge.size());
    return in.text(std::string(text));
}

Value replaceText(Interpreter& in, const Value& self, const Bound& arguments) {
    return in.text(replaced(in, self.text(), needText(in, arguments, 0), needText(in, arguments, 1),
                            arguments.integer(2, -1)));
}

Value joinText(Interpreter& in, const Value& self, const Bound& arguments) {
    if (!in.isIterable(arguments.require(0)))
        in.fail("can only join an iterable");
    return in.text(joined(in, in.toList(arguments.require(0)), self.text(), true));
}

Value format(Interpreter& in, const Value& self, const Arguments& arguments) {
    return in.text(formatText(in, self.text(), arguments));
}

Value formatMap(Interpreter& in, const Value& self, const Bound& arguments) {
    Arguments named;
    if (!arguments.require(0).is(Kind::Dict))
        in.fail("format_map() takes a mapping");
    for (const auto& [key, value] : arguments.require(0).as<Dict>().items)
        if (key.isString())
            named.named.emplace_back(key.text(), value);
    return in.text(formatText(in, self.text(), named));
}

/// A conversion of the whole text.
template <std::string (*convert)(std::string_view)>
Value converted(Interpreter& in, const Value& self, const Bound&) {
    in.step(static_cast<int64_t>(self.text().size() / 16));
    return in.text(convert(self.text()));
}

std::string swapcase(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const size_t start = at;
        const char32_t c = nextCharacter(text, at);
        const auto one = text.substr(start, at - start);
        out += isUpper(c) ? lower(one) : isLower(c) ? upper(one) : std::string(one);
    }
    return out;
}

constexpr MethodRow kRows[] = {
    {"strip", "chars", strip<Left | Right>},
    {"lstrip", "chars", strip<Left>},
    {"rstrip", "chars", strip<Right>},
    {"split", "sep maxsplit", split<false>},
    {"rsplit", "sep maxsplit", split<true>},
    {"splitlines", "keepends", splitLines},
    {"partition", "sep", partition<false>},
    {"rpartition", "sep", partition<true>},
    {"find", "sub start end", findText<false, false>},
    {"rfind", "sub start end", findText<true, false>},
    {"index", "sub start end", findText<false, true>},
    {"rindex", "sub start end", findText<true, true>},
    {"count", "sub start end", countText},
    {"startswith", "prefix start end", hasEdge<true>},
    {"endswith", "suffix start end", hasEdge<false>},
    {"removeprefix", "prefix", removeEdge<true>},
    {"removesuffix", "suffix", removeEdge<false>},
    {"replace", "old new count", replaceText},
    {"join", "iterable", joinText},
    {"format", nullptr, nullptr, format},
    {"format_map", "mapping", formatMap},
    {"upper", "", converted<upper>},
    {"lower", "", converted<lower>},
    {"casefold", "", converted<casefold>},
    {"capitalize", "", converted<capitalize>},
    {"title", "", converted<title>},
    {"swapcase", "", converted<swapcase>},
};

} // namespace

std::span<const MethodRow> stringMethods() {
    return kRows;
}

} // namespace nibble::jinja
