#include "app/gui/models/fit_delegate.h"

#include "app/gui/models/model_table.h"
#include "app/gui/theme.h"
#include "app/gui/theme_style.h"

#include <QPainter>
#include <QTreeView>

#include <algorithm>

namespace nibble {

namespace {

struct Verdict {
    Ink ink;
    const char* icon;
};

Verdict verdict(int fit) {
    switch (fit) {
    case ModelTable::Fits:
        return {Ink::Good, "check"};
    case ModelTable::Tight:
        return {Ink::Warning, "warning"};
    case ModelTable::TooBig:
        return {Ink::Bad, "cross"};
    default:
        return {Ink::SecondaryText, ""};
    }
}

} // namespace

void FitDelegate::paint(QPainter* painter, const QStyleOptionViewItem& option,
                        const QModelIndex& index) const {
    const Theme& theme = Theme::get();
    QStyleOptionViewItem item(option);
    initStyleOption(&item, index);
    const bool group = index.data(ModelTable::GroupRole).toBool();
    const bool selected = option.state & QStyle::State_Selected;
    painter->fillRect(option.rect, theme.ink(group      ? Ink::Window
                                             : selected ? Ink::AccentFill
                                                        : Ink::Panel));
    painter->fillRect(QRect(option.rect.left(), option.rect.bottom(), option.rect.width(), 1),
                      theme.ink(Ink::Line));
    const int pad = theme.px(6), side = theme.px(14);
    QRect r = option.rect.adjusted(pad, 0, -pad, -1);
    painter->setFont(
        theme.font(group || (selected && index.column() == 0) ? Type::Strong : Type::Body));
    Ink ink = Ink::Text;
    if (index.column() == ModelTable::Name) {
        const bool variant = !index.data(ModelTable::VariantRole).toString().isEmpty();
        const auto* tree = qobject_cast<const QTreeView*>(option.widget);
        const bool opens = index.model()->hasChildren(index);
        const QString icon =
            opens     ? (tree && tree->isExpanded(index) ? QStringLiteral("chevron-down")
                                                         : QStringLiteral("chevron-right"))
            : variant ? QStringLiteral("tune")
                      : QStringLiteral("open");
        if (variant)
            r.setLeft(r.left() + side + pad);
        theme.icon(icon, Ink::SecondaryText)
            .paint(painter, QRect(r.left(), r.center().y() - side / 2, side, side));
        r.setLeft(r.left() + side + pad);
    } else if (index.column() == ModelTable::Needs && !group) {
        r.setLeft(r.left() + pad); // apart from the numbers at its left
        const int fit = index.data(ModelTable::FitRole).toInt();
        const Verdict v = verdict(fit);
        ink = v.ink;
        if (fit != ModelTable::Unknown) {
            const QRect bar(r.left(), r.center().y() - theme.px(4), theme.px(40), theme.px(8));
            const double share = std::clamp(index.data(ModelTable::ShareRole).toDouble(), 0.0, 1.0);
            drawBox(painter, bar, theme.ink(Ink::Field), theme.ink(Ink::ControlBorder), 0);
            painter->fillRect(
                QRect(bar.left(), bar.top(), std::max(1, int(bar.width() * share)), bar.height()),
                theme.ink(v.ink));
            theme.icon(QLatin1String(v.icon), v.ink)
                .paint(painter, QRect(bar.right() + pad, r.center().y() - side / 2, side, side));
            r.setLeft(bar.right() + 2 * pad + side);
            ink = Ink::Text;
        }
    } else if (index.column() == ModelTable::LastUsed ||
               item.text == ModelTable::tr("not measured")) {
        ink = Ink::SecondaryText;
    }
    painter->setPen(theme.ink(ink));
    const QString shown = painter->fontMetrics().elidedText(
        item.text, index.column() == ModelTable::Name ? Qt::ElideMiddle : Qt::ElideRight,
        r.width());
    painter->drawText(r, int(item.displayAlignment | Qt::TextSingleLine), shown);
}

QSize FitDelegate::sizeHint(const QStyleOptionViewItem& option, const QModelIndex& index) const {
    const Theme& theme = Theme::get();
    QSize size = QStyledItemDelegate::sizeHint(option, index);
    if (index.column() == ModelTable::Name) // semi-bold when it is selected
        size.setWidth(
            QFontMetrics(theme.font(Type::Strong)).horizontalAdvance(index.data().toString()) +
            theme.px(10));
    const int extra = index.column() == ModelTable::Needs ? theme.px(40 + 14 + 30)
                      : index.column() == ModelTable::Name
                          ? theme.px(index.data(ModelTable::VariantRole).isNull() ? 28 : 50)
                          : theme.px(8);
    return {size.width() + extra, theme.rowHeight()};
}

} // namespace nibble
