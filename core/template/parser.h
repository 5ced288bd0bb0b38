#pragma once

#include "core/template/ast.h"
#include "core/template/lexer.h"

#include <algorithm>

#include <initializer_list>

namespace nibble::jinja {

/// Recursive descent with a limit on its depth. Expressions are in expressions.cpp.
class Parser {
public:
    Parser(std::string_view source, const std::string& name);
    Tree run();

private:
    using Ends = std::initializer_list<std::string_view>;

    /// Counts how deep the parser is inside itself.
    class Level {
    public:
        explicit Level(Parser& parser);
        ~Level() { --m_parser.m_depth; }
        Level(const Level&) = delete;
        Level& operator=(const Level&) = delete;

    private:
        Parser& m_parser;
    };

    /// Error{BadInput} where the text could not be cut into tokens any further.
    const Token& current() const;
    const Token& ahead() const { return m_tokens[std::min(m_at + 1, m_tokens.size() - 1)]; }
    Token next();
    bool skipName(std::string_view name);
    bool skipOperator(std::string_view spelling);
    void expectOperator(std::string_view spelling);
    void expectName(std::string_view name);
    std::string takeName();
    [[noreturn]] void fail(const std::string& what, int line = 0) const;
    [[noreturn]] void unexpected(std::string_view wanted) const;

    Body body(Ends ends);
    Body statements(Ends ends, bool dropEnd = true);
    [[noreturn]] void unknownTag(const std::string& tag, int line) const;
    StatementPtr statement();
    StatementPtr make(Statement::Kind kind, int line) const;
    StatementPtr parseIf(int line);
    StatementPtr parseFor(int line);
    StatementPtr parseSet(int line);
    StatementPtr parseMacro(int line);
    StatementPtr parseCall(int line);
    StatementPtr parseFilterBlock(int line);
    StatementPtr parseWith(int line);
    StatementPtr parseBlock(int line);
    StatementPtr parsePrint(int line);
    StatementPtr parseAutoescape(int line);
    StatementPtr parseGeneration(int line);
    StatementPtr parseJump(int line, Statement::Kind kind);
    StatementPtr parseRefused(int line, const std::string& tag);
    Signature signature();
    ExpressionPtr target(Ends ends, bool withNamespace);
    ExpressionPtr oneTarget();

    ExpressionPtr make(Expression::Kind kind, int line) const;
    void add(Expression& to, ExpressionPtr part) const;
    ExpressionPtr expression(bool withCondition = true);
    ExpressionPtr condition();
    ExpressionPtr parseOr();
    ExpressionPtr parseAnd();
    ExpressionPtr parseNot();
    ExpressionPtr comparison();
    ExpressionPtr sum();
    ExpressionPtr concatenation();
    ExpressionPtr product();
    ExpressionPtr power();
    ExpressionPtr unary(bool withFilter = true);
    ExpressionPtr primary();
    ExpressionPtr tuple(bool withCondition = true, Ends ends = {}, bool inParentheses = false);
    ExpressionPtr list();
    ExpressionPtr dict();
    ExpressionPtr postfix(ExpressionPtr node);
    ExpressionPtr filters(ExpressionPtr node);
    ExpressionPtr subscript(ExpressionPtr node);
    ExpressionPtr subscribed();
    ExpressionPtr call(ExpressionPtr node);
    ExpressionPtr filter(ExpressionPtr node, bool startInline);
    ExpressionPtr test(ExpressionPtr node);
    CallArguments arguments();
    std::string dottedName();
    bool endsTuple(Ends ends) const;

    std::string m_name;
    std::vector<Token> m_tokens;
    size_t m_at = 0;
    int m_depth = 0, m_loops = 0;
    std::vector<std::string> m_open; ///< the tags that are not closed yet
    std::vector<Ends> m_ends;        ///< what would close them
    Tree m_tree;
};

} // namespace nibble::jinja
