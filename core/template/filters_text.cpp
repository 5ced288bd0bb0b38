#include "core/template/filters.h"
#include "core/template/methods.h"
#include "core/template/unicode.h"

#include <algorithm>

/// Filters that make one text of another.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

template <std::string (*convert)(std::string_view)>
Value converted(Interpreter& in, const Value& value, const Bound&) {
    const std::string text = in.str(value);
    in.step(static_cast<int64_t>(text.size() / 16));
    return in.text(convert(text));
}

/// As the filter has it: other than str.title(), only some characters end a word.
std::string titleWords(std::string_view text) {
    std::string out;
    bool starts = true;
    for (size_t at = 0; at < text.size();) {
        const size_t from = at;
        const char32_t c = nextCharacter(text, at);
        const bool ends = isSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
        const auto one = text.substr(from, at - from);
        out += ends ? std::string(one) : starts ? upper(one) : lower(one);
        starts = ends;
    }
    return out;
}

Value string(Interpreter& in, const Value& value, const Bound&) {
    return value.isString() ? value : in.text(in.str(value));
}

Value trim(Interpreter& in, const Value& value, const Bound& arguments) {
    Arguments chars;
    if (arguments.has(0))
        chars.positional.push_back(arguments.value(0));
    return in.call(*findMethod(in, in.text(in.str(value)), "strip"), chars);
}

Value replace(Interpreter& in, const Value& value, const Bound& arguments) {
    arguments.require(1);
    const bool counted = arguments.has(2) && !arguments.value(2).isNone();
    return in.text(replaced(in, in.str(value), in.str(arguments.require(0)),
                            in.str(arguments.value(1)), counted ? arguments.integer(2, -1) : -1));
}

Value center(Interpreter& in, const Value& value, const Bound& arguments) {
    const Value text = in.text(in.str(value));
    return in.call(*findMethod(in, text, "center"),
                   {{Value::integer(arguments.integer(0, 80))}, {}});
}

Value format(Interpreter& in, const Value& value, const Arguments& arguments) {
    if (!arguments.positional.empty() && !arguments.named.empty())
        in.fail("can't handle positional and keyword arguments at the same time");
    const std::string text = in.str(value);
    if (arguments.named.empty())
        return in.text(formatPercent(in, text, in.list(arguments.positional, Kind::Tuple)));
    auto named = in.newDict(arguments.named.size());
    for (const auto& [name, one] : arguments.named)
        named->set(in.text(name), one);
    return in.text(formatPercent(in, text, in.dict(std::move(named))));
}

Value indent(Interpreter& in, const Value& value, const Bound& arguments) {
    in.require(value);
    if (!value.isString())
        in.fail(fmt::format("unsupported operand type(s) for +=: '{}' and 'str'", typeName(value)));
    std::string front;
    if (arguments.has(0) && arguments.value(0).isString())
        front = arguments.value(0).text();
    else
        front = padded(in, "", arguments.integer(0, 4), ' ', 1);
    const bool first = arguments.truth(1, false), blank = arguments.truth(2, false);
    std::string out = first ? front : "";
    bool isFirst = true;
    for (const std::string& line : lines(value.text() + "\n", false)) {
        in.step();
        in.checkSize(2 * (out.size() + line.size() + front.size()));
        if (!isFirst) {
            out += '\n';
            if (blank || !line.empty())
                out += front;
        }
        out += line;
        isFirst = false;
    }
    return in.text(std::move(out));
}

Value truncate(Interpreter& in, const Value& value, const Bound& arguments) {
    const int64_t length = arguments.integer(0, 255);
    const bool killWords = arguments.truth(1, false);
    const std::string end = arguments.text(2, "...");
    const bool hasLeeway = arguments.has(3) && !arguments.value(3).isNone();
    const int64_t leeway = hasLeeway ? arguments.integer(3, 5) : 5;
    const int64_t endLength = countCharacters(end);
    if (length < endLength)
        in.fail(fmt::format("expected length >= {}, got {}", endLength, length));
    if (leeway < 0)
        in.fail(fmt::format("expected leeway >= 0, got {}", leeway));
    const int64_t size = in.length(value);
    if (size <= length || size - length <= leeway)
        return value;
    if (!value.isString())
        in.fail("only text can be truncated, not " + typeName(value));
    std::string cut =
        utf8(characters(value.text()).substr(0, static_cast<size_t>(length - endLength)));
    if (!killWords)
        cut = cut.substr(0, cut.rfind(' '));
    return in.text(cut + end);
}

/// Words of a line with the space between them; a word with hyphens is several where it may be
/// broken.
std::vector<std::u32string> chunksOf(const std::u32string& line, bool atHyphens) {
    std::vector<std::u32string> out;
    const auto isLetter = [&](size_t i) {
        return i < line.size() && (isAlpha(line[i]) || line[i] == '_');
    };
    const auto isWord = [&](size_t i) {
        return i < line.size() && (isAlpha(line[i]) || isNumeric(line[i]) || line[i] == '_');
    };
    for (size_t at = 0; at < line.size();) {
        const bool space = isSpace(line[at]);
        size_t end = at;
        while (end < line.size() && isSpace(line[end]) == space) {
            ++end;
            const bool breaks = atHyphens && !space && end >= 3 && line[end - 1] == '-' &&
                                end - at >= 3 && isLetter(end - 2) && isWord(end - 3) &&
                                isWord(end) && (isLetter(end + 1) || isLetter(end));
            if (breaks)
                break;
        }
        out.push_back(line.substr(at, end - at));
        at = end;
    }
    return out;
}

