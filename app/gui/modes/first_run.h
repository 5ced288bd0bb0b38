#pragma once

#include <QWidget>

class QGridLayout;

namespace nibble {

class Banner;
class Label;
class Panel;
class Workbench;

/// What a person sees first: is the GPU all right, and a model to begin with.
class FirstRun : public QWidget {
    Q_OBJECT
public:
    explicit FirstRun(Workbench& workbench, QWidget* parent = nullptr);
    Banner* banner() { return m_banner; }

signals:
    void wantsFile();
    void wantsSample();
    void wantsSearch();
    void dropped(const QString& path);

private:
    void refreshDevices();
    Panel* makeDevicePanel();
    Panel* makeModelPanel();
    Workbench& m_workbench;
    Banner *m_banner, *m_doctorBanner;
    Label *m_deviceTitle, *m_checked, *m_deviceIcon;
    QGridLayout* m_devices;
};

} // namespace nibble
