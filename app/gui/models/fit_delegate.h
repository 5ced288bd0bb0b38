#pragma once

#include <QStyledItemDelegate>

namespace nibble {

/// Rows of the model table: the Needs column with a bar, a verdict's icon and words; quiet text
/// where nothing was measured; group rows in bold.
class FitDelegate : public QStyledItemDelegate {
    Q_OBJECT
public:
    using QStyledItemDelegate::QStyledItemDelegate;
    void paint(QPainter* painter, const QStyleOptionViewItem& option,
               const QModelIndex& index) const override;
    QSize sizeHint(const QStyleOptionViewItem& option, const QModelIndex& index) const override;
};

} // namespace nibble
