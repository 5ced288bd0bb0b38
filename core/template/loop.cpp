#include "core/template/loop.h"

#include "core/base/limits.h"

#include <algorithm>

namespace nibble::jinja {

using Kind = Value::Kind;

Loop::Loop(int64_t& used, Interpreter& interpreter, const Statement& statement, ScopePtr around,
           const Value& over, int depthInside)
    : Object(used, sizeof(Loop)), m_in(interpreter), m_statement(statement),
      m_around(std::move(around)), m_iterable(over), m_iteration(interpreter, over),
      m_depthInside(depthInside) {
    depth = over.depth() + 1;
    interpreter.checkDepth(depth);
}

/// Reads one more item that the loop's own `if` lets through.
bool Loop::fetch() {
    const Expression* filter = m_statement.expressions[1].get();
    while (auto item = m_iteration.next()) {
        if (filter) {
            const auto scope = m_in.inner(m_around, {});
            m_in.assign(*m_statement.targets[0], *item, *scope);
            if (!isTrue(m_in.evaluate(*filter, scope)))
                continue;
        }
        m_fetched.insert(m_fetched.begin(), std::move(*item));
        return true;
    }
    return false;
}

bool Loop::peek() {
    return !m_fetched.empty() || fetch();
}

bool Loop::advance() {
    if (!peek())
        return false;
    ++m_index;
    m_before = std::move(current);
    current = std::move(m_fetched.back());
    m_fetched.pop_back();
    return true;
}

int64_t Loop::length() {
    if (m_length)
        return *m_length;
    if (!m_statement.expressions[1] && !m_iterable.is(Kind::Generator)) {
        m_length = m_in.length(m_iterable);
    } else {
        std::vector<Value> rest = std::move(m_fetched);
        m_fetched.clear();
        std::reverse(rest.begin(), rest.end());
        while (fetch()) {
            rest.push_back(std::move(m_fetched.back()));
            m_fetched.pop_back();
        }
        m_length = static_cast<int64_t>(rest.size()) + m_index + 1;
        std::reverse(rest.begin(), rest.end());
        m_fetched = std::move(rest);
    }
    return *m_length;
}

std::optional<Value> Loop::field(std::string_view name, const Value& self) {
    const auto method = [&](auto member) {
        return m_in.function(std::string(name),
                             [self, member](Interpreter&, const Arguments& arguments) {
                                 return (self.as<Loop>().*member)(arguments);
                             });
    };
    if (name == "index")
        return Value::integer(m_index + 1);
    if (name == "index0")
        return Value::integer(m_index);
    if (name == "revindex")
        return Value::integer(length() - m_index);
    if (name == "revindex0")
        return Value::integer(length() - m_index - 1);
    if (name == "length")
        return Value::integer(length());
    if (name == "first")
        return Value::boolean(m_index == 0);
    if (name == "last")
        return Value::boolean(!peek());
    if (name == "depth")
        return Value::integer(m_depthInside + 1);
    if (name == "depth0")
        return Value::integer(m_depthInside);
    if (name == "previtem")
        return m_index == 0 ? m_in.undefined("there is no previous item") : m_before;
    if (name == "nextitem")
        return peek() ? m_fetched.back() : m_in.undefined("there is no next item");
    if (name == "cycle")
        return method(&Loop::cycle);
    if (name == "changed")
        return method(&Loop::changed);
    return {};
}

Value Loop::cycle(const Arguments& arguments) {
    if (arguments.positional.empty())
        m_in.fail("no items for cycling given");
    return arguments.positional[static_cast<size_t>(m_index) % arguments.positional.size()];
}

Value Loop::changed(const Arguments& arguments) {
    const auto same = [&] {
        return m_lastChanged->size() == arguments.positional.size() &&
               std::equal(m_lastChanged->begin(), m_lastChanged->end(),
                          arguments.positional.begin(), equal);
    };
    if (m_lastChanged && same())
        return Value::boolean(false);
    m_lastChanged = arguments.positional;
    return Value::boolean(true);
}

Value Loop::recurse(const Arguments& arguments) {
    if (!m_statement.recursive)
        m_in.fail("The loop must have the 'recursive' marker to be called recursively.");
    if (arguments.positional.size() != 1)
        m_in.fail("loop() takes the items to go through");
    std::string out;
    auto flow = Interpreter::Flow::Next;
    m_in.runLoop(m_statement, m_around, arguments.positional[0], m_depthInside + 1, out, flow);
    return m_in.text(std::move(out));
}

} // namespace nibble::jinja
