#include "core/template/parser.h"

#include "core/base/limits.h"
#include "core/template/template_error.h"
#include "core/template/unicode.h"

#include <algorithm>

namespace nibble::jinja {

using Kind = Statement::Kind;

namespace {

std::string nameOf(const Token& token) {
    switch (token.kind) {
    case Token::Kind::Data:
        return "template data / text";
    case Token::Kind::VariableBegin:
        return "begin of print statement";
    case Token::Kind::VariableEnd:
        return "end of print statement";
    case Token::Kind::BlockBegin:
        return "begin of statement block";
    case Token::Kind::BlockEnd:
        return "end of statement block";
    case Token::Kind::End:
        return "end of template";
    case Token::Kind::Integer:
        return "integer";
    case Token::Kind::Float:
        return "float";
    case Token::Kind::String:
        return "string";
    default:
        return token.text;
    }
}

} // namespace

Parser::Level::Level(Parser& parser) : m_parser(parser) {
    if (++m_parser.m_depth > limits::kTemplateParseDepth)
        m_parser.fail(fmt::format("it nests more than {} levels deep, which is the limit",
                                  limits::kTemplateParseDepth));
}

Parser::Parser(std::string_view source, const std::string& name) : m_name(name) {
    if (source.size() > limits::kTemplateBytes)
        throw TemplateError(name, 1,
                            fmt::format("it has {} bytes; a template may have {}", source.size(),
                                        limits::kTemplateBytes));
    if (!isValidUtf8(source))
        throw TemplateError(name, 1, "its text is not UTF-8");
    m_tokens = tokenize(source);
}

Tree Parser::run() {
    m_tree.name = m_name;
    m_tree.body = body({});
    return std::move(m_tree);
}

const Token& Parser::current() const {
    const Token& token = m_tokens[m_at];
    if (token.is(Token::Kind::Error))
        fail(token.text, token.line);
    return token;
}

Token Parser::next() {
    Token token = current();
    if (m_at + 1 < m_tokens.size())
        ++m_at;
    return token;
}

bool Parser::skipName(std::string_view name) {
    if (!current().isName(name))
        return false;
    ++m_at;
    return true;
}

bool Parser::skipOperator(std::string_view spelling) {
    if (!current().isOperator(spelling))
        return false;
    ++m_at;
    return true;
}

void Parser::unexpected(std::string_view wanted) const {
    if (current().is(Token::Kind::End))
        fail(fmt::format("unexpected end of template, expected '{}'.", wanted));
    fail(fmt::format("expected token '{}', got '{}'", wanted, nameOf(current())));
}

void Parser::expectOperator(std::string_view spelling) {
    if (!skipOperator(spelling))
        unexpected(spelling);
}

void Parser::expectName(std::string_view name) {
    if (!skipName(name))
        unexpected(name);
}

std::string Parser::takeName() {
    if (!current().is(Token::Kind::Name))
        unexpected("name");
    return next().text;
}

void Parser::fail(const std::string& what, int line) const {
    throw TemplateError(m_name, line ? line : m_tokens[m_at].line, what);
}

StatementPtr Parser::make(Statement::Kind kind, int line) const {
    auto node = std::make_unique<Statement>();
    node->kind = kind;
    node->line = line;
    return node;
}

/// Text, prints and blocks up to one of the tags in `ends`, whose name is then current.
Body Parser::body(Ends ends) {
    const Level level(*this);
    Body out;
    m_ends.push_back(ends);
    while (!current().is(Token::Kind::End)) {
        const int line = current().line;
        if (current().is(Token::Kind::Data)) {
            auto node = make(Kind::Text, line);
            node->text = next().text;
            out.push_back(std::move(node));
        } else if (current().is(Token::Kind::VariableBegin)) {
            next();
            auto node = make(Kind::Print, line);
            node->expressions.push_back(tuple());
            out.push_back(std::move(node));
            if (!current().is(Token::Kind::VariableEnd))
                unexpected("end of print statement");
            next();
        } else {
            next(); // the start of a block
            if (current().is(Token::Kind::Name) &&
                std::find(ends.begin(), ends.end(), current().text) != ends.end()) {
                m_ends.pop_back();
                return out;
            }
            out.push_back(statement());
            if (!current().is(Token::Kind::BlockEnd))
                unexpected("end of statement block");
            next();
        }
    }
    if (ends.size() > 0)
        unknownTag({}, current().line);
    m_ends.pop_back();
    return out;
}

Body Parser::statements(Ends ends, bool dropEnd) {
    skipOperator(":"); // as in Python
    if (!current().is(Token::Kind::BlockEnd))
        unexpected("end of statement block");
    next();
    Body out = body(ends);
    if (dropEnd)
        next();
    return out;
}

void Parser::unknownTag(const std::string& tag, int line) const {
    std::string wanted;
    bool nested = false;
    for (size_t i = 0; i < m_ends.size(); ++i)
        for (const std::string_view end : m_ends[i]) {
            nested |= end == tag;
            if (i + 1 == m_ends.size())
                wanted += (wanted.empty() ? "'" : " or '") + std::string(end) + "'";
        }
    std::string text = tag.empty() ? "Unexpected end of template."
                                   : fmt::format("Encountered unknown tag '{}'.", tag);
    if (!wanted.empty())
        text += nested ? " You probably made a nesting mistake. Jinja is expecting this tag, but "
                         "currently looking for " +
                             wanted + "."
                       : " Jinja was looking for the following tags: " + wanted + ".";
    if (!m_open.empty())
        text += fmt::format(" The innermost block that needs to be closed is '{}'.", m_open.back());
    fail(text, line);
}

StatementPtr Parser::statement() {
    const int line = current().line;
    if (!current().is(Token::Kind::Name))
        fail("tag name expected");
    const std::string tag = next().text;
    struct Row {
        std::string_view tag;
        StatementPtr (Parser::*parse)(int line);
    };
    static constexpr Row kRows[] = {
        {"if", &Parser::parseIf},
        {"for", &Parser::parseFor},
        {"set", &Parser::parseSet},
        {"macro", &Parser::parseMacro},
        {"call", &Parser::parseCall},
        {"filter", &Parser::parseFilterBlock},
        {"with", &Parser::parseWith},
        {"block", &Parser::parseBlock},
        {"print", &Parser::parsePrint},
        {"autoescape", &Parser::parseAutoescape},
        {"generation", &Parser::parseGeneration},
    };
    m_open.push_back(tag);
    StatementPtr node;
    for (const Row& row : kRows)
        if (row.tag == tag)
            node = (this->*row.parse)(line);
    if (tag == "break" || tag == "continue")
        node = parseJump(line, tag == "break" ? Kind::Break : Kind::Continue);
    for (const std::string_view refused : {"include", "import", "from", "extends"})
        if (tag == refused)
            node = parseRefused(line, tag);
    m_open.pop_back();
    if (!node)
        unknownTag(tag, line);
    return node;
}

StatementPtr Parser::parseIf(int line) {
    auto node = make(Kind::If, line);
    while (true) {
        node->expressions.push_back(tuple(false));
        node->bodies.push_back(statements({"elif", "else", "endif"}, false));
        const std::string tag = next().text;
        if (tag == "endif")
            return node;
        if (tag == "else")
            break;
    }
    node->bodies.push_back(statements({"endif"}));
    return node;
}

StatementPtr Parser::parseFor(int line) {
    auto node = make(Kind::For, line);
    node->targets.push_back(target({"in"}, false));
    expectName("in");
    node->expressions.push_back(tuple(false, {"recursive"}));
    node->expressions.push_back(skipName("if") ? expression() : nullptr);
    node->recursive = skipName("recursive");
    ++m_loops;
    node->bodies.push_back(statements({"endfor", "else"}, false));
    --m_loops;
    node->bodies.emplace_back();
    if (next().text == "else")
        node->bodies.back() = statements({"endfor"});
    return node;
}

/// A name, or several; `ns.name` where `withNamespace`.
ExpressionPtr Parser::target(Ends ends, bool withNamespace) {
    const int line = current().line;
    if (withNamespace && current().is(Token::Kind::Name) && ahead().isOperator(".")) {
        auto node = make(Expression::Kind::Attribute, line);
        auto name = make(Expression::Kind::Name, line);
        name->name = takeName();
        next();
        add(*node, std::move(name));
        node->name = takeName();
        return node;
    }
    ExpressionPtr first = oneTarget();
    if (!current().isOperator(","))
        return first;
    auto all = make(Expression::Kind::Tuple, line);
    add(*all, std::move(first));
    while (skipOperator(",")) {
        if (endsTuple(ends) || current().isOperator("="))
            break;
        add(*all, oneTarget());
    }
    return all;
}

ExpressionPtr Parser::oneTarget() {
    const Level level(*this);
    const int line = current().line;
    if (skipOperator("(")) {
        ExpressionPtr inside = target({}, false);
        expectOperator(")");
        return inside;
    }
    if (current().is(Token::Kind::String) || current().is(Token::Kind::Integer) ||
        current().is(Token::Kind::Float))
        fail("can't assign to 'const'");
    if (endsTuple({}))
        fail(fmt::format("Expected an expression, got '{}'", nameOf(current())));
    if (!current().is(Token::Kind::Name))
        fail(fmt::format("unexpected '{}'", nameOf(current())));
    auto node = make(Expression::Kind::Name, line);
    node->name = next().text;
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"})
        if (node->name == constant)
            fail("can't assign to 'const'", line);
    return node;
}

StatementPtr Parser::parseSet(int line) {
    auto node = make(Kind::Set, line);
    node->targets.push_back(target({}, true));
    if (skipOperator("=")) {
        node->expressions.push_back(tuple());
        return node;
    }
    node->kind = Kind::SetBlock;
    node->expressions.push_back(filter(nullptr, false));
    node->bodies.push_back(statements({"endset"}));
    return node;
}

Signature Parser::signature() {
    Signature out;
    expectOperator("(");
    while (!current().isOperator(")")) {
        if (!out.names.empty())
            expectOperator(",");
        out.names.push_back(takeName());
        if (skipOperator("="))
            out.defaults.push_back(expression());
        else if (!out.defaults.empty())
            fail("non-default argument follows default argument");
    }
    expectOperator(")");
    return out;
}

StatementPtr Parser::parseMacro(int line) {
    auto node = make(Kind::Macro, line);
    node->text = takeName();
    node->signature = signature();
    const int loops = std::exchange(m_loops, 0);
    node->bodies.push_back(statements({"endmacro"}));
    m_loops = loops;
    return node;
}

StatementPtr Parser::parseCall(int line) {
    auto node = make(Kind::CallBlock, line);
    if (current().isOperator("("))
        node->signature = signature();
    node->expressions.push_back(expression());
    if (node->expressions[0]->kind != Expression::Kind::Call)
        fail("expected call", line);
    const int loops = std::exchange(m_loops, 0);
    node->bodies.push_back(statements({"endcall"}));
    m_loops = loops;
    return node;
}

StatementPtr Parser::parseFilterBlock(int line) {
    auto node = make(Kind::FilterBlock, line);
    node->expressions.push_back(filter(nullptr, true));
    node->bodies.push_back(statements({"endfilter"}));
    return node;
}

StatementPtr Parser::parseWith(int line) {
    auto node = make(Kind::With, line);
    while (!current().is(Token::Kind::BlockEnd)) {
        if (!node->targets.empty())
            expectOperator(",");
        node->targets.push_back(oneTarget());
        expectOperator("=");
        node->expressions.push_back(expression());
    }
    node->bodies.push_back(statements({"endwith"}));
    return node;
}

StatementPtr Parser::parseBlock(int line) {
    auto node = make(Kind::Block, line);
    node->text = takeName();
    node->scoped = skipName("scoped");
    if (current().isOperator("-"))
        fail("Block names in Jinja have to be valid Python identifiers and may not contain "
             "hyphens, use an underscore instead.");
    const int loops = std::exchange(m_loops, 0);
    node->bodies.push_back(statements({"endblock"}));
    m_loops = loops;
    skipName(node->text);
    if (!m_tree.blocks.emplace(node->text, node.get()).second)
        fail(fmt::format("block '{}' defined twice", node->text), line);
    return node;
}

StatementPtr Parser::parsePrint(int line) {
    auto node = make(Kind::Print, line);
    while (!current().is(Token::Kind::BlockEnd)) {
        if (!node->expressions.empty())
            expectOperator(",");
        node->expressions.push_back(expression());
    }
    return node;
}

StatementPtr Parser::parseAutoescape(int line) {
    auto node = make(Kind::Scope, line);
    const ExpressionPtr on = expression();
    if (on->kind != Expression::Kind::Constant || isTrue(on->constant))
        fail("HTML escaping of a whole block is not for prompts and not supported; remove the "
             "autoescape tag",
             line);
    node->bodies.push_back(statements({"endautoescape"}));
    return node;
}

/// Marks what the model wrote, for training; its text is put out as it is.
StatementPtr Parser::parseGeneration(int line) {
    auto node = make(Kind::Scope, line);
    const int loops = std::exchange(m_loops, 0);
    node->bodies.push_back(statements({"endgeneration"}));
    m_loops = loops;
    return node;
}

StatementPtr Parser::parseJump(int line, Statement::Kind kind) {
    if (m_loops == 0)
        fail(kind == Kind::Break ? "'break' outside loop" : "'continue' not properly in loop",
             line);
    return make(kind, line);
}

StatementPtr Parser::parseRefused(int line, const std::string& tag) {
    auto node = make(Kind::Refused, line);
    node->text = tag;
    while (!current().is(Token::Kind::BlockEnd) && !current().is(Token::Kind::End))
        next();
    return node;
}

Tree parse(std::string_view source, const std::string& name) {
    Tree tree = Parser(source, name).run();
    resolveNames(tree);
    return tree;
}

} // namespace nibble::jinja
