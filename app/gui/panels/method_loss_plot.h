#pragma once

#include "app/gui/widgets/plot.h"

#include <map>
#include <vector>

namespace nibble {

/// What each block of a model is predicted to lose by several methods, one line each.
class MethodLossPlot : public Plot {
    Q_OBJECT
public:
    explicit MethodLossPlot(QWidget* parent = nullptr);
    /// By the method's title: the loss of every block.
    void setLosses(std::map<QString, std::vector<double>> losses);
    void setSelected(int layer);

signals:
    void layerClicked(int layer);

protected:
    void retheme() override;
    void mouseReleaseEvent(QMouseEvent* event) override;

private:
    void colour();
    std::map<QString, std::vector<double>> m_losses;
    std::vector<QCPGraph*> m_lines;
    QCPItemStraightLine* m_mark;
};

} // namespace nibble
