#include "core/template/filters.h"
#include "core/template/methods.h"
#include "core/template/unicode.h"

#include <algorithm>

/// Filters that write or take away HTML and addresses.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '\'':
            out += "&#39;";
            break;
        case '"':
            out += "&#34;";
            break;
        default:
            out += c;
        }
    }
    return out;
}

Value escape(Interpreter& in, const Value& value, const Bound&) {
    const std::string text = in.str(value);
    in.checkSize(text.size() * 5);
    return in.text(escaped(text));
}

/// Characters that HTML names; the others stay as they are written.
std::string unescaped(std::string_view text) {
    struct Name {
        std::string_view name, text;
    };
    static constexpr Name kNames[] = {{"amp", "&"},    {"lt", "<"},    {"gt", ">"},
                                      {"quot", "\""},  {"apos", "'"},  {"nbsp", "\u00a0"},
                                      {"laquo", "«"},  {"raquo", "»"}, {"copy", "©"},
                                      {"hellip", "…"}, {"ndash", "–"}, {"mdash", "—"}};
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const size_t end = text[at] == '&' ? text.substr(at, 16).find(';') : std::string::npos;
        if (end == std::string::npos) {
            out += text[at++];
            continue;
        }
        const std::string_view name = text.substr(at + 1, end - 1);
        std::string found;
        if (name.starts_with('#')) {
            const bool isHex = name.size() > 1 && (name[1] | 0x20) == 'x';
            const auto code = parseInteger(name.substr(isHex ? 2 : 1), isHex ? 16 : 10);
            if (code && *code > 0 && *code <= 0x10ffff && (*code < 0xd800 || *code > 0xdfff))
                append(found, static_cast<char32_t>(*code));
        }
        for (const Name& row : kNames)
            if (row.name == name)
                found = row.text;
        if (found.empty()) {
            out += text[at++];
            continue;
        }
        out += found;
        at += end + 1;
    }
    return out;
}

/// Everything between two marks, marks included.
std::string without(std::string_view text, std::string_view start, std::string_view end) {
    std::string out;
    while (true) {
        const size_t from = text.find(start);
        const size_t to = from == std::string_view::npos ? from : text.find(end, from);
        if (to == std::string_view::npos)
            return out + std::string(text);
        out += text.substr(0, from);
        text = text.substr(to + end.size());
    }
}

Value striptags(Interpreter& in, const Value& value, const Bound&) {
    const std::string plain = without(without(in.str(value), "<!--", "-->"), "<", ">");
    in.step(static_cast<int64_t>(plain.size() / 16));
    std::string out;
    for (std::string_view rest = stripLeft(plain); !rest.empty(); rest = stripLeft(rest)) {
        size_t end = 0;
        while (end < rest.size() && !spaceAt(rest, end))
            end += characterBytes(rest[end]);
        out += (out.empty() ? "" : " ") + std::string(rest.substr(0, end));
        rest.remove_prefix(std::min(end, rest.size()));
    }
    return in.text(unescaped(out));
}

Value xmlattr(Interpreter& in, const Value& value, const Bound& arguments) {
    if (!value.is(Kind::Dict))
        in.fail(fmt::format("'{}' object has no attribute 'items'", typeName(value)));
    std::string out;
    for (const auto& [key, item] : value.as<Dict>().items) {
        if (item.isNone() || item.isUndefined())
            continue;
        const std::string name = in.str(key);
        for (const char32_t c : characters(name))
            if (isSpace(c) || c == '/' || c == '>' || c == '=')
                in.fail("Invalid character in attribute name: " + in.repr(key));
        out += (out.empty() ? "" : " ") + escaped(name) + "=\"" + escaped(in.str(item)) + "\"";
        in.checkSize(out.size() * 2);
    }
    return in.text(arguments.truth(0, true) && !out.empty() ? " " + out : out);
}

