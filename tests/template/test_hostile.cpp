#include "tests/template/read_whole.h"

#include "core/base/limits.h"
#include "core/base/random.h"
#include "core/template/template.h"
#include "core/template/template_error.h"

#include <QElapsedTimer>
#include <QTest>
#include <nlohmann/json.hpp>

using namespace nibble;
using namespace nibble::test;

namespace {

std::string times(const std::string& text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i)
        out += text;
    return out;
}

/// What it ends with: "" when it renders, else its error. Anything but a TemplateError gets out.
std::string problem(const std::string& source, const OrderedJson& variables = {}) {
    try {
        Template(source, "test").render(variables);
        return {};
    } catch (const TemplateError& error) {
        return error.message();
    }
}

} // namespace

/// Templates from strangers: each ends with a sentence, in bounded time and memory.
class TestHostile : public QObject {
    Q_OBJECT

private slots:
    void refused_data() {
        QTest::addColumn<QByteArray>("source");
        QTest::addColumn<QByteArray>("part"); ///< of the sentence
        const auto row = [](const char* name, const std::string& source, const char* part) {
            QTest::newRow(name) << QByteArray::fromStdString(source) << QByteArray(part);
        };
        row("endless loop",
            "{% set a = range(100000) %}{% for i in a %}{% for j in a %}{% endfor %}{% endfor %}",
            "which is the limit");
        row("endless output",
            "{% for i in range(100000) %}{% for j in range(90) %}" + times("0123456789", 100) +
                "{% endfor %}{% endfor %}",
            "it writes more than");
        row("large range", "{% for i in range(10**9) %}{% endfor %}", "Range too big");
        row("range overflow", "{{ range(-9223372036854775807, 9223372036854775807, 1) }}",
            "Range too big");
        row("large text", "{{ 'x' * 10**9 }}", "memory");
        row("large text twice", "{{ 'x' * 10**18 * 10**18 }}", "memory");
        row("large list", "{{ [0] * 10**9 }}", "memory");
        row("doubling",
            "{% set ns = namespace(s='x') %}{% for i in range(100) %}"
            "{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "which is the limit");
        row("join", "{{ range(100000)|join('x' * 100000) }}", "which is the limit");
        row("replace", "{{ ('x' * 1000000).replace('x', 'y' * 10000) }}", "memory");
        row("centre", "{{ 'x'.center(10**12) }}", "memory");
        row("filter centre", "{{ 'x'|center(10**12) }}", "memory");
        row("fill", "{{ 'x'.zfill(10**12) }}", "memory");
        row("tabs", "{{ '\t'.expandtabs(10**12) }}", "memory");
        row("indent", "{{ 'x\ny'|indent(10**12) }}", "memory");
        row("batch", "{{ [1]|batch(10**12, 0)|list }}", "memory");
        row("slice", "{{ [1]|slice(10**12)|list }}", "memory");
        row("format width", "{{ '{:99999999999}'.format(1) }}", "width");
        row("percent width", "{{ '%99999999999d' % 1 }}", "width");
        row("percent star", "{{ '%*d' % (10**12, 1) }}", "* wants int");
        row("json indent", "{{ [[[[[[[[1]]]]]]]]|tojson(indent='x' * 100000000) }}",
            "which is the limit");
        row("power", "{{ 10 ** 10000 }}", "64 bits");
        row("power of power", "{{ 9 ** 9 ** 9 ** 9 }}", "64 bits");
        row("sum overflow", "{{ 9223372036854775807 + 1 }}", "64 bits");
        row("product overflow", "{{ 9223372036854775807 * 2 }}", "64 bits");
        row("negative overflow", "{{ (-9223372036854775807 - 1) // -1 }}", "64 bits");
        row("minus overflow", "{{ -(-9223372036854775807 - 1) }}", "64 bits");
        row("long number", "{{ 99999999999999999999 }}", "64 bits");
        row("float to int", "{{ 1e300|int }}", "64 bits");
        row("parentheses", "{{ " + times("(", 10000) + "1" + times(")", 10000) + " }}", "nests");
        row("lists", "{{ " + times("[", 10000) + times("]", 10000) + " }}", "nests");
        row("dictionaries", "{{ " + times("{1:", 10000) + "1" + times("}", 10000) + " }}", "nests");
        row("blocks", times("{% if x %}", 10000) + times("{% endif %}", 10000), "nests");
        row("loops", times("{% for x in y %}", 10000) + times("{% endfor %}", 10000), "nests");
        row("negations", "{{ " + times("not ", 10000) + "1 }}", "nests");
        row("minuses", "{{ " + times("-", 10000) + "1 }}", "nests");
        row("conditions", "{{ " + times("1 if 1 else ", 10000) + "1 }}", "nests");
        row("calls", "{{ " + times("f(", 10000) + times(")", 10000) + " }}", "nests");
        row("filters in filters", "{{ 1" + times("|d(1", 10000) + times(")", 10000) + " }}",
            "nests");
        row("targets", "{% set " + times("(", 10000) + "x" + times(")", 10000) + " = 1 %}",
            "nests");
        row("sum in a row", "{{ 1" + times("+1", 100000) + " }}", "in a row");
        row("filters in a row", "{{ 1" + times("|string", 100000) + " }}", "in a row");
        row("fields in a row", "{{ a" + times(".b", 100000) + " }}", "in a row");
        row("tests in a row", "{{ (a" + times(")", 1) + times(" is defined", 2) + " }}",
            "chain multiple tests");
        row("macro recursion", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion");
        row("two macros",
            "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
            "recursion");
        row("caller recursion",
            "{% macro m() %}{% call m() %}x{% endcall %}{{ caller }}{% endmacro %}{{ m() }}",
            "recursion");
        row("default recursion", "{% macro m(x=m()) %}{% endmacro %}{{ m() }}", "recursion");
        row("block recursion", "{% block b %}{{ self.b() }}{% endblock %}", "recursion");
        row("loop recursion", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "recursion");
        row("macro fan",
            "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
            "{{ m(60) }}",
            "which is the limit");
        row("nested value",
            "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}"
            "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
            "inside each other");
        row("nested dictionary",
            "{% set ns = namespace(x={}) %}{% for i in range(1000) %}"
            "{% set ns.x = {1: ns.x} %}{% endfor %}",
            "inside each other");
        row("nested generators",
            "{% set ns = namespace(x=[1]) %}{% for i in range(1000) %}"
            "{% set ns.x = ns.x|map('string') %}{% endfor %}{{ ns.x|list }}",
            "inside each other");
        row("nested loops kept",
            "{% set ns = namespace(x=1) %}{% for i in range(1000) %}{% for j in [ns.x] %}"
            "{% set ns.x = loop %}{% endfor %}{% endfor %}",
            "inside each other");
        row("namespace in itself", "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
            "recursion");
        row("import", "{% import '/etc/passwd' as p %}", "read no files");
        row("include", "{% include '/etc/passwd' %}", "read no files");
        row("random", "{{ [1, 2]|random }}", "refused");
        row("class", "{{ ''.__class__.__mro__ }}", "unsafe");
        row("globals", "{{ raise_exception.__globals__.x }}", "no attribute");
        row("1 MB of openings", times("{", 1'000'000), "nests");
        row("not UTF-8", "abc \xff\xfe", "UTF-8");
        row("half a character", "abc \xe4\xb8", "UTF-8");
        row("more than 1 MiB", times("0123456789", 120000), "bytes");
        row("lone surrogate", "{{ '\\ud800' }}", "does not exist");
    }
    void refused() {
        QFETCH(QByteArray, source);
        QFETCH(QByteArray, part);
        QElapsedTimer clock;
        clock.start();
        const QByteArray found = QByteArray::fromStdString(problem(source.toStdString()));
        QVERIFY2(found.contains(part), (part + " is not in: " + found.left(300)).constData());
        // Two seconds are the limit; the rest is for sanitizers and a busy machine.
        QVERIFY2(clock.elapsed() < 20'000, QByteArray::number(clock.elapsed()).constData());
    }

    /// Much, but allowed.
    void accepted_data() {
        QTest::addColumn<QByteArray>("source");
        const auto row = [](const char* name, const std::string& source) {
            QTest::newRow(name) << QByteArray::fromStdString(source);
        };
        row("1 MB of text", times("0123456789", 100000));
        row("1 MB of tags", times("{{ x }}{% if x %}{% endif %}", 37000));
        row("1 MB of ifs that set", [] {
            std::string out;
            for (int i = 0; i < 20000; ++i)
                out += "{% if y %}{% set x" + std::to_string(i) + " = 1 %}{% endif %}\n";
            return out;
        }());
        row("many elifs", "{% if x %}" + times("{% elif x %}", 20000) + "{% endif %}");
        row("90 levels", "{{ " + times("(", 90) + "1" + times(")", 90) + " }}");
        row("90 lists", "{% set x = " + times("[", 90) + times("]", 90) + " %}{{ x }}");
        row("90 blocks", times("{% if 1 %}", 90) + times("{% endif %}", 90));
        row("60 calls",
            "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}");
        row("300 in a row", "{{ 'a'" + times(" + 'b'", 300) + " }}");
        row("long list", "{{ range(100000)|list|length }}");
        row("kept loops",
            "{% set ns = namespace(f=0) %}{% for i in range(9) %}{% set ns.f = loop.cycle %}"
            "{% endfor %}{{ ns.f(1, 2) }}");
        row("kept macro",
            "{% set ns = namespace(f=0) %}{% for i in range(9) %}{% macro m() %}{{ i }}"
            "{% endmacro %}{% set ns.f = m %}{% endfor %}{{ ns.f() }}");
        row("circle of namespaces",
            "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}ok");
    }
    void accepted() {
        QFETCH(QByteArray, source);
        QElapsedTimer clock;
        clock.start();
        QCOMPARE(problem(source.toStdString()), std::string());
        QVERIFY2(clock.elapsed() < 20'000, QByteArray::number(clock.elapsed()).constData());
    }

    void textThatIsNotUtf8() {
        const OrderedJson bad = {{"x", "a\xff"}};
        QVERIFY(problem("{{ x }}", bad).find("UTF-8") != std::string::npos);
    }

    void deepMessages() {
        OrderedJson deep = 1;
        for (int i = 0; i < 2000; ++i)
            deep = OrderedJson::array({deep});
        QVERIFY(!problem("{{ x }}", {{"x", deep}}).empty());
    }

    /// The oracles' templates with pieces cut out, doubled, swapped and overwritten.
    void mutations() {
        NIBBLE_NEED_SHARED("oracles/templates/expected.json");
        const OrderedJson variables = {
            {"messages", OrderedJson::parse(R"([{"role":"system","content":"S"},
                {"role":"user","content":[{"type":"text","text":"é"}]},
                {"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[
                    {"id":"1","type":"function","function":{"name":"f","arguments":{"x":[1]}}}]},
                {"role":"tool","content":"{}","name":"f","tool_call_id":"1"}])")},
            {"add_generation_prompt", true},
            {"bos_token", "<s>"},
            {"eos_token", "</s>"},
            {"tools", OrderedJson::parse(R"([{"type":"function","function":{"name":"f",
                "description":"d","parameters":{"type":"object","properties":
                {"x":{"type":"array","items":{"type":"number"}}},"required":["x"]}}}])")}};
        const std::vector<std::string> pieces = {"{%",
                                                 "%}",
                                                 "{{",
                                                 "}}",
                                                 "-",
                                                 "(",
                                                 ")",
                                                 "[",
                                                 "]",
                                                 "{",
                                                 "}",
                                                 "|",
                                                 ".",
                                                 "'",
                                                 "\"",
                                                 "\\",
                                                 " is ",
                                                 " in ",
                                                 " not ",
                                                 " if ",
                                                 " else ",
                                                 "{% for x in x %}",
                                                 "{% endfor %}",
                                                 "{% endif %}",
                                                 "{% macro m() %}",
                                                 "{% endmacro %}",
                                                 "|length",
                                                 "|list",
                                                 "loop",
                                                 "9",
                                                 " * ",
                                                 " ** ",
                                                 "messages",
                                                 "[::-1]",
                                                 ":",
                                                 ",",
                                                 "\xff",
                                                 "é",
                                                 "{#",
                                                 "#}",
                                                 "none",
                                                 "m()"};
        Random random(20261123);
        const auto below = [&](size_t n) { return static_cast<size_t>(random.next() % n); };
        int rendered = 0, failed = 0;
        for (const auto& file :
             std::filesystem::directory_iterator(sharedPath("oracles/templates"))) {
            if (file.path().extension() != ".jinja")
                continue;
            const std::string whole = readWhole(file.path());
            for (int round = 0; round < 150; ++round) {
                std::string source = whole;
                for (size_t i = 0, n = 1 + below(3); i < n; ++i) {
                    const size_t at = below(source.size()), from = below(source.size());
                    const size_t length = std::min(below(40), source.size() - at);
                    switch (below(4)) {
                    case 0:
                        source.erase(at, length);
                        break;
                    case 1:
                        source.insert(at, pieces[below(pieces.size())]);
                        break;
                    case 2:
                        source.insert(at, source.substr(from, below(60)));
                        break;
                    default:
                        source.replace(at, length, pieces[below(pieces.size())]);
                    }
                    if (source.empty())
                        source = "x";
                }
                problem(source, variables).empty() ? ++rendered : ++failed;
            }
        }
        // Both happen, or the mutations test nothing.
        QVERIFY2(rendered > 100 && failed > 100,
                 qPrintable(QStringLiteral("%1 rendered, %2 refused").arg(rendered).arg(failed)));
    }
};

QTEST_GUILESS_MAIN(TestHostile)
#include "test_hostile.moc"
