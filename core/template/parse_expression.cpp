#include "core/base/limits.h"
#include "core/template/parser.h"
#include "core/template/template_error.h"

#include <algorithm>

namespace nibble::jinja {

using Kind = Expression::Kind;

ExpressionPtr Parser::make(Expression::Kind kind, int line) const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->line = line;
    return node;
}

void Parser::add(Expression& to, ExpressionPtr part) const {
    if (part)
        to.depth = std::max(to.depth, part->depth + 1);
    if (to.depth > limits::kTemplateChain)
        fail(fmt::format("an expression has more than {} operations in a row, which is the limit",
                         limits::kTemplateChain));
    to.parts.push_back(std::move(part));
}

ExpressionPtr Parser::expression(bool withCondition) {
    return withCondition ? condition() : parseOr();
}

ExpressionPtr Parser::condition() {
    const Level level(*this);
    const int line = current().line;
    ExpressionPtr value = parseOr();
    while (skipName("if")) {
        auto node = make(Kind::Conditional, line);
        add(*node, parseOr());
        add(*node, std::move(value));
        add(*node, skipName("else") ? condition() : nullptr);
        value = std::move(node);
    }
    return value;
}

ExpressionPtr Parser::parseOr() {
    const int line = current().line;
    ExpressionPtr first = parseAnd();
    if (!current().isName("or"))
        return first;
    auto node = make(Kind::Or, line);
    add(*node, std::move(first));
    while (skipName("or"))
        add(*node, parseAnd());
    return node;
}

ExpressionPtr Parser::parseAnd() {
    const int line = current().line;
    ExpressionPtr first = parseNot();
    if (!current().isName("and"))
        return first;
    auto node = make(Kind::And, line);
    add(*node, std::move(first));
    while (skipName("and"))
        add(*node, parseNot());
    return node;
}

ExpressionPtr Parser::parseNot() {
    const int line = current().line;
    if (!current().isName("not"))
        return comparison();
    const Level level(*this);
    next();
    auto node = make(Kind::Not, line);
    add(*node, parseNot());
    return node;
}

ExpressionPtr Parser::comparison() {
    const int line = current().line;
    ExpressionPtr first = sum();
    std::vector<std::string> operators;
    auto node = make(Kind::Compare, line);
    while (true) {
        bool isOperator = false;
        for (const std::string_view op : {"==", "!=", "<", "<=", ">", ">="})
            isOperator |= current().isOperator(op);
        std::string op;
        if (isOperator) {
            op = next().text;
        } else if (skipName("in")) {
            op = "in";
        } else if (current().isName("not") && ahead().isName("in")) {
            next();
            next();
            op = "not in";
        } else {
            break;
        }
        if (operators.empty())
            add(*node, std::move(first));
        operators.push_back(std::move(op));
        add(*node, sum());
    }
    if (operators.empty())
        return first;
    node->names = std::move(operators);
    return node;
}

ExpressionPtr Parser::sum() {
    const int line = current().line;
    ExpressionPtr left = concatenation();
    while (current().isOperator("+") || current().isOperator("-")) {
        auto node = make(Kind::Binary, line);
        node->name = next().text;
        add(*node, std::move(left));
        add(*node, concatenation());
        left = std::move(node);
    }
    return left;
}

ExpressionPtr Parser::concatenation() {
    const int line = current().line;
    ExpressionPtr first = product();
    if (!current().isOperator("~"))
        return first;
    auto node = make(Kind::Concat, line);
    add(*node, std::move(first));
    while (skipOperator("~"))
        add(*node, product());
    return node;
}

ExpressionPtr Parser::product() {
    const int line = current().line;
    ExpressionPtr left = power();
    while (current().isOperator("*") || current().isOperator("/") || current().isOperator("//") ||
           current().isOperator("%")) {
        auto node = make(Kind::Binary, line);
        node->name = next().text;
        add(*node, std::move(left));
        add(*node, power());
        left = std::move(node);
    }
    return left;
}

