#include "app/gui/panels/tensor_actions.h"

#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include <QMenu>

#include <algorithm>

namespace nibble {
namespace {

/// Formats that every one of the tensors can take; `cols` of the first one gives the order.
std::vector<const Format*> commonFormats(const Model& model, const std::vector<TensorKey>& keys) {
    std::vector<const Format*> common;
    for (const TensorKey key : keys) {
        const auto offered = choosableFormats(model.get(key).cols());
        if (common.empty())
            common = offered;
        std::erase_if(common, [&](const Format* format) {
            return std::find(offered.begin(), offered.end(), format) == offered.end();
        });
    }
    return common;
}

/// Bytes that the tensors take more in another format.
int64_t changeOf(const Workbench& workbench, const std::vector<TensorKey>& keys,
                 const Format& format) {
    double more = 0;
    for (const TensorKey key : keys) {
        const TensorInfo& info = workbench.model()->get(key);
        const auto now = workbench.choice(key);
        if (now)
            more += (format.bitsPerWeight(info.cols()) - now->format->bitsPerWeight(info.cols())) *
                    static_cast<double>(info.values()) / 8;
    }
    return static_cast<int64_t>(more);
}

std::vector<TensorKey> matrices(const Workbench& workbench, const std::vector<TensorKey>& keys) {
    std::vector<TensorKey> found;
    for (const TensorKey key : keys)
        if (workbench.model() && workbench.model()->find(key) && isMatrix(key.role))
            found.push_back(key);
    return found;
}

} // namespace

void addFormatActions(QMenu* menu, Workbench& workbench, const std::vector<TensorKey>& keys) {
    const auto wanted = matrices(workbench, keys);
    if (wanted.empty()) {
        menu->addAction(QObject::tr("This tensor is never quantized"))->setEnabled(false);
        return;
    }
    const int64_t cols = workbench.model()->get(wanted.front()).cols();
    const auto choice = workbench.choice(wanted.front());
    for (const Format* format : commonFormats(*workbench.model(), wanted)) {
        const QString name = QString::fromUtf8(format->name);
        auto* action =
            menu->addAction(QObject::tr("%1   %2 bits, %3")
                                .arg(name, units::number(format->bitsPerWeight(cols)),
                                     units::signedBytes(changeOf(workbench, wanted, *format))));
        action->setCheckable(true);
        action->setChecked(wanted.size() == 1 && choice && choice->format == format);
        QObject::connect(action, &QAction::triggered, &workbench,
                         [&workbench, wanted, name] { workbench.setTensorFormats(wanted, name); });
    }
    menu->addSeparator();
    menu->addAction(QObject::tr("Restore to base"), &workbench,
                    [&workbench, wanted] { workbench.setTensorFormats(wanted, {}); });
}

void addTensorActions(QMenu* menu, Workbench& workbench, const std::vector<TensorKey>& keys) {
    const bool locked = std::all_of(keys.begin(), keys.end(),
                                    [&](TensorKey key) { return workbench.isLocked(key); });
    if (keys.size() > 1)
        menu->addSection(QObject::tr("%n tensors", nullptr, static_cast<int>(keys.size())));
    QMenu* formats = menu->addMenu(QObject::tr("Set &format"));
    addFormatActions(formats, workbench, keys);
    formats->setEnabled(!locked);
    menu->addAction(locked ? QObject::tr("Un&lock") : QObject::tr("&Lock: no level changes it"),
                    &workbench, [&workbench, keys, locked] { workbench.setLocked(keys, !locked); });
    menu->addAction(QObject::tr("&Measure its error"), &workbench,
                    [&workbench, keys] { workbench.measureTensors(keys); });
}

} // namespace nibble
