#include "app/gui/models/column_model.h"

#include "app/gui/theme.h"

#include <QClipboard>
#include <QContextMenuEvent>
#include <QFileDialog>
#include <QGuiApplication>
#include <QHeaderView>
#include <QKeyEvent>
#include <QMenu>
#include <QMessageBox>
#include <QPainter>
#include <QSaveFile>
#include <QStyledItemDelegate>

#include <algorithm>
#include <numeric>

namespace nibble {

ColumnModel::ColumnModel(std::vector<Column> columns, QObject* parent)
    : QAbstractTableModel(parent), m_columns(std::move(columns)) {}

void ColumnModel::setRows(int count) {
    if (count == m_rows) {
        if (count > 0)
            emit dataChanged(index(0, 0), index(count - 1, columnCount() - 1));
        return;
    }
    beginResetModel();
    m_rows = count;
    endResetModel();
}

int ColumnModel::rowCount(const QModelIndex& parent) const {
    return parent.isValid() ? 0 : m_rows;
}

int ColumnModel::columnCount(const QModelIndex& parent) const {
    return parent.isValid() ? 0 : static_cast<int>(m_columns.size());
}

QVariant ColumnModel::data(const QModelIndex& index, int role) const {
    if (!index.isValid() || index.row() >= m_rows)
        return {};
    const Column& column = m_columns[static_cast<size_t>(index.column())];
    switch (role) {
    case Qt::DisplayRole:
        return column.text(index.row());
    case Qt::ToolTipRole:
        return column.detail ? column.detail(index.row()) : column.text(index.row());
    case SortRole:
        return column.number ? QVariant(column.number(index.row()))
                             : QVariant(column.text(index.row()));
    case BarRole:
        return column.bar ? column.bar(index.row()) : -1.0;
    case EmphasisRole:
        return m_emphasis && m_emphasis(index.row());
    case Qt::FontRole:
        return m_emphasis && m_emphasis(index.row()) ? QVariant(Theme::get().font(Type::Strong))
                                                     : QVariant();
    case Qt::TextAlignmentRole:
        return int((column.number ? Qt::AlignRight : Qt::AlignLeft) | Qt::AlignVCenter);
    default:
        return {};
    }
}

QVariant ColumnModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal || section < 0 || section >= columnCount())
        return {};
    const Column& column = m_columns[static_cast<size_t>(section)];
    if (role == Qt::DisplayRole)
        return column.title;
    if (role == Qt::ToolTipRole && !column.about.isEmpty())
        return column.about;
    if (role == Qt::TextAlignmentRole)
        return int((column.number ? Qt::AlignRight : Qt::AlignLeft) | Qt::AlignVCenter);
    return {};
}

namespace {

/// Draws the in-cell bar left of the number, in the loss map's middle.
class BarDelegate : public QStyledItemDelegate {
public:
    using QStyledItemDelegate::QStyledItemDelegate;
    QSize sizeHint(const QStyleOptionViewItem& option, const QModelIndex& index) const override {
        QSize size = QStyledItemDelegate::sizeHint(option, index);
        if (index.data(ColumnModel::EmphasisRole).toBool())
            size.rwidth() += Theme::get().px(6); // semi-bold is wider than what the base measures
        if (index.data(ColumnModel::BarRole).toDouble() >= 0)
            size.rwidth() += Theme::get().px(40);
        return size;
    }
    void paint(QPainter* painter, const QStyleOptionViewItem& option,
               const QModelIndex& index) const override {
        QStyleOptionViewItem plain(option);
        plain.state &= ~QStyle::State_HasFocus;
        QStyledItemDelegate::paint(painter, plain, index);
        const double bar = index.data(ColumnModel::BarRole).toDouble();
        if (bar < 0)
            return;
        const Theme& theme = Theme::get();
        const int text = option.fontMetrics.horizontalAdvance(index.data().toString());
        const int room = option.rect.width() - text - 3 * space::s();
        const int length = std::min(room, static_cast<int>(bar * theme.px(56)));
        if (length < 1)
            return;
        const int height = theme.px(9);
        painter->fillRect(QRect(option.rect.right() - text - 2 * space::s() - length,
                                option.rect.center().y() - height / 2, length, height),
                          theme.lossMap(0.6));
    }
};

} // namespace

class ColumnTable::Filter : public QSortFilterProxyModel {
public:
    using QSortFilterProxyModel::QSortFilterProxyModel;
    void set(std::function<bool(int)> accepts) {
        m_accepts = std::move(accepts);
        invalidateFilter();
    }

protected:
    bool filterAcceptsRow(int row, const QModelIndex&) const override {
        return !m_accepts || m_accepts(row);
    }

private:
    std::function<bool(int)> m_accepts;
};

