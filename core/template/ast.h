#pragma once

#include "core/template/value.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

/// A template as the parser understands it. Nothing in it changes afterwards.
namespace nibble::jinja {

struct FilterRow;
struct TestRow;
struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using StatementPtr = std::unique_ptr<Statement>;
using Body = std::vector<StatementPtr>;

struct CallArguments {
    std::vector<ExpressionPtr> positional;
    std::vector<std::pair<std::string, ExpressionPtr>> named;
    ExpressionPtr more, moreNamed; ///< *more, **moreNamed
};

struct Expression {
    enum class Kind : uint8_t {
        Constant,
        Name,
        List,
        Tuple,
        Dict, ///< parts: key, value, key, value…
        Not,
        Negative,
        Positive,
        Binary, ///< name: the operator
        And,
        Or,
        Compare, ///< parts: first, then one for each of names
        Concat,
        Conditional, ///< parts: condition, value, other value (may be null)
        Attribute,   ///< parts: object; name
        Item,        ///< parts: object, key
        Slice,       ///< parts: start, stop, step (each may be null)
        Call,        ///< parts: what is called
        Filter,      ///< parts: what is filtered (null: the text of the filter block)
        Test,        ///< parts: what is tested
    };
    Kind kind{};
    int line = 1, depth = 1;
    std::string name;
    std::vector<std::string> names;
    std::vector<ExpressionPtr> parts;
    CallArguments arguments;
    Value constant;
    const FilterRow* filter = nullptr;
    const TestRow* test = nullptr;
};

/// Parameters of a macro or call block; the last have defaults.
struct Signature {
    std::vector<std::string> names;
    std::vector<ExpressionPtr> defaults;
    bool takesCaller = false, takesMore = false, takesNamed = false;
};

struct Statement {
    enum class Kind : uint8_t {
        Text,
        Print,
        If,       ///< expressions: the conditions; bodies: one each, and one more for else
        For,      ///< expressions: iterated, filter (may be null); bodies: body, else
        Set,      ///< expressions: value
        SetBlock, ///< expressions: filter (may be null); bodies: body
        Macro,
        CallBlock,   ///< expressions: the call
        FilterBlock, ///< expressions: the filter
        With,        ///< expressions: values, of targets
        Block,
        Scope, ///< a body with variables of its own
        Break,
        Continue,
        Refused, ///< what would read another file
    };
    Kind kind{};
    int line = 1;
    std::string text;
    std::vector<ExpressionPtr> expressions;
    std::vector<ExpressionPtr> targets;
    std::vector<Body> bodies;
    Signature signature;
    bool recursive = false, scoped = false;
    /// Of each body (and of the filter of a For, the last): names that it sets before it reads
    /// them, which hide those around it from its start.
    std::vector<std::vector<std::string>> hidden;
};

struct Tree {
    std::string name;
    Body body;
    std::vector<std::string> hidden;
    std::map<std::string, const Statement*, std::less<>> blocks;
};

/// Error{BadInput} (TemplateError) naming the line where the source is not a template.
Tree parse(std::string_view source, const std::string& name);

/// Fills `hidden` everywhere, and refuses filters and tests that do not exist where no condition
/// can keep them from being used.
void resolveNames(Tree& tree);

} // namespace nibble::jinja
