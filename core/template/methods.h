#pragma once

#include "core/template/filters.h"

namespace nibble::jinja {

/// A method of a type: its name, its parameters, what it gives. Those that take any arguments have
/// null for parameters.
struct MethodRow {
    const char* name;
    const char* parameters;
    Value (*call)(Interpreter& in, const Value& self, const Bound& arguments);
    Value (*callAny)(Interpreter& in, const Value& self, const Arguments& arguments) = nullptr;
};
std::span<const MethodRow> stringMethods();
std::span<const MethodRow> stringQuestions(); ///< isdigit and its like
std::span<const MethodRow> stringPadding();
std::span<const MethodRow> dictMethods();
std::span<const MethodRow> listMethods();
std::span<const MethodRow> numberMethods();

/// Text in front and behind, to `width` characters.
std::string padded(Interpreter& in, std::string_view text, int64_t width, char32_t fill,
                   double before);
/// The lines of a text, as str.splitlines().
std::vector<std::string> lines(std::string_view text, bool keepEnds);
std::string replaced(Interpreter& in, std::string_view text, std::string_view from,
                     std::string_view to, int64_t count);
std::string joined(Interpreter& in, const std::vector<Value>& items, std::string_view separator,
                   bool onlyText);

} // namespace nibble::jinja
