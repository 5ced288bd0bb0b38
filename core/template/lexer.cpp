#include "core/template/lexer.h"

#include "core/template/numbers.h"
#include "core/template/unicode.h"

#include <fmt/format.h>

#include <algorithm>

namespace nibble::jinja {
namespace {

using Kind = Token::Kind;

/// Line ends as "\n", without one at the end.
std::string normalized(std::string_view source) {
    std::string out;
    out.reserve(source.size());
    for (size_t i = 0; i < source.size(); ++i) {
        if (source[i] != '\r') {
            out += source[i];
            continue;
        }
        out += '\n';
        if (i + 1 < source.size() && source[i + 1] == '\n')
            ++i;
    }
    if (!out.empty() && out.back() == '\n')
        out.pop_back();
    return out;
}

bool isNameByte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           static_cast<unsigned char>(c) >= 0x80;
}
bool isDigitByte(char c) {
    return c >= '0' && c <= '9';
}

class Lexer {
public:
    explicit Lexer(std::string_view source) : m_source(normalized(source)) {}

    std::vector<Token> run() {
        try {
            while (m_at < m_source.size())
                data();
        } catch (const NoToken& stop) {
            push(Kind::Error, stop.what);
        }
        push(Kind::End, {});
        return std::move(m_tokens);
    }

private:
    struct NoToken {
        std::string what;
    };
    [[noreturn]] void fail(const std::string& what) const { throw NoToken{what}; }
    bool starts(std::string_view text, size_t at) const {
        return std::string_view(m_source).substr(at, text.size()) == text;
    }
    Token& push(Kind kind, std::string text) {
        return m_tokens.emplace_back(Token{kind, m_line, std::move(text), 0, 0});
    }
    /// Moves to `end`, counting lines.
    void moveTo(size_t end) {
        m_line += static_cast<int>(
            std::count(m_source.begin() + long(m_at), m_source.begin() + long(end), '\n'));
        m_at = end;
    }
    size_t skipSpace(size_t at) const {
        while (const size_t space = spaceAt(m_source, at))
            at += space;
        return at;
    }

    /// Text up to the next tag, and the tag.
    void data() {
        size_t at = m_at;
        while (true) {
            at = m_source.find('{', at);
            if (at == std::string::npos || at + 1 >= m_source.size())
                return text(m_source.size());
            const char next = m_source[at + 1];
            if (next == '{' || next == '%' || next == '#')
                break;
            ++at;
        }
        const char kind = m_source[at + 1];
        size_t inside = at + 2;
        char sign = 0;
        if (inside < m_source.size() && (m_source[inside] == '-' || m_source[inside] == '+'))
            sign = m_source[inside++];
        textBefore(at, sign, kind != '{');
        m_lineStarts = false;
        if (kind == '#') {
            comment(inside);
        } else if (const size_t raw = kind == '%' ? rawTag(inside) : 0) {
            rawBlock(raw);
        } else {
            push(kind == '{' ? Kind::VariableBegin : Kind::BlockBegin, {});
            moveTo(inside);
            tag(kind == '{' ? '}' : '%');
        }
    }

    void text(size_t end) {
        if (end > m_at)
            push(Kind::Data, m_source.substr(m_at, end - m_at));
        moveTo(end);
    }

    /// The text before a tag at `end`, without the white space that the tag takes.
    void textBefore(size_t end, char sign, bool isBlock) {
        std::string_view text = std::string_view(m_source).substr(m_at, end - m_at);
        if (sign == '-') {
            text = stripRight(text);
        } else if (sign != '+' && isBlock) {
            const size_t newline = text.rfind('\n');
            const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
            if ((line > 0 || m_lineStarts) && stripLeft(text.substr(line)).empty())
                text = text.substr(0, line);
        }
        if (!text.empty())
            push(Kind::Data, std::string(text));
        moveTo(end);
    }

    /// Where the inside of a raw block starts, when the tag at `at` opens one; else 0.
    size_t rawTag(size_t at) const {
        at = skipSpace(at);
        if (!starts("raw", at))
            return 0;
        at = skipSpace(at + 3);
        if (starts("-%}", at))
            return skipSpace(at + 3);
        return starts("%}", at) ? at + 2 : 0;
    }

    void rawBlock(size_t inside) {
        moveTo(inside);
        for (size_t at = inside; (at = m_source.find("{%", at)) != std::string::npos; at += 2) {
            size_t end = at + 2;
            const char sign = starts("-", end) || starts("+", end) ? m_source[end++] : '\0';
            end = skipSpace(end);
            if (!starts("endraw", end))
                continue;
            end = skipSpace(end + 6);
            size_t after = 0;
            if (!findEnd(end, '%', after))
                continue;
            textBefore(at, sign, true);
            moveEnd(after);
            return;
        }
        if (inside < m_source.size())
            fail("Missing end of raw directive");
    }

    void comment(size_t inside) {
        for (size_t at = inside; at < m_source.size(); ++at) {
            size_t after = 0;
            if (findEnd(at, '#', after)) {
                moveEnd(after);
                return;
            }
        }
        moveTo(inside);
        if (inside < m_source.size())
            fail("Missing end of comment tag");
    }

    /// Whether a block or comment ends at `at`, and what follows it with the newline it takes.
    bool findEnd(size_t at, char mark, size_t& after) const {
        const char end[] = {mark, '}', 0};
        if (starts(end, at)) {
            after = at + 2;
            if (after < m_source.size() && m_source[after] == '\n')
                ++after;
            return true;
        }
        const char sign = at < m_source.size() ? m_source[at] : '\0';
        if ((sign != '-' && sign != '+') || !starts(end, at + 1))
            return false;
        after = sign == '-' ? skipSpace(at + 3) : at + 3;
        return true;
    }

