#pragma once

#include "app/gui/models/column_model.h"
#include "app/gui/widgets/parts.h"

#include "core/model/config.h"

#include <vector>

class QLineEdit;

namespace nibble {

class Workbench;

/// What a filter line means, e.g. "down error>0.05 or unmeasured": words match the name or the
/// format, "outlier" and "unmeasured" what was measured, comparisons (error, sqnr, bits, mb,
/// outliers) the numbers, and "or" separates alternatives.
class TensorFilter {
public:
    struct Row {
        QString name, format;
        double error = -1, sqnr = 0, bits = 0, megabytes = 0; ///< error < 0: not measured
        double outliers = -1; ///< values beyond 6 σ; negative: not measured
    };
    /// What is wrong with the line, or empty.
    QString parse(const QString& line);
    bool accepts(const Row& row) const;

private:
    struct Term {
        QString word;
        double Row::*field = nullptr;
        QChar comparison;
        double value = 0;
    };
    std::vector<std::vector<Term>> m_alternatives;
};

/// Every matrix of the model with its format, error, noise and size; sortable and filtered. Of a
/// model that is not understood every stored tensor.
class TensorTable : public Panel {
    Q_OBJECT
public:
    explicit TensorTable(Workbench& workbench, QWidget* parent = nullptr);
    void focusFilter();
    /// Of a model that is not understood the place of the chosen tensor; at first the largest.
    size_t currentStored() const { return m_currentStored; }

signals:
    void storedChosen();

private:
    void rebuild();
    void choose(int row);
    void refresh();
    void refilter();

    Workbench& m_workbench;
    std::vector<TensorKey> m_keys;
    std::vector<size_t> m_stored; ///< in place of keys: the tensors' places in the file
    std::vector<TensorFilter::Row> m_rows;
    double m_mostError = 0;
    TensorFilter m_filter;
    Label* m_count;
    QLineEdit* m_line;
    ColumnModel* m_model;
    ColumnTable* m_table;
    size_t m_currentStored = 0;
    bool m_fresh = true; ///< nothing was selected by the user yet
};

} // namespace nibble
