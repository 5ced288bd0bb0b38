#pragma once

#include "app/gui/widgets/plot.h"

#include "core/runtime/kernel_bench.h"

#include <optional>
#include <vector>

namespace nibble {

/// The device's two limits, reading and multiplying, as a roof over operations per byte, and under
/// it every product kernel: how far below the roof it stays is what it loses.
class RooflinePlot : public Plot {
    Q_OBJECT
public:
    explicit RooflinePlot(QWidget* parent = nullptr);
    void setReport(const std::optional<KernelReport>& report);
    /// Part of the roof above it that a kernel reaches, 0…1.
    static double reached(const KernelReport& report, const KernelTime& kernel);

protected:
    void retheme() override;
    void mouseMoveEvent(QMouseEvent* event) override;

private:
    QString describe(const KernelTime& kernel) const;
    void labelRows(const KernelTime& kernel);
    void colour();

    std::optional<KernelReport> m_report;
    QCPGraph* m_roof;
    std::vector<QCPGraph*> m_formats;
    QCPItemText *m_readText, *m_rateText;
    std::vector<QCPItemText*> m_rows; ///< beside the marks of the first format
};

} // namespace nibble