/// From the left, other than in Python.
ExpressionPtr Parser::power() {
    const int line = current().line;
    ExpressionPtr left = unary();
    while (skipOperator("**")) {
        auto node = make(Kind::Binary, line);
        node->name = "**";
        add(*node, std::move(left));
        add(*node, unary());
        left = std::move(node);
    }
    return left;
}

ExpressionPtr Parser::unary(bool withFilter) {
    const int line = current().line;
    ExpressionPtr node;
    if (current().isOperator("-") || current().isOperator("+")) {
        const Level level(*this);
        node = make(next().text == "-" ? Kind::Negative : Kind::Positive, line);
        add(*node, unary(false));
    } else {
        node = primary();
    }
    node = postfix(std::move(node));
    return withFilter ? filters(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::primary() {
    const int line = current().line;
    const auto constant = [&](Value value) {
        auto node = make(Kind::Constant, line);
        node->constant = std::move(value);
        return node;
    };
    switch (current().kind) {
    case Token::Kind::Name: {
        const std::string name = next().text;
        if (name == "true" || name == "True" || name == "false" || name == "False")
            return constant(Value::boolean(name[0] == 't' || name[0] == 'T'));
        if (name == "none" || name == "None")
            return constant(Value::none());
        auto node = make(Kind::Name, line);
        node->name = name;
        return node;
    }
    case Token::Kind::String: {
        std::string text = next().text;
        while (current().is(Token::Kind::String))
            text += next().text;
        return constant(Value::string(std::move(text)));
    }
    case Token::Kind::Integer:
        return constant(Value::integer(next().integer));
    case Token::Kind::Float:
        return constant(Value::real(next().real));
    default:
        break;
    }
    if (skipOperator("(")) {
        ExpressionPtr inside = tuple(true, {}, true);
        expectOperator(")");
        return inside;
    }
    if (current().isOperator("["))
        return list();
    if (current().isOperator("{"))
        return dict();
    fail("unexpected '" +
         (current().kind == Token::Kind::Operator      ? current().text
          : current().kind == Token::Kind::End         ? "end of template"
          : current().kind == Token::Kind::BlockEnd    ? "end of statement block"
          : current().kind == Token::Kind::VariableEnd ? "end of print statement"
                                                       : "token") +
         "'");
}

bool Parser::endsTuple(Ends ends) const {
    return current().is(Token::Kind::VariableEnd) || current().is(Token::Kind::BlockEnd) ||
           current().isOperator(")") ||
           (current().is(Token::Kind::Name) &&
            std::find(ends.begin(), ends.end(), current().text) != ends.end());
}

ExpressionPtr Parser::tuple(bool withCondition, Ends ends, bool inParentheses) {
    const int line = current().line;
    auto node = make(Kind::Tuple, line);
    bool isTuple = false;
    while (true) {
        if (!node->parts.empty())
            expectOperator(",");
        if (endsTuple(ends))
            break;
        add(*node, expression(withCondition));
        if (!current().isOperator(","))
            break;
        isTuple = true;
    }
    if (isTuple)
        return node;
    if (!node->parts.empty())
        return std::move(node->parts[0]);
    if (!inParentheses)
        fail("Expected an expression, got '" +
             std::string(current().is(Token::Kind::VariableEnd) ? "end of print statement"
                         : current().is(Token::Kind::BlockEnd)  ? "end of statement block"
                                                                : current().text) +
             "'");
    return node;
}

ExpressionPtr Parser::list() {
    auto node = make(Kind::List, current().line);
    expectOperator("[");
    while (!current().isOperator("]")) {
        if (!node->parts.empty())
            expectOperator(",");
        if (current().isOperator("]"))
            break;
        add(*node, expression());
    }
    expectOperator("]");
    return node;
}

ExpressionPtr Parser::dict() {
    auto node = make(Kind::Dict, current().line);
    expectOperator("{");
    while (!current().isOperator("}")) {
        if (!node->parts.empty())
            expectOperator(",");
        if (current().isOperator("}"))
            break;
        add(*node, expression());
        expectOperator(":");
        add(*node, expression());
    }
    expectOperator("}");
    return node;
}

} // namespace nibble::jinja
