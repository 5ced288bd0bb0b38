#pragma once

#include <QWidget>

class QProgressBar;
class QTimer;
class QToolButton;

namespace nibble {

class ElidedLabel;
class Label;
class Workbench;

/// The foot of the window: model and variant · device · memory · context · tokens/s · the running
/// job with its time left and buttons to pause and to cancel it.
class StatusLine : public QWidget {
    Q_OBJECT
public:
    explicit StatusLine(Workbench& workbench, QWidget* parent = nullptr);
    /// Good news (or a problem of another page) that fades.
    void say(const QString& text, bool bad = false);

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    void refresh();
    void refreshJobs();
    Workbench& m_workbench;
    ElidedLabel *m_model, *m_job;
    Label *m_device, *m_memory, *m_context, *m_speed;
    QProgressBar* m_bar;
    QToolButton *m_pause, *m_cancel;
    QTimer* m_fade;
    QString m_notice;
    bool m_bad = false, m_paused = false;
    quint64 m_shownJob = 0;
};

} // namespace nibble
