#pragma once

#include "core/template/interpreter.h"

namespace nibble::jinja {

/// A text in lower case; other values as they are.
Value withoutCase(Interpreter& in, const Value& value);

/// What filters compare and collect of an item: a path of names and numbers ("a.b.0") into it, or
/// the item itself.
class ItemKey {
public:
    /// `attribute` none = the item itself. `other` stands for what is undefined, unless it is none.
    ItemKey(Interpreter& in, const Value& attribute, bool foldCase = false,
            Value other = Value::none());
    Value of(const Value& item) const;

private:
    Interpreter& m_in;
    std::vector<Value> m_path;
    bool m_foldCase;
    Value m_other;
};

} // namespace nibble::jinja
