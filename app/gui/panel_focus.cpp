#include "app/gui/panel_focus.h"

#include "app/gui/widgets/parts.h"

#include <QApplication>

#include <algorithm>

namespace nibble {

namespace {

bool takesFocus(const QWidget* widget) {
    return widget->isVisible() && widget->isEnabled() && !widget->focusProxy() &&
           (widget->focusPolicy() & Qt::TabFocus) == Qt::TabFocus;
}

/// The first in reading order that takes the focus; null where a panel only shows.
QWidget* firstControl(const QWidget* panel) {
    QWidget* first = nullptr;
    QPoint at;
    for (QWidget* widget : panel->findChildren<QWidget*>()) {
        if (!takesFocus(widget))
            continue;
        const QPoint here = widget->mapTo(panel, QPoint(0, widget->height() / 2));
        if (first && (here.y() > at.y() || (here.y() == at.y() && here.x() >= at.x())))
            continue;
        first = widget;
        at = here;
    }
    return first;
}

} // namespace

void focusNextPanel(QWidget* page, int by) {
    std::vector<QWidget*> panels;
    for (Panel* panel : page->findChildren<Panel*>()) {
        const QWidget* outer = panel->parentWidget(); // a code block is a panel inside a panel
        while (outer && outer != page && !qobject_cast<const Panel*>(outer))
            outer = outer->parentWidget();
        if (outer == page && panel->isVisible() && firstControl(panel))
            panels.push_back(panel);
    }
    if (panels.empty())
        return;
    std::sort(panels.begin(), panels.end(), [page](const QWidget* a, const QWidget* b) {
        const QPoint p = a->mapTo(page, QPoint()), q = b->mapTo(page, QPoint());
        return p.y() != q.y() ? p.y() < q.y() : p.x() < q.x();
    });
    const QWidget* focus = QApplication::focusWidget();
    const auto now = std::find_if(panels.begin(), panels.end(), [focus](const QWidget* panel) {
        return focus && panel->isAncestorOf(focus);
    });
    const auto count = std::ssize(panels);
    const auto next = now == panels.end() ? (by > 0 ? 0 : count - 1)
                                          : (now - panels.begin() + by + count) % count;
    firstControl(panels[size_t(next)])->setFocus(Qt::TabFocusReason);
}

} // namespace nibble
