#include "app/gui/panels/tensor_table.h"

#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include "core/model/names.h"

#include <QClipboard>
#include <QGuiApplication>
#include <QLineEdit>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

namespace nibble {

QString TensorFilter::parse(const QString& line) {
    static const std::map<QString, double Row::*> fields{
        {QStringLiteral("error"), &Row::error},
        {QStringLiteral("sqnr"), &Row::sqnr},
        {QStringLiteral("bits"), &Row::bits},
        {QStringLiteral("mb"), &Row::megabytes},
        {QStringLiteral("outliers"), &Row::outliers}};
    m_alternatives.assign(1, {});
    for (const QString& part : line.toLower().split(u' ', Qt::SkipEmptyParts)) {
        if (part == u"or") {
            m_alternatives.emplace_back();
            continue;
        }
        Term term;
        const auto sign =
            std::find_if(part.begin(), part.end(), [](QChar c) { return c == u'<' || c == u'>'; });
        if (sign == part.end()) {
            term.word = part;
        } else {
            const auto at = static_cast<qsizetype>(sign - part.begin());
            const auto field = fields.find(part.left(at));
            bool isNumber = false;
            term.value = part.mid(at + 1).toDouble(&isNumber);
            if (field == fields.end() || !isNumber)
                return QObject::tr("“%1” is not a comparison. Use error, sqnr, bits, mb or "
                                   "outliers: error>0.05")
                    .arg(part);
            term.field = field->second;
            term.comparison = *sign;
        }
        m_alternatives.back().push_back(term);
    }
    std::erase_if(m_alternatives, [](const auto& terms) { return terms.empty(); });
    return {};
}

bool TensorFilter::accepts(const Row& row) const {
    const auto holds = [&](const Term& term) {
        if (!term.field)
            return term.word == u"unmeasured" ? row.error < 0
                   : term.word == u"outlier"
                       ? row.outliers > 0
                       : row.name.contains(term.word) || row.format.contains(term.word);
        if (row.error < 0 &&
            (term.field == &Row::error || term.field == &Row::sqnr || term.field == &Row::outliers))
            return false;
        return term.comparison == u'>' ? row.*term.field > term.value
                                       : row.*term.field < term.value;
    };
    return m_alternatives.empty() ||
           std::any_of(m_alternatives.begin(), m_alternatives.end(), [&](const auto& terms) {
               return std::all_of(terms.begin(), terms.end(), holds);
           });
}

TensorTable::TensorTable(Workbench& workbench, QWidget* parent)
    : Panel(tr("Tensors"), parent), m_workbench(workbench),
      m_count(new Label({}, Type::Secondary, Ink::SecondaryText)), m_line(new QLineEdit) {
    header()->addWidget(m_count);
    header()->addStretch(1);
    auto* copy = makeButton(tr("Copy"), ButtonKind::Plain, QStringLiteral("copy"));
    header()->addWidget(copy);

    m_line->setPlaceholderText(tr("Filter: down error>0.05 outlier or unmeasured"));
    m_line->setToolTip(
        tr("Words match name or format; outlier and unmeasured are words too. Compare "
           "error, sqnr, bits, mb or outliers with < or >. “or” separates "
           "alternatives."));
    m_line->setAccessibleName(tr("Filter of the tensors"));
    m_line->setClearButtonEnabled(true);
    body()->addWidget(m_line);

    const auto at = [this](int i) -> const TensorFilter::Row& {
        return m_rows[static_cast<size_t>(i)];
    };
    std::vector<Column> columns;
    columns.push_back({tr("Name"), {}, [at](int i) { return at(i).name; }, {}, {}});
    columns.push_back({tr("Format"), {}, [at](int i) { return at(i).format; }, {}, {}, 1});
    columns.push_back({tr("Error"), tr("‖weights − quantized‖ / ‖weights‖"),
                       [at](int i) {
                           return at(i).error < 0    ? tr("not measured")
                                  : at(i).error == 0 ? QStringLiteral("0")
                                                     : units::number(at(i).error, 2);
                       },
                       [at](int i) { return at(i).error; },
                       [this, at](int i) {
                           return at(i).error > 0 && m_mostError > 0 ? at(i).error / m_mostError
                                                                     : -1.0;
                       }});
    columns.push_back({tr("SQNR, dB"),
                       tr("Signal to quantization noise; 6 dB are one bit"),
                       [at](int i) {
                           return at(i).error > 0 ? QString::number(at(i).sqnr, 'f', 1)
                                                  : QStringLiteral("–");
                       },
                       [at](int i) { return at(i).error > 0 ? at(i).sqnr : 1e9; },
                       {},
                       2});
    columns.push_back({tr("MB"),
                       {},
                       [at](int i) { return QString::number(at(i).megabytes, 'f', 2); },
                       [at](int i) { return at(i).megabytes; },
                       {},
                       3});
    columns.push_back({tr("Outliers"),
                       tr("Weights further from the mean than six standard deviations"),
                       [at](int i) {
                           return at(i).outliers < 0
                                      ? QStringLiteral("–")
                                      : units::count(static_cast<int64_t>(at(i).outliers));
                       },
                       [at](int i) { return at(i).outliers; },
                       {},
                       4});
    m_model = new ColumnModel(std::move(columns), this);
    m_table = new ColumnTable(m_model, tr("Tensors"), 2);
    m_table->sortByColumn(2, Qt::DescendingOrder); // what loses most stands first
    body()->addWidget(m_table, 1);

    connect(copy, &QPushButton::clicked, this,
            [this] { QGuiApplication::clipboard()->setText(m_table->asText(u'\t')); });
    connect(m_line, &QLineEdit::textChanged, this, &TensorTable::refilter);
    connect(m_table, &ColumnTable::rowChosen, this, &TensorTable::choose);
    connect(&m_workbench, &Workbench::modelChanged, this, &TensorTable::rebuild);
    for (auto signal : {&Workbench::recipeChanged, &Workbench::tensorErrorsChanged})
        connect(&m_workbench, signal, this, &TensorTable::refresh);
    connect(&m_workbench, &Workbench::selectionChanged, this, [this] {
        const auto key = m_workbench.selection();
        const auto found = key ? std::find(m_keys.begin(), m_keys.end(), *key) : m_keys.end();
        m_table->setCurrentRow(
            found == m_keys.end() ? -1 : static_cast<int>(found - m_keys.begin()), !m_fresh);
        m_fresh = false;
    });
    rebuild();
}

void TensorTable::focusFilter() {
    m_line->setFocus();
    m_line->selectAll();
}

void TensorTable::choose(int row) {
    const auto i = static_cast<size_t>(row);
    if (i < m_keys.size())
        m_workbench.setSelection(m_keys[i]);
    else if (i < m_stored.size()) {
        m_currentStored = m_stored[i];
        emit storedChosen();
    }
}

void TensorTable::rebuild() {
    m_fresh = true; // the model's first tensor is selected next: the table stays at its top
    m_keys.clear();
    if (const auto model = m_workbench.model())
        for (const TensorKey key : model->keys())
            if (isMatrix(key.role))
                m_keys.push_back(key);
    m_stored.clear();
    if (const auto model = m_workbench.model(); model && !model->unsupported.empty())
        for (size_t i = 0; i < model->checkpoint->tensors.size(); ++i)
            m_stored.push_back(i);
    m_currentStored = 0;
    for (const size_t i : m_stored) {
        const auto& tensors = m_workbench.model()->checkpoint->tensors;
        if (tensors[i].format() && (!tensors[m_currentStored].format() ||
                                    tensors[i].values() > tensors[m_currentStored].values()))
            m_currentStored = i;
    }
    m_rows.assign(m_keys.size() + m_stored.size(), {});
    m_model->setRows(0);
    refresh();
}

void TensorTable::refresh() {
    const auto model = m_workbench.model();
    m_mostError = 0;
    for (size_t i = 0; i < m_keys.size(); ++i) {
        TensorFilter::Row& row = m_rows[i];
        row.name = QString::fromStdString(tensorName(m_keys[i]));
        const auto choice = m_workbench.choice(m_keys[i]);
        const TensorInfo* info = model ? model->find(m_keys[i]) : nullptr;
        if (choice && choice->format && info) {
            row.format = QString::fromUtf8(choice->format->name);
            const QString stored = QString::fromUtf8(info->type->name);
            if (choice->format == info->format() && row.format != stored)
                row.format = tr("%1, stored as %2").arg(row.format, stored);
            row.bits = choice->format->bitsPerWeight(info->cols());
            row.megabytes = row.bits * static_cast<double>(info->values()) / 8e6;
        }
        const TensorError* error = m_workbench.tensorError(m_keys[i]);
        row.error = error ? error->relativeError : -1;
        row.sqnr = error ? error->sqnr : 0;
        row.outliers = error ? static_cast<double>(error->beyondSixSigma) : -1;
        m_mostError = std::max(m_mostError, row.error);
    }
    for (size_t i = 0; i < m_stored.size(); ++i) {
        TensorFilter::Row& row = m_rows[i];
        const TensorInfo& info = model->checkpoint->tensors[m_stored[i]];
        row.name = QString::fromStdString(printable(info.name));
        row.format = QString::fromStdString(info.storedText());
        row.megabytes = static_cast<double>(info.storedBytes()) * 1e-6;
        row.bits = info.values() ? row.megabytes * 8e6 / static_cast<double>(info.values()) : 0;
    }
    m_model->setRows(static_cast<int>(m_rows.size()));
    refilter();
}

void TensorTable::refilter() {
    const QString wrong = m_filter.parse(m_line->text());
    m_line->setAccessibleDescription(wrong);
    int shown = 0;
    for (const auto& row : m_rows)
        shown += wrong.isEmpty() && m_filter.accepts(row);
    if (!wrong.isEmpty())
        m_count->setText(wrong);
    else
        m_count->setText(
            shown == static_cast<int>(m_rows.size())
                ? units::count(shown)
                : tr("%1 of %2")
                      .arg(units::count(shown), units::count(static_cast<int>(m_rows.size()))));
    m_count->setInk(wrong.isEmpty() ? Ink::SecondaryText : Ink::Bad);
    if (wrong.isEmpty())
        m_table->setFilter(
            [this](int i) { return m_filter.accepts(m_rows[static_cast<size_t>(i)]); });
}

} // namespace nibble