ColumnTable::ColumnTable(ColumnModel* model, const QString& accessibleName, int stretched,
                         QWidget* parent)
    : QTableView(parent), m_columns(model), m_filter(new Filter(this)) {
    m_filter->setSourceModel(model);
    m_filter->setSortRole(ColumnModel::SortRole);
    m_filter->setDynamicSortFilter(true);
    setModel(m_filter);
    setAccessibleName(accessibleName);
    setSortingEnabled(true);
    sortByColumn(-1, Qt::AscendingOrder);
    setSelectionBehavior(SelectRows);
    setSelectionMode(SingleSelection);
    setEditTriggers(NoEditTriggers);
    setShowGrid(false);
    setFrameShape(NoFrame);
    setWordWrap(false);
    setTabKeyNavigation(false);
    setItemDelegate(new BarDelegate(this));
    verticalHeader()->hide();
    verticalHeader()->setDefaultSectionSize(Theme::get().rowHeight());
    horizontalHeader()->setHighlightSections(false);
    horizontalHeader()->setSectionResizeMode(QHeaderView::ResizeToContents);
    horizontalHeader()->setStretchLastSection(false);
    horizontalHeader()->setMinimumSectionSize(Theme::get().px(48));
    horizontalHeader()->setSectionResizeMode(stretched, QHeaderView::Stretch);
    connect(this, &QTableView::doubleClicked, this, [this](const QModelIndex& index) {
        emit rowActivated(m_filter->mapToSource(index).row());
    });
    connect(&Theme::get(), &Theme::changed, this, [this] {
        verticalHeader()->setDefaultSectionSize(Theme::get().rowHeight());
        horizontalHeader()->setMinimumSectionSize(Theme::get().px(48));
        fitColumns();
    });
    // Content may have become wider.
    connect(model, &QAbstractItemModel::dataChanged, this, &ColumnTable::fitColumns,
            Qt::QueuedConnection);
    connect(model, &QAbstractItemModel::modelReset, this, &ColumnTable::fitColumns,
            Qt::QueuedConnection);
}

int ColumnTable::wantedWidth(int column) const {
    return std::max({sizeHintForColumn(column), horizontalHeader()->sectionSizeHint(column),
                     horizontalHeader()->minimumSectionSize()});
}

void ColumnTable::fitColumns() {
    const int count = m_columns->columnCount();
    std::vector<int> shown(static_cast<size_t>(count));
    std::iota(shown.begin(), shown.end(), 0);
    for (const int column : shown)
        setColumnHidden(column, !m_columns->isWanted(column));
    std::erase_if(shown, [this](int column) { return !m_columns->isWanted(column); });
    int wanted = 0;
    for (const int column : shown)
        wanted += wantedWidth(column);
    while (wanted > viewport()->width()) {
        const auto first = std::max_element(shown.begin(), shown.end(), [this](int a, int b) {
            return m_columns->yields(a) < m_columns->yields(b);
        });
        if (first == shown.end() || m_columns->yields(*first) == 0)
            break;
        wanted -= wantedWidth(*first);
        setColumnHidden(*first, true);
        shown.erase(first);
    }
}

void ColumnTable::resizeEvent(QResizeEvent* event) {
    QTableView::resizeEvent(event);
    fitColumns();
}

void ColumnTable::setFilter(std::function<bool(int)> accepts) {
    m_filter->set(std::move(accepts));
}

int ColumnTable::currentRow() const {
    return currentIndex().isValid() ? m_filter->mapToSource(currentIndex()).row() : -1;
}

void ColumnTable::setCurrentRow(int row, bool scroll) {
    m_quiet = true;
    setAutoScroll(scroll);
    const QModelIndex index =
        row < 0 ? QModelIndex() : m_filter->mapFromSource(m_filter->sourceModel()->index(row, 0));
    if (index != currentIndex()) {
        setCurrentIndex(index);
        if (!index.isValid())
            clearSelection();
        else if (scroll)
            scrollTo(index);
    }
    setAutoScroll(true);
    m_quiet = false;
}

void ColumnTable::currentChanged(const QModelIndex& current, const QModelIndex& previous) {
    QTableView::currentChanged(current, previous);
    if (!m_quiet && current.isValid())
        emit rowChosen(m_filter->mapToSource(current).row());
}

QString ColumnTable::asText(QChar separator) const {
    QString text;
    const int columns = m_filter->columnCount();
    for (int row = -1; row < m_filter->rowCount(); ++row) {
        for (int column = 0; column < columns; ++column) {
            if (column > 0)
                text += separator;
            QString cell = row < 0 ? m_filter->headerData(column, Qt::Horizontal).toString()
                                   : m_filter->index(row, column).data().toString();
            if (separator == u',' && (cell.contains(u',') || cell.contains(u'"')))
                cell = u'"' + cell.replace(u'"', QStringLiteral("\"\"")) + u'"';
            text += cell;
        }
        text += u'\n';
    }
    return text;
}

void ColumnTable::keyPressEvent(QKeyEvent* event) {
    if (event->matches(QKeySequence::Copy)) {
        QGuiApplication::clipboard()->setText(asText(u'\t'));
        return;
    }
    if (event->key() == Qt::Key_Return || event->key() == Qt::Key_Enter) {
        if (currentRow() >= 0)
            emit rowActivated(currentRow());
        return;
    }
    QTableView::keyPressEvent(event);
}

void ColumnTable::contextMenuEvent(QContextMenuEvent* event) {
    QMenu menu(this);
    menu.addAction(tr("Copy table as text"), this,
                   [this] { QGuiApplication::clipboard()->setText(asText(u'\t')); });
    menu.addAction(tr("Save as CSV…"), this, &ColumnTable::saveCsv);
    menu.exec(event->reason() == QContextMenuEvent::Mouse
                  ? event->globalPos()
                  : viewport()->mapToGlobal(visualRect(currentIndex()).bottomLeft()));
}

void ColumnTable::saveCsv() {
    const QString path =
        QFileDialog::getSaveFileName(this, tr("Save as CSV"), {}, QStringLiteral("*.csv"));
    if (path.isEmpty())
        return;
    QSaveFile file(path);
    const QByteArray text = asText(u',').toUtf8();
    if (!file.open(QIODevice::WriteOnly) || file.write(text) != text.size() || !file.commit())
        QMessageBox::warning(this, tr("Not saved"),
                             tr("%1 could not be written. Choose another place.").arg(path));
}

} // namespace nibble
