#include "app/gui/widgets/drop_zone.h"

#include <QDragEnterEvent>
#include <QHBoxLayout>
#include <QMimeData>
#include <QUrl>
#include <QVBoxLayout>

namespace nibble {

DropZone::DropZone(QWidget* parent) : Panel({}, parent) {
    setBorder(Ink::ControlBorder, true);
    setAcceptDrops(true);
    setAccessibleName(tr("Drop a model here"));
}

void DropZone::dragEnterEvent(QDragEnterEvent* event) {
    const auto urls = event->mimeData()->urls();
    if (urls.isEmpty() || !urls.first().isLocalFile())
        return;
    event->acceptProposedAction();
    setFill(Ink::AccentFill);
    setBorder(Ink::Accent, true);
}

void DropZone::dragLeaveEvent(QDragLeaveEvent*) {
    setFill(Ink::Panel);
    setBorder(Ink::ControlBorder, true);
}

void DropZone::dropEvent(QDropEvent* event) {
    dragLeaveEvent(nullptr);
    const auto urls = event->mimeData()->urls();
    if (!urls.isEmpty())
        emit dropped(urls.first().toLocalFile());
}

FactList::FactList(QWidget* parent) : QWidget(parent) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
}

void FactList::setFacts(const std::vector<std::pair<QString, QString>>& facts, bool lastIsTotal) {
    clearLayout(layout());
    auto* rows = static_cast<QVBoxLayout*>(layout());
    for (size_t i = 0; i < facts.size(); ++i) {
        const bool total = lastIsTotal && i + 1 == facts.size();
        auto* row = new QHBoxLayout;
        row->setContentsMargins(0, Theme::get().px(4), 0, Theme::get().px(4));
        row->addWidget(new Label(facts[i].first, total ? Type::Strong : Type::Body,
                                 total ? Ink::Text : Ink::SecondaryText));
        auto* value = new ElidedLabel({}, total ? Type::Strong : Type::Body);
        value->setFullText(facts[i].second);
        value->setAlignment(Qt::AlignRight | Qt::AlignVCenter);
        row->addWidget(value, 1);
        rows->addLayout(row);
        rows->addWidget(makeLine());
    }
}

} // namespace nibble
