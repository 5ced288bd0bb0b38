#include "core/template/item_key.h"

#include "core/template/unicode.h"

#include <algorithm>

namespace nibble::jinja {

Value withoutCase(Interpreter& in, const Value& value) {
    return value.isString() ? in.text(lower(value.text())) : value;
}

ItemKey::ItemKey(Interpreter& in, const Value& attribute, bool foldCase, Value other)
    : m_in(in), m_foldCase(foldCase), m_other(std::move(other)) {
    if (attribute.isNone())
        return;
    if (!attribute.isString()) {
        m_path.push_back(attribute);
        return;
    }
    const std::string& text = attribute.text();
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find('.', at), text.size());
        const std::string part = text.substr(at, end - at);
        const bool isNumber =
            !part.empty() && part.size() < 18 &&
            std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
        m_path.push_back(isNumber ? Value::integer(*parseInteger(part, 10)) : Value::string(part));
        at = end + 1;
    }
}

Value ItemKey::of(const Value& item) const {
    Value value = item;
    for (const Value& part : m_path) {
        value = m_in.item(value, part);
        if (value.isUndefined() && !m_other.isNone())
            value = m_other;
    }
    return m_foldCase ? withoutCase(m_in, value) : value;
}

} // namespace nibble::jinja
