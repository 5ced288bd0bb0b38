#include "app/gui/panels/metadata_panel.h"

#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include <QClipboard>
#include <QGuiApplication>
#include <QLineEdit>
#include <QVBoxLayout>

namespace nibble {

MetadataPanel::MetadataPanel(Workbench& workbench, QWidget* parent)
    : Panel(tr("Metadata"), parent), m_workbench(workbench),
      m_count(new Label({}, Type::Secondary, Ink::SecondaryText)), m_filter(new QLineEdit) {
    setAccessibleName(tr("Metadata of the open model"));
    header()->addWidget(m_count);
    header()->addStretch(1);
    auto* copyButton = makeButton(tr("Copy"), ButtonKind::Plain, QStringLiteral("copy"));
    copyButton->setToolTip(tr("Copies the chosen value whole, or all rows where none is chosen"));
    auto* back = makeButton(tr("Back to the models"), ButtonKind::Plain, QStringLiteral("models"));
    header()->addWidget(copyButton);
    header()->addWidget(back);
    m_filter->setPlaceholderText(tr("Filter by words of key, type or value"));
    m_filter->setAccessibleName(tr("Filter of the metadata"));
    m_filter->setClearButtonEnabled(true);
    body()->addWidget(m_filter);

    const auto at = [this](int i) -> const MetadataRow& { return m_rows[static_cast<size_t>(i)]; };
    std::vector<Column> columns;
    columns.push_back(
        {tr("Key"), {}, [at](int i) { return QString::fromStdString(at(i).key); }, {}, {}});
    columns.push_back(
        {tr("Type"), {}, [at](int i) { return QString::fromStdString(at(i).type); }, {}, {}});
    columns.push_back(
        {tr("Value"), {}, [at](int i) { return QString::fromStdString(at(i).value); }, {}, {}});
    m_model = new ColumnModel(std::move(columns), this);
    m_table = new ColumnTable(m_model, tr("Metadata"), 2);
    body()->addWidget(m_table, 1);
    connect(copyButton, &QPushButton::clicked, this, &MetadataPanel::copy);
    connect(back, &QPushButton::clicked, this, &MetadataPanel::closed);
    connect(m_filter, &QLineEdit::textChanged, this, &MetadataPanel::refresh);
    connect(&m_workbench, &Workbench::modelChanged, this, &MetadataPanel::refresh);
    refresh();
}

void MetadataPanel::focusFilter() {
    m_filter->setFocus();
    m_filter->selectAll();
}

void MetadataPanel::refresh() {
    m_model->setRows(0);
    m_rows.clear();
    const auto model = m_workbench.model();
    if (model)
        m_rows = metadataRows(model->checkpoint->metadata, m_filter->text().toStdString());
    const size_t all = model ? model->checkpoint->metadata.entries.size() : 0;
    m_count->setText(
        m_rows.size() == all
            ? units::count(int64_t(all))
            : tr("%1 of %2").arg(units::count(int64_t(m_rows.size())), units::count(int64_t(all))));
    m_model->setRows(static_cast<int>(m_rows.size()));
}

void MetadataPanel::copy() {
    const auto model = m_workbench.model();
    const int row = m_table->currentRow();
    const MetadataValue* value =
        model && row >= 0 ? model->checkpoint->metadata.find(m_rows[size_t(row)].key) : nullptr;
    QGuiApplication::clipboard()->setText(value ? QString::fromStdString(fullText(*value))
                                                : m_table->asText(u'\t'));
}

} // namespace nibble
