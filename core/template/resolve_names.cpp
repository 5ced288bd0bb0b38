#include "core/template/ast.h"
#include "core/template/filters.h"
#include "core/template/template_error.h"

#include <map>
#include <set>

/// Which names are variables of which part of a template is settled before it runs: a name that a
/// part sets before it reads it is its own from the start, and hides what has the same name outside
/// (a message's field, a variable of the caller) also where it was not set yet.
namespace nibble::jinja {
namespace {

/// Where a name comes from when a part starts.
enum class Source { Parameter, Outer, Hidden };

/// Names of one part, or of one branch in it.
struct Names {
    const Names* parent = nullptr; ///< of the part around it
    const Names* before = nullptr; ///< of this part, up to the branch
    std::map<std::string, Source> known;
    std::set<std::string> stored;

    bool knowsHere(const std::string& name) const {
        return known.contains(name) || (before && before->knowsHere(name));
    }
    bool knows(const std::string& name) const {
        return knowsHere(name) || (parent && parent->knows(name));
    }
    bool stores(const std::string& name) const {
        return stored.contains(name) || (before && before->stores(name));
    }
    void load(const std::string& name) {
        if (!knows(name))
            known[name] = Source::Outer;
    }
    void store(const std::string& name) {
        stored.insert(name);
        if (!knowsHere(name))
            known[name] = parent && parent->knows(name) ? Source::Outer : Source::Hidden;
    }
    std::vector<std::string> hidden() const {
        std::vector<std::string> out;
        for (const auto& [name, source] : known)
            if (source == Source::Hidden)
                out.push_back(name);
        return out;
    }
};

class Resolver {
public:
    explicit Resolver(Tree& tree) : m_tree(tree) {}
    void run() {
        Names root;
        m_tree.hidden = part(root, m_tree.body, {});
    }

private:
    using Kind = Statement::Kind;

    // First pass over a part: the names it loads and stores, in the order of its text.

    void loads(const Expression* e, Names& names) const {
        if (!e)
            return;
        if (e->kind == Expression::Kind::Name)
            names.load(e->name);
        for (const ExpressionPtr& one : e->parts)
            loads(one.get(), names);
        loads(e->arguments, names);
    }
    void loads(const CallArguments& arguments, Names& names) const {
        for (const ExpressionPtr& one : arguments.positional)
            loads(one.get(), names);
        for (const auto& [name, one] : arguments.named)
            loads(one.get(), names);
        loads(arguments.more.get(), names);
        loads(arguments.moreNamed.get(), names);
    }
    void stores(const Expression& target, Names& names) const {
        if (target.kind == Expression::Kind::Name)
            names.store(target.name);
        else if (target.kind == Expression::Kind::Attribute)
            names.load(target.parts[0]->name);
        else
            for (const ExpressionPtr& one : target.parts)
                stores(*one, names);
    }
    void parameters(const Expression& target, Names& names) const {
        if (target.kind == Expression::Kind::Name)
            names.known[target.name] = Source::Parameter;
        for (const ExpressionPtr& one : target.parts)
            parameters(*one, names);
    }
    void gather(const Body& body, Names& names) const {
        for (const StatementPtr& one : body)
            gather(*one, names);
    }
    void gather(const Statement& s, Names& names) const {
        switch (s.kind) {
        case Kind::Macro:
            names.store(s.text);
            break;
        case Kind::If:
            gatherIf(s, names);
            break;
        case Kind::For:
            loads(s.expressions[0].get(), names);
            break;
        case Kind::SetBlock:
            stores(*s.targets[0], names);
            break;
        case Kind::Scope:
        case Kind::Block:
            break;
        default: // Print, Set, CallBlock, FilterBlock, With
            for (const ExpressionPtr& one : s.expressions)
                loads(one.get(), names);
            if (s.kind == Kind::Set)
                stores(*s.targets[0], names);
        }
    }
    /// A name that not every branch sets is looked up outside where it was not set. (An `if` has
    /// three: its own, its elifs, each an `if` in turn, and its else. An empty one sets nothing.)
    void gatherIf(const Statement& s, Names& names) const {
        const size_t tests = s.expressions.size();
        loads(s.expressions[0].get(), names);
        std::vector<Names> branches(3, Names{names.parent, &names, {}, {}});
        gather(s.bodies[0], branches[0]);
        Names& elifs = branches[1];
        for (size_t i = 1; i < tests; ++i) {
            loads(s.expressions[i].get(), elifs);
            std::vector<Names> inner(3, Names{names.parent, &elifs, {}, {}});
            gather(s.bodies[i], inner[0]);
            merge(elifs, inner);
        }
        if (s.bodies.size() > tests)
            gather(s.bodies.back(), branches[2]);
        merge(names, branches);
    }
    static void merge(Names& names, const std::vector<Names>& branches) {
        std::map<std::string, size_t> counts;
        for (const Names& branch : branches)
            for (const std::string& name : branch.stored)
                if (!names.stores(name))
                    ++counts[name];
        for (const Names& branch : branches) {
            for (const auto& [name, source] : branch.known)
                names.known[name] = source;
            names.stored.insert(branch.stored.begin(), branch.stored.end());
        }
        for (const auto& [name, count] : counts)
            if (count < branches.size())
                names.known[name] = Source::Outer;
    }

