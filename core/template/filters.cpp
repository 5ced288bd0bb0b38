#include "core/template/filters.h"

#include <algorithm>

namespace nibble::jinja {

Bound::Bound(Interpreter& in, std::string_view function, std::string_view parameters,
             const Arguments& arguments)
    : m_in(in), m_function(function) {
    for (size_t at = 0; at < parameters.size();) {
        const size_t end = std::min(parameters.find(' ', at), parameters.size());
        m_names.emplace_back(parameters.substr(at, end - at));
        at = end + 1;
    }
    m_values.resize(m_names.size());
    if (arguments.positional.size() > m_names.size())
        in.fail(fmt::format("{}() takes at most {} argument(s), {} were given", function,
                            m_names.size(), arguments.positional.size()));
    for (size_t i = 0; i < arguments.positional.size(); ++i)
        m_values[i] = arguments.positional[i];
    for (const auto& [name, value] : arguments.named) {
        const auto at = std::find(m_names.begin(), m_names.end(), name);
        if (at == m_names.end())
            in.fail(fmt::format("{}() got an unexpected keyword argument '{}'", function, name));
        auto& place = m_values[static_cast<size_t>(at - m_names.begin())];
        if (place)
            in.fail(fmt::format("{}() got multiple values for argument '{}'", function, name));
        place = value;
    }
}

const Value& Bound::require(size_t i) const {
    if (!has(i))
        m_in.fail(fmt::format("{}() missing 1 required positional argument: '{}'", m_function,
                              m_names[i]));
    return value(i);
}

int64_t Bound::integer(size_t i, int64_t other) const {
    if (!has(i))
        return other;
    m_in.require(value(i));
    if (!value(i).isInteger())
        m_in.fail(
            fmt::format("'{}' object cannot be interpreted as an integer", typeName(value(i))));
    return value(i).integer();
}

std::string Bound::text(size_t i, std::string_view other) const {
    return has(i) ? m_in.str(value(i)) : std::string(other);
}

bool Bound::truth(size_t i, bool other) const {
    return has(i) ? isTrue(value(i)) : other;
}

const FilterRow* findFilter(std::string_view name) {
    for (const auto rows :
         {textFilters(), markupFilters(), numberFilters(), listFilters(), selectionFilters()})
        for (const FilterRow& row : rows)
            if (row.name == name)
                return &row;
    return nullptr;
}

Value applyFilter(Interpreter& in, const FilterRow& row, const Value& value,
                  const Arguments& arguments) {
    in.step();
    return row.applyAny ? row.applyAny(in, value, arguments)
                        : row.apply(in, value, Bound(in, row.name, row.parameters, arguments));
}

} // namespace nibble::jinja
