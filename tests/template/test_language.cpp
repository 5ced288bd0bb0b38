#include "tests/template/read_whole.h"

#include "core/template/template.h"
#include "core/template/template_error.h"

#include <QTest>
#include <nlohmann/json.hpp>

using namespace nibble;
using namespace nibble::test;

namespace {

/// What a template makes of the variables, or "error: " and why not.
std::string outcome(const std::string& source, const OrderedJson& variables) {
    jinja::RenderOptions options;
    options.date = std::chrono::year{2026} / 11 / 23;
    try {
        return Template(source, "test").render(variables, options);
    } catch (const TemplateError& error) {
        return "error: " + error.message();
    }
}

} // namespace

/// Snippets of the template language, and what Jinja2 3.1 made of them in the environment that
/// transformers sets up: text and errors byte for byte.
class TestLanguage : public QObject {
    Q_OBJECT

private slots:
    void asJinja_data() {
        QTest::addColumn<QByteArray>("source");
        QTest::addColumn<QByteArray>("expected");
        const auto table = OrderedJson::parse(readWhole(sourcePath("tests/template/cases.json")));
        for (const auto& row : table["cases"]) {
            const auto source = row["template"].get<std::string>();
            const std::string expected = row.contains("output")
                                             ? row["output"].get<std::string>()
                                             : "error: " + row["error"].get<std::string>();
            QTest::newRow(source.substr(0, 60).c_str())
                << QByteArray::fromStdString(source) << QByteArray::fromStdString(expected);
        }
        QVERIFY(table["cases"].size() > 600);
    }
    void asJinja() {
        QFETCH(QByteArray, source);
        QFETCH(QByteArray, expected);
        static const OrderedJson context =
            OrderedJson::parse(readWhole(sourcePath("tests/template/cases.json")))["context"];
        QCOMPARE(QByteArray::fromStdString(outcome(source.toStdString(), context)), expected);
    }

    /// All conversations of every template in the oracles, refusals included.
    void asTheOracles_data() {
        QTest::addColumn<QByteArray>("source");
        QTest::addColumn<QByteArray>("variables");
        QTest::addColumn<QByteArray>("expected");
        const auto folder = sharedPath("oracles/templates");
        if (!std::filesystem::exists(folder / "expected.json"))
            return;
        const auto oracle = OrderedJson::parse(readWhole(folder / "expected.json"));
        for (const auto& [model, results] : oracle["expected"].items())
            for (const auto& [name, result] : results.items()) {
                const size_t slash = name.find('/');
                const OrderedJson variables = {
                    {"messages", oracle["conversations"][name.substr(0, slash)]},
                    {"add_generation_prompt", name.substr(slash) == "/gen"},
                    {"bos_token", "<s>"},
                    {"eos_token", "</s>"}};
                const std::string expected = result.is_string()
                                                 ? result.get<std::string>()
                                                 : "error: " + result["error"].get<std::string>();
                QTest::newRow((model + " " + name).c_str())
                    << QByteArray::fromStdString(readWhole(folder / (model + ".jinja")))
                    << QByteArray::fromStdString(variables.dump())
                    << QByteArray::fromStdString(expected);
            }
    }
    void asTheOracles() {
        NIBBLE_NEED_SHARED("oracles/templates/expected.json");
        QFETCH(QByteArray, source);
        QFETCH(QByteArray, variables);
        QFETCH(QByteArray, expected);
        QCOMPARE(QByteArray::fromStdString(
                     outcome(source.toStdString(), OrderedJson::parse(variables.toStdString()))),
                 expected);
    }

    void errorsSayWhere() {
        try {
            Template("a\n{% if x %}\n{{ 1 + 'a' }}{% endif %}", "the model").render({{"x", 1}});
            QFAIL("no error");
        } catch (const TemplateError& error) {
            QCOMPARE(error.line(), 3);
            QVERIFY(!error.refused());
            QCOMPARE(error.kind(), ErrorKind::BadInput);
            QVERIFY(QByteArray(error.what()).contains("the model"));
            QVERIFY(QByteArray(error.what()).contains("line 3"));
        }
        try {
            Template("\n{{ raise_exception('Roles must alternate') }}", "it").render({});
            QFAIL("no error");
        } catch (const TemplateError& error) {
            QVERIFY(error.refused());
            QCOMPARE(error.message(), std::string("Roles must alternate"));
            QCOMPARE(error.line(), 2);
        }
    }

    void dates() {
        const Template source("{{ strftime_now('%A %-d %B %Y, %j, %U %W') }}", "it");
        const auto on = [&](std::chrono::year_month_day date) { return source.render({}, {date}); };
        using namespace std::chrono;
        QCOMPARE(on(year{2024} / 2 / 29), std::string("Thursday 29 February 2024, 060, 08 09"));
        QCOMPARE(on(year{2023} / 1 / 1), std::string("Sunday 1 January 2023, 001, 01 00"));
        QCOMPARE(on(year{2026} / 12 / 31), std::string("Thursday 31 December 2026, 365, 52 52"));
        QCOMPARE(Template("{{ strftime_now('%Y') }}", "it").render({}).size(), size_t(4));
    }

    /// One template serves several threads; what one rendering sets is not in the next.
    void rendersAgain() {
        const Template source("{% set ns = namespace(n=n) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}",
                              "it");
        QCOMPARE(source.render({{"n", 1}}), std::string("2"));
        QCOMPARE(source.render({{"n", 5}}), std::string("6"));
        QCOMPARE(source.render({{"n", 1}}), std::string("2"));
    }
};

QTEST_GUILESS_MAIN(TestLanguage)
#include "test_language.moc"
