#pragma once

#include "app/gui/widgets/plot.h"

#include <QString>

#include <vector>

namespace nibble {

/// One level as a point: bytes of its weights against its measured or predicted loss.
struct LevelPoint {
    QString id, title;
    double bytes = 0;
    double kld = 0, kldError = 0; ///< 0 = equal to the base
    double tokensPerSecond = 0;   ///< 0 = not measured
    double bitsPerWeight = 0;
    bool fits = true;
    bool predicted = false; ///< drawn hollow; kldError is then the half width of its interval
};

/// Size against loss for every measured level, with the frontier of those that no other beats.
class LevelPlane : public Plot {
    Q_OBJECT
public:
    explicit LevelPlane(QWidget* parent = nullptr);

    /// `limitBytes` = weights above this do not fit (0 = no limit known), `why` says it in words.
    void setPoints(std::vector<LevelPoint> points, double limitBytes, const QString& why);
    void setChosen(const QString& id);

signals:
    void chosen(const QString& id);
    void activated(const QString& id);

protected:
    void retheme() override;
    void resizeEvent(QResizeEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;

private:
    const LevelPoint* at(const QPointF& position) const;
    QPointF pixel(const LevelPoint& point) const;
    double shown(const LevelPoint& point) const; ///< KLD, or the floor for those without loss
    void rebuild();
    void placeLabels();
    QRectF calloutBox(QPointF dot, QSizeF size, const std::vector<QRectF>& dots) const;

    std::vector<LevelPoint> m_points;
    QString m_chosen, m_why;
    double m_limit = 0, m_floor = 1e-6;
    double m_unit = 1e6; ///< bytes of one step of the axis: MB or GB
    QCPGraph *m_frontier, *m_dots, *m_hollow, *m_ring;
    QCPErrorBars *m_whiskers, *m_hollowWhiskers;
    QCPItemRect* m_tooBig;
    QCPItemStraightLine* m_limitLine;
    QCPItemText *m_tooBigText, *m_callout;
    std::vector<QCPItemText*> m_labels;
};

} // namespace nibble