/// A paragraph in lines of at most `width` characters, as Python's textwrap fills them.
std::vector<std::string> wrapped(Interpreter& in, const std::u32string& line, size_t width,
                                 bool breakLong, bool atHyphens) {
    std::vector<std::string> out;
    std::vector<std::u32string> chunks = chunksOf(line, atHyphens);
    std::reverse(chunks.begin(), chunks.end());
    const auto isBlank = [](const std::u32string& chunk) {
        return std::all_of(chunk.begin(), chunk.end(), isSpace);
    };
    while (!chunks.empty()) {
        in.step();
        if (!out.empty() && isBlank(chunks.back()))
            chunks.pop_back();
        std::vector<std::u32string> current;
        size_t length = 0;
        while (!chunks.empty() && length + chunks.back().size() <= width) {
            length += chunks.back().size();
            current.push_back(std::move(chunks.back()));
            chunks.pop_back();
        }
        if (!chunks.empty() && chunks.back().size() > width) {
            if (breakLong) {
                size_t room = std::max<size_t>(1, width - length);
                // The last hyphen that fits is a better place to break at.
                if (atHyphens && chunks.back().size() > room) {
                    const size_t hyphen = chunks.back().rfind(U'-', room - 1);
                    if (hyphen != std::u32string::npos && hyphen > 0 &&
                        chunks.back().substr(0, hyphen).find_first_not_of(U'-') !=
                            std::u32string::npos)
                        room = hyphen + 1;
                }
                current.push_back(chunks.back().substr(0, room));
                chunks.back() = chunks.back().substr(room);
            } else if (current.empty()) {
                current.push_back(std::move(chunks.back()));
                chunks.pop_back();
            }
        }
        if (!current.empty() && isBlank(current.back()))
            current.pop_back();
        std::u32string text;
        for (const std::u32string& chunk : current)
            text += chunk;
        if (!current.empty())
            out.push_back(utf8(text));
    }
    return out;
}

Value wordwrap(Interpreter& in, const Value& value, const Bound& arguments) {
    in.require(value);
    const int64_t width = arguments.integer(0, 79);
    if (width <= 0)
        in.fail(fmt::format("invalid width {} (must be > 0)", width));
    const bool hasEnd = arguments.has(2) && !arguments.value(2).isNone();
    const std::string end = hasEnd ? arguments.text(2, "\n") : "\n";
    const std::string text = in.str(value);
    in.step(static_cast<int64_t>(text.size() / 8));
    std::string out;
    bool isFirst = true;
    for (const std::string& line : lines(text, false)) {
        if (!std::exchange(isFirst, false))
            out += end;
        bool firstPart = true;
        for (const std::string& part :
             wrapped(in, characters(line), static_cast<size_t>(width), arguments.truth(1, true),
                     arguments.truth(3, true))) {
            if (!std::exchange(firstPart, false))
                out += end;
            out += part;
            in.checkSize(2 * out.size());
        }
    }
    return in.text(std::move(out));
}

Value wordcount(Interpreter& in, const Value& value, const Bound&) {
    int64_t count = 0;
    bool inWord = false;
    for (const char32_t c : characters(in.str(value))) {
        const bool isWord = isAlpha(c) || isNumeric(c) || c == '_';
        count += isWord && !inWord;
        inWord = isWord;
    }
    return Value::integer(count);
}

Value tojson(Interpreter& in, const Value& value, const Bound& arguments) {
    JsonStyle style;
    style.ascii = arguments.truth(0, false);
    style.sorted = arguments.truth(3, false);
    if (arguments.has(1) && !arguments.value(1).isNone()) {
        const Value& indent = arguments.value(1);
        style.indent =
            indent.isString()
                ? indent.text()
                : padded(in, "", std::min<int64_t>(arguments.integer(1, 0), 1000), ' ', 1);
        style.itemSeparator = ",";
    }
    if (arguments.has(2) && !arguments.value(2).isNone()) {
        const Value& separators = arguments.value(2);
        if (!separators.isSequence() || separators.items().size() != 2)
            in.fail("separators of tojson must be two texts");
        style.itemSeparator = in.str(separators.items()[0]);
        style.keySeparator = in.str(separators.items()[1]);
    }
    return in.text(toJson(in, value, style));
}

Value represent(Interpreter& in, const Value& value, const Bound&) {
    return in.text(in.repr(value));
}

constexpr FilterRow kRows[] = {
    {"upper", "", converted<upper>},
    {"lower", "", converted<lower>},
    {"capitalize", "", converted<capitalize>},
    {"title", "", converted<titleWords>},
    {"string", "", string},
    {"safe", "", string},
    {"trim", "chars", trim},
    {"replace", "old new count", replace},
    {"center", "width", center},
    {"format", nullptr, nullptr, format},
    {"indent", "width first blank", indent},
    {"truncate", "length killwords end leeway", truncate},
    {"wordwrap", "width break_long_words wrapstring break_on_hyphens", wordwrap},
    {"wordcount", "", wordcount},
    {"tojson", "ensure_ascii indent separators sort_keys", tojson},
    {"pprint", "", represent},
};

} // namespace

std::span<const FilterRow> textFilters() {
    return kRows;
}

} // namespace nibble::jinja