    void moveEnd(size_t after) {
        moveTo(after);
        m_lineStarts = m_source[after - 1] == '\n';
    }

    /// The inside of {{ }} or {% %}, and its end.
    void tag(char end) {
        std::string brackets;
        while (true) {
            moveTo(skipSpace(m_at));
            if (m_at >= m_source.size())
                return; // the parser says what is missing
            size_t after = 0;
            if (brackets.empty() && endsTag(end, after)) {
                push(end == '}' ? Kind::VariableEnd : Kind::BlockEnd, {});
                moveEnd(after);
                return;
            }
            token(brackets);
        }
    }

    bool endsTag(char end, size_t& after) const {
        if (end == '%')
            return findEnd(m_at, '%', after);
        const bool strips = starts("-}}", m_at);
        if (!strips && !starts("}}", m_at))
            return false;
        after = strips ? skipSpace(m_at + 3) : m_at + 2;
        return true;
    }

    void token(std::string& brackets) {
        const char c = m_source[m_at];
        if (isDigitByte(c))
            return number();
        if (isNameByte(c)) {
            size_t end = m_at;
            while (end < m_source.size() && isNameByte(m_source[end]) && !spaceAt(m_source, end))
                ++end;
            push(Kind::Name, m_source.substr(m_at, end - m_at));
            return moveTo(end);
        }
        if (c == '\'' || c == '"')
            return string(c);
        for (const std::string_view op :
             {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
              "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"})
            if (starts(op, m_at)) {
                balance(brackets, op);
                push(Kind::Operator, std::string(op));
                return moveTo(m_at + op.size());
            }
        const size_t length = std::min(characterBytes(c), m_source.size() - m_at);
        fail("unexpected char '" + m_source.substr(m_at, length) + "' at " +
             std::to_string(countCharacters(std::string_view(m_source).substr(0, m_at))));
    }

    void balance(std::string& brackets, std::string_view op) const {
        constexpr std::string_view kOpen = "([{", kClose = ")]}";
        if (const size_t open = kOpen.find(op); open != std::string_view::npos) {
            brackets += kClose[open];
        } else if (kClose.find(op) != std::string_view::npos) {
            if (brackets.empty())
                fail("unexpected '" + std::string(op) + "'");
            if (brackets.back() != op[0])
                fail("unexpected '" + std::string(op) + "', expected '" + brackets.back() + "'");
            brackets.pop_back();
        }
    }

    void number() {
        const bool afterDot = m_at > 0 && m_source[m_at - 1] == '.';
        const NumberText found = readNumber(std::string_view(m_source).substr(m_at), !afterDot);
        Token& token =
            push(found.isFloat ? Kind::Float : Kind::Integer, m_source.substr(m_at, found.length));
        if (found.isTooLarge)
            fail("the number " + token.text + " is too large: integers have 64 bits here");
        token.integer = found.integer;
        token.real = found.real;
        moveTo(m_at + found.length);
    }

    void string(char quote) {
        size_t end = m_at + 1;
        while (end < m_source.size() && m_source[end] != quote)
            end += m_source[end] == '\\' ? 2 : 1;
        if (end >= m_source.size())
            fail(fmt::format("unexpected char {} at {}", quote == '"' ? "'\"'" : "\"'\"",
                             countCharacters(std::string_view(m_source).substr(0, m_at))));
        push(Kind::String, unescaped(std::string_view(m_source).substr(m_at + 1, end - m_at - 1)));
        moveTo(end + 1);
    }

    /// The value of a string literal's inside.
    std::string unescaped(std::string_view text) const {
        std::string out;
        for (size_t i = 0; i < text.size();) {
            if (text[i] != '\\') {
                out += text[i++];
                continue;
            }
            const char c = text[++i];
            ++i;
            constexpr std::string_view kFrom = "nrtbfav\\'\"", kTo = "\n\r\t\b\f\a\v\\'\"";
            if (const size_t plain = kFrom.find(c); plain != std::string_view::npos) {
                out += kTo[plain];
            } else if (c == '\n') {
                continue;
            } else if (c == 'x' || c == 'u' || c == 'U') {
                i += hexadecimal(out, text.substr(i), c == 'x' ? 2 : c == 'u' ? 4 : 8);
            } else if (c >= '0' && c <= '7') {
                int code = c - '0';
                for (int more = 0; more < 2 && i < text.size() && text[i] >= '0' && text[i] <= '7';
                     ++more)
                    code = code * 8 + (text[i++] - '0');
                append(out, static_cast<char32_t>(code));
            } else {
                (out += '\\') += c;
            }
        }
        return out;
    }

    size_t hexadecimal(std::string& out, std::string_view text, size_t length) const {
        char32_t code = 0;
        for (size_t i = 0; i < length; ++i) {
            const char c = i < text.size() ? text[i] : '\0';
            const int digit = isDigitByte(c)           ? c - '0'
                              : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                              : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                                       : -1;
            if (digit < 0)
                fail("a \\x, \\u or \\U in a string needs " + std::to_string(length) +
                     " hexadecimal digits");
            code = code * 16 + static_cast<char32_t>(digit);
        }
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            fail("a string names a character that does not exist");
        append(out, code);
        return length;
    }

    const std::string m_source;
    size_t m_at = 0;
    int m_line = 1;
    bool m_lineStarts = true; ///< the text before starts a line
    std::vector<Token> m_tokens;
};

} // namespace

std::vector<Token> tokenize(std::string_view source) {
    return Lexer(source).run();
}

} // namespace nibble::jinja
