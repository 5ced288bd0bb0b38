#pragma once

#include "core/template/interpreter.h"

namespace nibble::jinja {

/// The `loop` of a for block: where it is, and what comes next.
struct Loop : Object {
    Loop(int64_t& used, Interpreter& interpreter, const Statement& statement, ScopePtr around,
         const Value& over, int depthInside);

    /// Goes to the next item; false after the last.
    bool advance();
    /// A field of the loop that `self` is; nothing when there is none of that name.
    std::optional<Value> field(std::string_view name, const Value& self);
    /// loop(items): the same block for other items, where it is `recursive`.
    Value recurse(const Arguments& arguments);
    int64_t length();
    int64_t index0() const { return m_index; }

    Value current;

private:
    bool fetch();
    bool peek();
    Value cycle(const Arguments& arguments);
    Value changed(const Arguments& arguments);

    Interpreter& m_in;
    const Statement& m_statement;
    ScopePtr m_around, m_filterScope;
    Value m_iterable;
    Iteration m_iteration;
    std::vector<Value> m_fetched; ///< read ahead, the next one last
    std::optional<int64_t> m_length;
    std::optional<std::vector<Value>> m_lastChanged;
    Value m_before;
    int64_t m_index = -1;
    int m_depthInside;
};

} // namespace nibble::jinja
