#include "app/gui/widgets/folding_panels.h"

#include "app/gui/theme.h"

#include <QSplitter>
#include <QTabWidget>
#include <QVBoxLayout>

namespace nibble {

FoldingPanels::FoldingPanels(QSplitter* root, QWidget* parent)
    : QWidget(parent), m_root(root), m_tabs(new QTabWidget) {
    m_tabs->setDocumentMode(true);
    auto* stack = new QVBoxLayout(this);
    stack->setContentsMargins(0, 0, 0, 0);
    stack->addWidget(m_root);
    stack->addWidget(m_tabs);
    m_tabs->hide();
}

void FoldingPanels::add(QWidget* panel, const QString& title, QSplitter* home, int index) {
    m_places.push_back({panel, title, home, index});
    home->insertWidget(index, panel);
}

void FoldingPanels::fold(bool narrow) {
    if (narrow == m_folded)
        return;
    m_folded = narrow;
    for (const Place& place : m_places) {
        if (narrow) {
            m_tabs->addTab(place.panel, place.title);
        } else {
            place.home->insertWidget(place.index, place.panel);
            place.panel->show(); // the tabs had hidden all but one
        }
    }
    m_tabs->setVisible(narrow);
    m_root->setVisible(!narrow);
}

QSplitter* makeSplitter(Qt::Orientation orientation) {
    auto* splitter = new QSplitter(orientation);
    splitter->setChildrenCollapsible(false);
    splitter->setHandleWidth(space::m());
    return splitter;
}

} // namespace nibble