    // Second pass: the parts inside, once the names of the part around them are known.

    std::vector<std::string> part(Names& names, Body& body,
                                  const std::function<void(Names&)>& first) {
        if (first)
            first(names);
        gather(body, names);
        inside(body, names, false);
        return names.hidden();
    }
    void inside(Body& body, const Names& names, bool soft) {
        for (const StatementPtr& one : body)
            inside(*one, names, soft);
    }
    void inside(Statement& s, const Names& names, bool soft) {
        for (const ExpressionPtr& one : s.expressions)
            check(one.get(), soft || s.kind == Kind::If);
        for (const ExpressionPtr& one : s.signature.defaults)
            check(one.get(), soft);
        if (s.kind == Kind::If) {
            for (Body& body : s.bodies)
                inside(body, names, true);
            return;
        }
        for (size_t i = 0; i < s.bodies.size(); ++i) {
            Names own;
            // A block sees only what the whole template set, not the variables around it.
            own.parent = s.kind == Kind::Block && !s.scoped ? nullptr : &names;
            s.hidden.push_back(part(own, s.bodies[i], [&](Names& inner) {
                for (const std::string& name : s.signature.names)
                    inner.known[name] = Source::Parameter;
                if (s.kind == Kind::Macro || s.kind == Kind::CallBlock) {
                    for (const ExpressionPtr& one : s.signature.defaults)
                        loads(one.get(), inner);
                    specials(s, inner);
                } else if ((s.kind == Kind::For && i == 0) || s.kind == Kind::With) {
                    for (const ExpressionPtr& one : s.targets)
                        parameters(*one, inner);
                    if (s.kind == Kind::For)
                        inner.known["loop"] = Source::Parameter;
                }
            }));
        }
    }
    /// caller, varargs and kwargs exist in a macro that speaks of them.
    void specials(Statement& s, Names& names) const {
        Names read;
        gatherDeep(s.bodies[0], read);
        for (const ExpressionPtr& one : s.signature.defaults)
            loads(one.get(), read);
        const auto takes = [&](const char* name) {
            bool isParameter = false;
            for (const std::string& parameter : s.signature.names)
                isParameter |= parameter == name;
            const bool found = !isParameter && read.known.contains(name);
            if (found)
                names.known[name] = Source::Parameter;
            return found || (isParameter && std::string_view(name) == "caller");
        };
        s.signature.takesCaller = takes("caller");
        s.signature.takesMore = takes("varargs");
        s.signature.takesNamed = takes("kwargs");
    }
    /// All names read anywhere inside.
    void gatherDeep(const Body& body, Names& names) const {
        for (const StatementPtr& s : body) {
            for (const ExpressionPtr& one : s->expressions)
                loads(one.get(), names);
            for (const ExpressionPtr& one : s->signature.defaults)
                loads(one.get(), names);
            for (const Body& inner : s->bodies)
                gatherDeep(inner, names);
        }
    }

    /// Filters and tests that do not exist: refused here, or at their use inside a condition.
    void check(const Expression* e, bool soft) {
        if (!e)
            return;
        if (!soft && e->kind == Expression::Kind::Filter && !e->filter)
            throw TemplateError(m_tree.name, e->line,
                                fmt::format("No filter named '{}'.", e->name));
        if (!soft && e->kind == Expression::Kind::Test && !e->test)
            throw TemplateError(m_tree.name, e->line, fmt::format("No test named '{}'.", e->name));
        soft |= e->kind == Expression::Kind::Conditional;
        for (const ExpressionPtr& one : e->parts)
            check(one.get(), soft);
        for (const ExpressionPtr& one : e->arguments.positional)
            check(one.get(), soft);
        for (const auto& [name, one] : e->arguments.named)
            check(one.get(), soft);
        check(e->arguments.more.get(), soft);
        check(e->arguments.moreNamed.get(), soft);
    }

    Tree& m_tree;
};

} // namespace

void resolveNames(Tree& tree) {
    Resolver(tree).run();
}

} // namespace nibble::jinja
