#include "tests/app/gui/gui_test.h"

#include "app/gui/models/model_table.h"

#include <QAbstractItemModelTester>

using namespace nibble;

namespace {

FoundModel row(const char* group, const char* name, const char* format, uint64_t bytes,
               uint64_t weights, uint64_t budget) {
    FoundModel model;
    model.group = QLatin1String(group);
    model.name = QLatin1String(name);
    model.path = QLatin1String("/models/") + model.name;
    model.format = QLatin1String(format);
    model.bytes = bytes;
    model.bitsPerWeight = 4.5;
    Ledger ledger;
    ledger.use.weights = weights;
    ledger.budget = budget;
    model.needs = ledger;
    return model;
}

std::vector<FoundModel> someModels() {
    return {
        row("Recent", "small", "GGUF q4_0", 2'020'000'000, 2'000'000'000, 16'000'000'000),
        row("Recent", "middle", "GGUF q8_0", 9'000'000'000, 15'000'000'000, 16'000'000'000),
        row("Ollama", "large", "safetensors F16", 29'500'000'000, 33'200'000'000, 16'000'000'000),
    };
}

QString print(const QAbstractItemModel& model, const QModelIndex& parent = {}, int depth = 0) {
    QString text;
    for (int r = 0; r < model.rowCount(parent); ++r) {
        QStringList cells;
        for (int c = 0; c < model.columnCount(parent); ++c) {
            const QString cell = model.index(r, c, parent).data().toString();
            if (!cell.isEmpty())
                cells << cell;
        }
        text += QString(depth * 2, QLatin1Char(' ')) + cells.join(QStringLiteral(" | ")) +
                QLatin1Char('\n');
        text += print(model, model.index(r, 0, parent), depth + 1);
    }
    return text.replace(QChar(0x2009), QLatin1Char(' '));
}

} // namespace

class TestModelsMode : public QObject {
    Q_OBJECT
private slots:
    void tableReadsAsText();
    void filterFindsWordsAndWhatFits();
    void sortsByValueNotByText();
    void measuredFiguresAppearInTheirRow();
    void variantsStandUnderTheirBase();
    void unreadableFileHasAProblem();
};

void TestModelsMode::tableReadsAsText() {
    ModelTable table;
    QAbstractItemModelTester tester(&table, QAbstractItemModelTester::FailureReportingMode::QtTest);
    table.setModels(someModels());
    QCOMPARE(
        print(table),
        QStringLiteral(
            "Recent  2\n"
            "  small | GGUF q4_0 | 2.02 GB | 4.50 | 2.00 GB, 14.0 GB free | not measured | not "
            "measured | never\n"
            "  middle | GGUF q8_0 | 9.00 GB | 4.50 | 15.0 GB, 1.00 GB free | not measured | not "
            "measured | never\n"
            "Ollama  1\n"
            "  large | safetensors F16 | 29.5 GB | 4.50 | 33.2 GB, 17.2 GB too big | not "
            "measured | not measured | never\n"));
    const auto fit = [&](const char* name) {
        return table.indexOf(QLatin1String("/models/") + QLatin1String(name))
            .data(ModelTable::FitRole)
            .toInt();
    };
    QCOMPARE(fit("small"), int(ModelTable::Fits));
    QCOMPARE(fit("middle"), int(ModelTable::Tight));
    QCOMPARE(fit("large"), int(ModelTable::TooBig));
}

void TestModelsMode::filterFindsWordsAndWhatFits() {
    ModelTable table;
    table.setModels(someModels());
    ModelFilter filter;
    filter.setSourceModel(&table);
    QAbstractItemModelTester tester(&filter,
                                    QAbstractItemModelTester::FailureReportingMode::QtTest);
    const auto names = [&] {
        QStringList found;
        for (int g = 0; g < filter.rowCount(); ++g)
            for (int r = 0; r < filter.rowCount(filter.index(g, 0)); ++r)
                found << filter.index(r, 0, filter.index(g, 0)).data().toString();
        return found;
    };
    QCOMPARE(names(), QStringList({"small", "middle", "large"}));
    filter.setWords(QStringLiteral("gguf Q8"));
    QCOMPARE(names(), QStringList({"middle"}));
    filter.setWords({});
    filter.setOnlyFitting(true);
    QCOMPARE(names(), QStringList({"small", "middle"}));
    filter.setWords(QStringLiteral("nothing like it"));
    QCOMPARE(filter.rowCount(), 0);
}

void TestModelsMode::sortsByValueNotByText() {
    ModelTable table;
    auto models = someModels();
    models[0].bytes = 10'000'000'000; // as text "10.0" would come before "9.00"
    table.setModels(models);
    ModelFilter filter;
    filter.setSourceModel(&table);
    filter.sort(ModelTable::Size, Qt::AscendingOrder);
    const QModelIndex group = filter.index(0, 0);
    QCOMPARE(filter.index(0, 0, group).data().toString(), QStringLiteral("middle"));
    QCOMPARE(filter.index(1, 0, group).data().toString(), QStringLiteral("small"));
}

void TestModelsMode::measuredFiguresAppearInTheirRow() {
    ModelTable table;
    table.setModels(someModels());
    table.setMeasured(QStringLiteral("/models/small"), QStringLiteral("0.016 ± 0.001"),
                      QStringLiteral("142"));
    const QModelIndex at = table.indexOf(QStringLiteral("/models/small"));
    QCOMPARE(at.siblingAtColumn(ModelTable::Kld).data().toString(),
             QStringLiteral("0.016 ± 0.001"));
    QCOMPARE(table.indexOf(QStringLiteral("/models/large"))
                 .siblingAtColumn(ModelTable::Kld)
                 .data()
                 .toString(),
             QStringLiteral("not measured"));
}

void TestModelsMode::variantsStandUnderTheirBase() {
    ModelTable table;
    QAbstractItemModelTester tester(&table, QAbstractItemModelTester::FailureReportingMode::QtTest);
    table.setModels(someModels());
    ModelFilter filter;
    filter.setSourceModel(&table);
    QAbstractItemModelTester filtered(&filter,
                                      QAbstractItemModelTester::FailureReportingMode::QtTest);
    FoundVariant small, big;
    small.level = QStringLiteral("int4");
    small.title = QStringLiteral("INT4 g32");
    small.bytes = 1'000'000'000;
    small.bitsPerWeight = 4.5;
    small.needs = Ledger{};
    small.needs->use.weights = 1'000'000'000;
    small.needs->budget = 16'000'000'000;
    small.kld = QStringLiteral("0.016 ± 0.001");
    big = small;
    big.title = QStringLiteral("F16");
    big.needs->use.weights = 20'000'000'000;
    table.setVariants(QStringLiteral("/models/large"), {small, big});
    QVERIFY(print(table).contains(QStringLiteral("    INT4 g32 | level | 1.00 GB | 4.50 | 1.00 GB, "
                                                 "15.0 GB free | 0.016 ± 0.001 | not measured")));
    const QModelIndex base = table.indexOf(QStringLiteral("/models/large"));
    QCOMPARE(table.rowCount(base), 2);
    QCOMPARE(table.at(table.index(1, 0, base))->name, QStringLiteral("large"));
    QCOMPARE(table.index(0, 0, base).data(ModelTable::VariantRole).toString(),
             QStringLiteral("int4"));

    filter.setOnlyFitting(true); // a base that is too big shows with the variant that fits
    QVERIFY(print(filter).contains(QStringLiteral("INT4 g32")));
    QVERIFY(print(filter).contains(QStringLiteral("large")));
    QVERIFY(!print(filter).contains(QStringLiteral("F16 | level")));
    filter.setOnlyFitting(false);
    filter.setWords(QStringLiteral("int4"));
    QVERIFY(print(filter).contains(QStringLiteral("INT4 g32")));
    QVERIFY(!print(filter).contains(QStringLiteral("small")));

    table.setVariants(QStringLiteral("/models/small"), {small}); // another model was opened
    QCOMPARE(table.rowCount(table.indexOf(QStringLiteral("/models/large"))), 0);
    QCOMPARE(table.rowCount(table.indexOf(QStringLiteral("/models/small"))), 1);
}

void TestModelsMode::unreadableFileHasAProblem() {
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("broken.gguf"));
    QFile file(path);
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write("GGUF, but not really");
    file.close();
    const FoundModel model = describeModel(path, QStringLiteral("Recent"), {}, nullptr);
    QCOMPARE(model.name, QStringLiteral("broken"));
    QVERIFY(!model.problem.isEmpty());
    QVERIFY(!model.needs);
    FoundFile found;
    found.path = path.toStdString();
    found.name = "cut:1b";
    found.source = "Ollama";
    found.bytes = 20;
    const FoundModel same = describeModel(found, {}, nullptr);
    QCOMPARE(same.name, QStringLiteral("cut:1b"));
    QCOMPARE(same.group, QStringLiteral("Ollama"));
    QCOMPARE(same.problem, model.problem);
    found.problem = "Its manifest names a blob that is not there.";
    QCOMPARE(describeModel(found, {}, nullptr).problem, QString::fromStdString(found.problem));
}

NIBBLE_GUI_TEST(TestModelsMode)
#include "test_models_mode.moc"
