#pragma once

#include "core/template/interpreter.h"

#include <initializer_list>
#include <span>

namespace nibble::jinja {

/// The arguments of a call, put in the order of the parameters' names.
class Bound {
public:
    /// `parameters` are names with spaces between, all optional. Error{BadInput} for others.
    Bound(Interpreter& in, std::string_view function, std::string_view parameters,
          const Arguments& arguments);
    bool has(size_t i) const { return m_values[i].has_value(); }
    const Value& value(size_t i) const { return *m_values[i]; }
    Value valueOr(size_t i, Value other) const { return has(i) ? value(i) : std::move(other); }
    /// Error{BadInput} when it is not of the type (or, of require, not there).
    const Value& require(size_t i) const;
    int64_t integer(size_t i, int64_t other) const;
    std::string text(size_t i, std::string_view other) const;
    bool truth(size_t i, bool other) const;

private:
    Interpreter& m_in;
    std::string m_function;
    std::vector<std::string> m_names;
    std::vector<std::optional<Value>> m_values;
};

/// A filter: its name, its parameters beside the value, what it does. Filters that take any
/// arguments have null for parameters.
struct FilterRow {
    const char* name;
    const char* parameters;
    Value (*apply)(Interpreter& in, const Value& value, const Bound& arguments);
    Value (*applyAny)(Interpreter& in, const Value& value, const Arguments& arguments) = nullptr;
};
const FilterRow* findFilter(std::string_view name);
Value applyFilter(Interpreter& in, const FilterRow& row, const Value& value,
                  const Arguments& arguments);

struct TestRow {
    const char* name;
    int arguments; ///< beside the value
    bool (*holds)(Interpreter& in, const Value& value, std::span<const Value> arguments);
};
const TestRow* findTest(std::string_view name);
bool applyTest(Interpreter& in, const TestRow& row, const Value& value, const Arguments& arguments);

// The tables, by the kind of what they work on.
std::span<const FilterRow> textFilters();
std::span<const FilterRow> markupFilters();
std::span<const FilterRow> numberFilters();
std::span<const FilterRow> listFilters();
std::span<const FilterRow> selectionFilters();

} // namespace nibble::jinja
