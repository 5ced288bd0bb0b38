#pragma once

#include "app/gui/widgets/plot.h"
#include "core/evaluate/tensor_detail.h"

namespace nibble {

/// Weights of a tensor before and after quantization on the same bins, log counts, with the values
/// that its format can represent and where it clips.
class DistributionPlot : public Plot {
    Q_OBJECT
public:
    explicit DistributionPlot(QWidget* parent = nullptr);
    void setDetail(const TensorDetail& detail);
    void clear();

protected:
    void retheme() override;

private:
    void placeClipTexts();
    QCPBars* m_base;
    QCPGraph *m_variant, *m_grid;
    QCPItemStraightLine* m_clip[2];
    QCPItemText* m_clipText[2];
};

/// The largest |weight| of each input channel in σ, with those beyond 6 σ named; or the largest
/// |input| of each channel, with the threshold of LLM.int8(), which can be dragged.
class OutlierPlot : public Plot {
    Q_OBJECT
public:
    enum class Of { Weights, Inputs };

    explicit OutlierPlot(QWidget* parent = nullptr);
    void setDetail(const TensorDetail& detail);
    void show(Of what);
    void clear();

signals:
    /// While the line is dragged, and once more when it is let go.
    void thresholdMoved(double threshold, bool letGo);

protected:
    void retheme() override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;

private:
    void rebuild();
    void setThreshold(double value);
    bool isOnThreshold(const QPointF& position) const;
    const std::vector<float>& values() const;

    QCPGraph *m_channels, *m_outliers;
    QCPItemStraightLine* m_threshold;
    QCPItemText* m_thresholdText;
    std::vector<QCPItemText*> m_labels;
    TensorDetail m_detail;
    Of m_of = Of::Weights;
    double m_at = 6;
    bool m_dragging = false;
};

/// Relative error of the residual stream after each layer, variant against base.
class LayerLossPlot : public Plot {
    Q_OBJECT
public:
    explicit LayerLossPlot(QWidget* parent = nullptr);
    void setLayers(const std::vector<LayerError>& layers);
    void setSelected(int layer);

signals:
    void layerClicked(int layer);

protected:
    void retheme() override;
    void mouseReleaseEvent(QMouseEvent* event) override;

private:
    void colour();
    void useLog(bool log);
    std::vector<LayerError> m_layers;
    std::vector<QCPBars*> m_bars;
    int m_selected = -1;
};

} // namespace nibble
