#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nibble::jinja {

struct Token {
    enum class Kind : uint8_t {
        Data,
        VariableBegin,
        VariableEnd,
        BlockBegin,
        BlockEnd,
        Name,
        String,
        Integer,
        Float,
        Operator,
        Error, ///< what stands here is no token; the text says why
        End,
    };
    Kind kind = Kind::End;
    int line = 1;
    std::string text; ///< the value of a String, the spelling of all others
    int64_t integer = 0;
    double real = 0;

    bool is(Kind k) const { return kind == k; }
    bool isOperator(std::string_view spelling) const {
        return kind == Kind::Operator && text == spelling;
    }
    bool isName(std::string_view name) const { return kind == Kind::Name && text == name; }
};

/// The tokens of a template, the last an End (after an Error, where there is one: what stands
/// before it may be wrong too, and is told first). White space around tags is taken away here: the
/// first newline after a block, and what stands before a block on its line.
std::vector<Token> tokenize(std::string_view source);

} // namespace nibble::jinja
