#include "core/template/filters.h"
#include "core/template/parser.h"
#include "core/template/template_error.h"

#include <algorithm>

namespace nibble::jinja {

using Kind = Expression::Kind;

ExpressionPtr Parser::postfix(ExpressionPtr node) {
    while (true) {
        if (current().isOperator(".") || current().isOperator("["))
            node = subscript(std::move(node));
        else if (current().isOperator("("))
            node = call(std::move(node));
        else
            return node;
    }
}

ExpressionPtr Parser::filters(ExpressionPtr node) {
    while (true) {
        if (current().isOperator("|"))
            node = filter(std::move(node), false);
        else if (current().isName("is"))
            node = test(std::move(node));
        else if (current().isOperator("("))
            node = call(std::move(node));
        else
            return node;
    }
}

ExpressionPtr Parser::subscript(ExpressionPtr object) {
    const int line = current().line;
    auto node = make(Kind::Item, line);
    if (skipOperator(".")) {
        if (current().is(Token::Kind::Name)) {
            node->kind = Kind::Attribute;
            node->name = next().text;
            add(*node, std::move(object));
            return node;
        }
        if (!current().is(Token::Kind::Integer))
            fail("expected name or number");
        auto key = make(Kind::Constant, line);
        key->constant = Value::integer(next().integer);
        add(*node, std::move(object));
        add(*node, std::move(key));
        return node;
    }
    expectOperator("[");
    auto keys = make(Kind::Tuple, line);
    while (!current().isOperator("]")) {
        if (!keys->parts.empty())
            expectOperator(",");
        add(*keys, subscribed());
    }
    expectOperator("]");
    add(*node, std::move(object));
    add(*node, keys->parts.size() == 1 ? std::move(keys->parts[0]) : std::move(keys));
    return node;
}

ExpressionPtr Parser::subscribed() {
    const int line = current().line;
    ExpressionPtr start;
    if (!current().isOperator(":")) {
        start = expression();
        if (!current().isOperator(":"))
            return start;
    }
    const auto bound = [&]() -> ExpressionPtr {
        const bool isEmpty =
            current().isOperator(":") || current().isOperator("]") || current().isOperator(",");
        return isEmpty ? nullptr : expression();
    };
    next();
    auto node = make(Kind::Slice, line);
    add(*node, std::move(start));
    add(*node, bound());
    add(*node, skipOperator(":") ? bound() : nullptr);
    return node;
}

CallArguments Parser::arguments() {
    CallArguments out;
    expectOperator("(");
    bool first = true;
    const auto require = [&](bool right) {
        if (!right)
            fail("invalid syntax for function call expression");
    };
    while (!current().isOperator(")")) {
        if (!first) {
            expectOperator(",");
            if (current().isOperator(")"))
                break;
        }
        first = false;
        if (skipOperator("*")) {
            require(!out.more && !out.moreNamed);
            out.more = expression();
        } else if (skipOperator("**")) {
            require(!out.moreNamed);
            out.moreNamed = expression();
        } else if (current().is(Token::Kind::Name) && ahead().isOperator("=")) {
            require(!out.moreNamed);
            std::string name = takeName();
            next();
            for (const auto& [known, value] : out.named)
                if (known == name)
                    fail("keyword argument repeated: " + name);
            out.named.emplace_back(std::move(name), expression());
        } else {
            require(out.named.empty() && !out.more && !out.moreNamed);
            out.positional.push_back(expression());
        }
    }
    expectOperator(")");
    return out;
}

namespace {

/// How deep the deepest argument goes; `add` checks the sum.
int depthOf(const CallArguments& arguments) {
    int depth = 0;
    for (const ExpressionPtr& one : arguments.positional)
        depth = std::max(depth, one->depth);
    for (const auto& [name, one] : arguments.named)
        depth = std::max(depth, one->depth);
    for (const ExpressionPtr* one : {&arguments.more, &arguments.moreNamed})
        if (*one)
            depth = std::max(depth, (*one)->depth);
    return depth;
}

} // namespace

ExpressionPtr Parser::call(ExpressionPtr callee) {
    auto node = make(Kind::Call, current().line);
    node->arguments = arguments();
    node->depth = 1 + depthOf(node->arguments);
    add(*node, std::move(callee));
    return node;
}

std::string Parser::dottedName() {
    std::string name = takeName();
    while (skipOperator("."))
        name += "." + takeName();
    return name;
}

/// One filter, and in `set` and `filter` tags those behind it. Null when none stands here.
ExpressionPtr Parser::filter(ExpressionPtr node, bool startInline) {
    const bool chain = !node;
    while (current().isOperator("|") || startInline) {
        if (!startInline)
            next();
        startInline = false;
        auto made = make(Kind::Filter, current().line);
        made->name = dottedName();
        made->filter = findFilter(made->name);
        if (current().isOperator("("))
            made->arguments = arguments();
        made->depth = 1 + depthOf(made->arguments);
        add(*made, std::move(node));
        node = std::move(made);
        if (!chain)
            break;
    }
    return node;
}

ExpressionPtr Parser::test(ExpressionPtr tested) {
    const int line = next().line;
    const bool negated = skipName("not");
    auto node = make(Kind::Test, line);
    node->name = dottedName();
    node->test = findTest(node->name);
    const Token& token = current();
    const bool startsValue = token.is(Token::Kind::Name) || token.is(Token::Kind::String) ||
                             token.is(Token::Kind::Integer) || token.is(Token::Kind::Float) ||
                             token.isOperator("[") || token.isOperator("{");
    if (token.isOperator("(")) {
        node->arguments = arguments();
    } else if (startsValue && !token.isName("else") && !token.isName("or") &&
               !token.isName("and")) {
        if (token.isName("is"))
            fail("You cannot chain multiple tests with is");
        node->arguments.positional.push_back(postfix(primary()));
    }
    node->depth = 1 + depthOf(node->arguments);
    add(*node, std::move(tested));
    if (!negated)
        return node;
    auto inverse = make(Kind::Not, line);
    add(*inverse, std::move(node));
    return inverse;
}

} // namespace nibble::jinja
