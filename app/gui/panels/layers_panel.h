#pragma once

#include "app/gui/widgets/layer_strip.h"
#include "app/gui/widgets/parts.h"

class QMenu;

namespace nibble {

class Workbench;

/// The layer strip with its metric, legend and the selected tensor; the same in every mode that
/// shows it. Changing a format here edits the recipe.
class LayersPanel : public Panel {
    Q_OBJECT
public:
    enum class Metric { Loss, Error, Sqnr, Bits, Size };

    explicit LayersPanel(Workbench& workbench, QWidget* parent = nullptr);

    void setMetric(Metric metric);
    /// The neighbouring block's tensor of the same role.
    void stepBlock(int by);
    /// Keys [ and ] step through the blocks wherever in `page` the focus is.
    void addStepKeys(QWidget* page);
    LayerStrip* strip() { return m_strip; }
    /// Without the line about the selected tensor, where another panel shows it.
    void hideFoot() { m_foot->hide(); }

signals:
    void inspect(nibble::TensorKey key);

private:
    class Legend;
    void rebuildGrid();
    void refresh();
    LayerStrip::Cell cell(TensorKey key) const;
    std::optional<double> value(TensorKey key) const;
    QString words(TensorKey key) const;
    void refreshFoot();
    void answer(LayerStrip::Ask what, const QPoint& at);
    QMenu* popupMenu();
    QString glyphKey() const;

    Workbench& m_workbench;
    Metric m_metric = Metric::Loss;
    Segments* m_segments;
    Legend* m_legend;
    LayerStrip* m_strip;
    ElidedLabel *m_selected, *m_facts;
    QPushButton *m_setFormat, *m_inspect;
    ElidedLabel* m_key;
    QWidget* m_foot;
    std::vector<Role> m_roles;
};

} // namespace nibble
