#include "core/template/interpreter.h"
#include "core/template/unicode.h"

#include <algorithm>

/// Values as JSON, as Python's json.dumps() writes it.
namespace nibble::jinja {

using Kind = Value::Kind;

namespace {

class JsonWriter {
public:
    JsonWriter(Interpreter& in, const JsonStyle& style) : m_in(in), m_style(style) {}

    std::string run(const Value& value) {
        write(value, 0);
        return std::move(m_out);
    }

private:
    void write(const Value& value, int64_t level) {
        const Interpreter::Level depth(m_in);
        m_in.step();
        m_in.checkSize(m_out.size());
        switch (value.kind()) {
        case Kind::None:
            m_out += "null";
            return;
        case Kind::Bool:
            m_out += value.integer() ? "true" : "false";
            return;
        case Kind::Int:
            m_out += std::to_string(value.integer());
            return;
        case Kind::Float:
            m_out += real(value.real());
            return;
        case Kind::String:
            return string(value.text());
        case Kind::List:
        case Kind::Tuple:
            return list(value.items(), level);
        case Kind::Dict:
            return dict(value.as<Dict>(), level);
        default:
            m_in.fail("Object of type " + typeName(value) + " is not JSON serializable");
        }
    }

    static std::string real(double value) {
        if (value != value)
            return "NaN";
        if (value - value != 0)
            return value < 0 ? "-Infinity" : "Infinity";
        return floatText(value);
    }

    void string(const std::string& text) {
        m_in.step(static_cast<int64_t>(text.size() / 256));
        m_out += '"';
        for (size_t at = 0; at < text.size();) {
            const size_t start = at;
            const char32_t c = nextCharacter(text, at);
            constexpr std::u32string_view kFrom = U"\"\\\n\r\t\f\b";
            constexpr std::string_view kTo = "\"\\nrtfb";
            if (const size_t plain = kFrom.find(c); plain != std::u32string_view::npos)
                (m_out += '\\') += kTo[plain];
            else if (c < 0x20 || (m_style.ascii && c >= 0x7f && c < 0x10000))
                m_out += c == 0x7f ? "\x7f" : fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
            else if (m_style.ascii && c >= 0x10000)
                m_out += fmt::format("\\u{:04x}\\u{:04x}",
                                     0xd800 + (static_cast<uint32_t>(c - 0x10000) >> 10),
                                     0xdc00 + (static_cast<uint32_t>(c - 0x10000) & 0x3ff));
            else
                m_out += text.substr(start, at - start);
        }
        m_out += '"';
    }

    void newLine(int64_t level) {
        if (!m_style.indent)
            return;
        m_in.checkSize(m_out.size() + m_style.indent->size() * static_cast<size_t>(level));
        m_out += '\n';
        for (int64_t i = 0; i < level; ++i)
            m_out += *m_style.indent;
    }

    void list(const std::vector<Value>& items, int64_t level) {
        if (items.empty()) {
            m_out += "[]";
            return;
        }
        m_out += '[';
        for (size_t i = 0; i < items.size(); ++i) {
            if (i > 0)
                m_out += m_style.itemSeparator;
            newLine(level + 1);
            write(items[i], level + 1);
        }
        newLine(level);
        m_out += ']';
    }

    std::string keyText(const Value& key) {
        switch (key.kind()) {
        case Kind::String:
            return key.text();
        case Kind::None:
            return "null";
        case Kind::Bool:
            return key.integer() ? "true" : "false";
        case Kind::Int:
            return std::to_string(key.integer());
        case Kind::Float:
            return real(key.real());
        default:
            m_in.fail("keys must be str, int, float, bool or None, not " + typeName(key));
        }
    }

    void dict(const Dict& dict, int64_t level) {
        if (dict.items.empty()) {
            m_out += "{}";
            return;
        }
        std::vector<const std::pair<Value, Value>*> items;
        for (const auto& item : dict.items)
            items.push_back(&item);
        if (m_style.sorted)
            std::stable_sort(items.begin(), items.end(), [&](const auto* a, const auto* b) {
                return m_in.less(a->first, b->first);
            });
        m_out += '{';
        bool isFirst = true;
        for (const auto* item : items) {
            if (!std::exchange(isFirst, false))
                m_out += m_style.itemSeparator;
            newLine(level + 1);
            string(keyText(item->first));
            m_out += m_style.keySeparator;
            write(item->second, level + 1);
        }
        newLine(level);
        m_out += '}';
    }

    Interpreter& m_in;
    const JsonStyle& m_style;
    std::string m_out;
};

} // namespace

std::string toJson(Interpreter& in, const Value& value, const JsonStyle& style) {
    return JsonWriter(in, style).run(value);
}

} // namespace nibble::jinja