std::string urlQuoted(std::string_view text, bool ofQuery) {
    std::string out;
    for (const char c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' || c == '~' ||
                           (c == '/' && !ofQuery);
        if (plain)
            out += c;
        else if (c == ' ' && ofQuery)
            out += '+';
        else
            out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

Value urlencode(Interpreter& in, const Value& value, const Bound&) {
    if (value.isString() || !in.isIterable(value)) {
        const std::string text = in.str(value);
        in.checkSize(text.size() * 3);
        return in.text(urlQuoted(text, false));
    }
    std::string out;
    const auto put = [&](const Value& key, const Value& item) {
        out += (out.empty() ? "" : "&") + urlQuoted(in.str(key), true) + "=" +
               urlQuoted(in.str(item), true);
        in.checkSize(out.size() * 2);
    };
    if (value.is(Kind::Dict)) {
        for (const auto& [key, item] : value.as<Dict>().items)
            put(key, item);
        return in.text(std::move(out));
    }
    for (const Value& pair : in.toList(value)) {
        const std::vector<Value> both = in.unpacked(pair, 2);
        put(both[0], both[1]);
    }
    return in.text(std::move(out));
}

/// An address in a text becomes a link; what stands around it in brackets or ends the sentence
/// does not belong to it.
Value urlize(Interpreter& in, const Value& value, const Bound& arguments) {
    const std::string text = escaped(in.str(value));
    const int64_t limit =
        arguments.has(0) && !arguments.value(0).isNone() ? arguments.integer(0, 0) : INT64_MAX;
    std::string rel = arguments.truth(1, false) ? "nofollow noopener" : "noopener";
    if (arguments.has(3) && !arguments.value(3).isNone())
        rel = arguments.text(3, "") + " " + rel;
    std::string attributes = fmt::format(" rel=\"{}\"", escaped(rel));
    if (arguments.has(2) && !arguments.value(2).isNone())
        attributes += fmt::format(" target=\"{}\"", escaped(arguments.text(2, "")));
    std::string out;
    for (size_t at = 0; at < text.size();) {
        in.step();
        if (const size_t space = spaceAt(text, at)) {
            out += text.substr(at, space);
            at += space;
            continue;
        }
        size_t end = at;
        while (end < text.size() && !spaceAt(text, end))
            end += characterBytes(text[end]);
        std::string_view word = std::string_view(text).substr(at, end - at), head, tail;
        at = end;
        const std::string_view whole = word;
        while (word.starts_with('(') || word.starts_with("&lt;"))
            word.remove_prefix(word[0] == '(' ? 1 : 4);
        head = whole.substr(0, whole.size() - word.size());
        const std::string_view body = word;
        while (!word.empty() &&
               (std::string_view(").,").find(word.back()) != std::string_view::npos ||
                word.ends_with("&gt;")))
            word.remove_suffix(word.ends_with("&gt;") ? 4 : 1);
        tail = body.substr(word.size());
        const bool isAddress =
            word.starts_with("https://") || word.starts_with("http://") || word.starts_with("www.");
        out += head;
        if (isAddress && word.find('.') != std::string_view::npos) {
            std::string shown(word);
            if (countCharacters(shown) > limit)
                shown = utf8(characters(shown).substr(
                            0, static_cast<size_t>(std::max<int64_t>(0, limit)))) +
                        "...";
            out += fmt::format("<a href=\"{}{}\"{}>{}</a>",
                               word.starts_with("www.") ? "https://" : "", word, attributes, shown);
        } else {
            out += word;
        }
        out += tail;
        in.checkSize(out.size() * 2);
    }
    return in.text(std::move(out));
}

constexpr FilterRow kRows[] = {
    {"escape", "", escape},
    {"e", "", escape},
    {"forceescape", "", escape},
    {"striptags", "", striptags},
    {"xmlattr", "autospace", xmlattr},
    {"urlencode", "", urlencode},
    {"urlize", "trim_url_limit nofollow target rel extra_schemes", urlize},
};

} // namespace

std::span<const FilterRow> markupFilters() {
    return kRows;
}

} // namespace nibble::jinja
