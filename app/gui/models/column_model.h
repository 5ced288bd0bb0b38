#pragma once

#include <QAbstractTableModel>
#include <QSortFilterProxyModel>
#include <QTableView>

#include <functional>
#include <vector>

namespace nibble {

/// One column of a table: its title and what each row shows in it.
struct Column {
    QString title;
    QString about; ///< tooltip of the header; may be empty
    std::function<QString(int row)> text;
    /// Sorts by this when set (and the column is right-aligned), else by text.
    std::function<double(int row)> number;
    /// Length of the in-cell bar, 0…1; negative = none.
    std::function<double(int row)> bar;
    /// Where there is no room for all, the column that yields most is hidden first; 0 never is.
    int yields = 0;
    /// Tooltip of a cell; its text where unset.
    std::function<QString(int row)> detail = {};
    /// Hidden as long as this is set and false.
    std::function<bool()> wanted = {};
};

/// An item model that only wraps: columns over rows that somebody else owns.
class ColumnModel : public QAbstractTableModel {
    Q_OBJECT
public:
    enum Roles { SortRole = Qt::UserRole, BarRole, EmphasisRole };
    int yields(int column) const { return m_columns[static_cast<size_t>(column)].yields; }
    bool isWanted(int column) const {
        const Column& c = m_columns[static_cast<size_t>(column)];
        return !c.wanted || c.wanted();
    }

    explicit ColumnModel(std::vector<Column> columns, QObject* parent = nullptr);
    /// Tells the views that the rows are others now.
    void setRows(int count);
    /// Rows for which this is true are drawn semi-bold.
    void setEmphasis(std::function<bool(int row)> emphasis) { m_emphasis = std::move(emphasis); }

    int rowCount(const QModelIndex& parent = {}) const override;
    int columnCount(const QModelIndex& parent = {}) const override;
    QVariant data(const QModelIndex& index, int role) const override;
    QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    std::vector<Column> m_columns;
    std::function<bool(int)> m_emphasis;
    int m_rows = 0;
};

/// A flat table in the design's style over a ColumnModel: sorts by click, Ctrl+C copies as text,
/// the context menu exports CSV.
class ColumnTable : public QTableView {
    Q_OBJECT
public:
    /// `stretched` takes the room that the others leave.
    ColumnTable(ColumnModel* model, const QString& accessibleName, int stretched = 0,
                QWidget* parent = nullptr);

    /// Rows for which this is false are hidden.
    void setFilter(std::function<bool(int row)> accepts);
    /// Source row of the current line, or -1.
    int currentRow() const;
    /// `scroll`: it comes into view, also where the table is shown later.
    void setCurrentRow(int row, bool scroll = true);
    /// The filtered rows with the header and every column, also those hidden for want of room. With
    /// commas it is CSV: a cell that holds one, or a quote, is quoted.
    QString asText(QChar separator) const;
    /// Asks for a file and writes the table as CSV.
    void saveCsv();

signals:
    /// By the user, not by setCurrentRow().
    void rowChosen(int row);
    void rowActivated(int row);

protected:
    void contextMenuEvent(QContextMenuEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;
    void resizeEvent(QResizeEvent* event) override;
    void currentChanged(const QModelIndex& current, const QModelIndex& previous) override;

private:
    class Filter;
    void fitColumns();
    int wantedWidth(int column) const;
    ColumnModel* m_columns;
    Filter* m_filter;
    bool m_quiet = false;
};

} // namespace nibble
