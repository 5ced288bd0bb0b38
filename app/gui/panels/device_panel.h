#pragma once

#include "app/gui/panels/roofline_plot.h"
#include "app/gui/widgets/parts.h"

namespace nibble {

class Workbench;

/// The device in use: what it is, which kernels it runs, whether they compute rightly, and how near
/// its limits they come.
class DevicePanel : public QWidget {
    Q_OBJECT
public:
    explicit DevicePanel(Workbench& workbench, QWidget* parent = nullptr);

private:
    void refresh();

    Workbench& m_workbench;
    Label *m_name, *m_facts, *m_kernels, *m_check, *m_note;
    RooflinePlot* m_plot;
    QPushButton *m_measure, *m_doctor;
};

} // namespace nibble
