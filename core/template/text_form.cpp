#include "core/template/interpreter.h"
#include "core/template/loop.h"
#include "core/template/unicode.h"

/// Values as text: str() and repr() as Python writes them.
namespace nibble::jinja {

using Kind = Value::Kind;

std::string reprOf(std::string_view text) {
    const bool hasSingle = text.find('\'') != std::string_view::npos,
               hasDouble = text.find('"') != std::string_view::npos;
    const char quote = hasSingle && !hasDouble ? '"' : '\'';
    std::string out(1, quote);
    for (size_t at = 0; at < text.size();) {
        const size_t start = at;
        const char32_t c = nextCharacter(text, at);
        if (c == static_cast<char32_t>(quote) || c == '\\')
            (out += '\\') += static_cast<char>(c);
        else if (c == '\n')
            out += "\\n";
        else if (c == '\r')
            out += "\\r";
        else if (c == '\t')
            out += "\\t";
        else if (isPrintable(c))
            out += text.substr(start, at - start);
        else if (c < 0x100)
            out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
        else if (c < 0x10000)
            out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
        else
            out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
    return out + quote;
}

std::string Interpreter::str(const Value& value) {
    if (value.isString())
        return value.text();
    std::string out;
    writeStr(out, value, false);
    return out;
}

std::string Interpreter::repr(const Value& value) {
    std::string out;
    writeStr(out, value, true);
    return out;
}

void Interpreter::writeItems(std::string& out, const std::vector<Value>& items, char open,
                             char close) {
    out += open;
    for (size_t i = 0; i < items.size(); ++i) {
        if (i > 0)
            out += ", ";
        writeStr(out, items[i], true);
    }
    if (open == '(' && items.size() == 1)
        out += ',';
    out += close;
}

void Interpreter::writeStr(std::string& out, const Value& value, bool asRepr) {
    const Level level(*this);
    step();
    checkSize(out.size());
    switch (value.kind()) {
    case Kind::Undefined:
        if (asRepr)
            out += "Undefined";
        return;
    case Kind::None:
        out += "None";
        return;
    case Kind::Bool:
        out += value.integer() ? "True" : "False";
        return;
    case Kind::Int:
        out += std::to_string(value.integer());
        return;
    case Kind::Float:
        out += floatText(value.real());
        return;
    case Kind::String:
        step(static_cast<int64_t>(value.text().size() / 256));
        out += asRepr ? reprOf(value.text()) : value.text();
        return;
    case Kind::List:
        return writeItems(out, value.items(), '[', ']');
    case Kind::Tuple:
        return writeItems(out, value.items(), '(', ')');
    case Kind::View:
        out += value.as<Items>().typeName;
        out += '(';
        writeItems(out, value.items(), '[', ']');
        out += ')';
        return;
    case Kind::Dict: {
        out += '{';
        const char* separator = "";
        for (const auto& [key, item] : value.as<Dict>().items) {
            out += separator;
            separator = ", ";
            writeStr(out, key, true);
            out += ": ";
            writeStr(out, item, true);
        }
        out += '}';
        return;
    }
    case Kind::Range: {
        const auto& range = value.as<RangeObject>();
        out += range.step == 1
                   ? fmt::format("range({}, {})", range.start, range.stop)
                   : fmt::format("range({}, {}, {})", range.start, range.stop, range.step);
        return;
    }
    case Kind::Namespace: {
        out += "<Namespace {";
        const char* separator = "";
        for (const auto& [name, item] : value.as<Namespace>().names) {
            out += separator + reprOf(name) + ": ";
            separator = ", ";
            writeStr(out, item, true);
        }
        out += "}>";
        return;
    }
    case Kind::Callable:
        out += (value.as<Callable>().isMacro ? "<Macro " : "<function ") +
               reprOf(value.as<Callable>().name) + ">";
        return;
    case Kind::Loop:
        out += fmt::format("<LoopContext {}/{}>", value.as<Loop>().index0() + 1,
                           value.as<Loop>().length());
        return;
    default: // Python writes an address here; no template can mean that
        out += "<" + typeName(value) + " object>";
    }
}

} // namespace nibble::jinja
