#pragma once

#include <QAbstractButton>
#include <QWidget>

#include <vector>

class QMenu;
class QVBoxLayout;

namespace nibble {

class Workbench;

/// Icon over label; the current one in the accent with a bar at its edge. Compact: the icon alone.
class RailButton : public QAbstractButton {
    Q_OBJECT
public:
    RailButton(const QString& icon, const QString& text, QWidget* parent);
    void setCompact(bool compact);
    QSize sizeHint() const override;

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    QString m_icon;
    bool m_compact = false;
};

/// Caption, name and a second line, with a menu: the device and the baseline.
class RailMenu : public QAbstractButton {
    Q_OBJECT
public:
    RailMenu(const QString& icon, const QString& caption, QWidget* parent);
    void setLines(const QString& name, const QString& second);
    void setCompact(bool compact);
    QMenu* menu() { return m_menu; }
    QSize sizeHint() const override;

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    QString m_icon, m_caption, m_name, m_second;
    QMenu* m_menu;
    bool m_compact = false;
};

/// The modes at the left edge, and at its foot what gives every number its meaning.
class Rail : public QWidget {
    Q_OBJECT
public:
    explicit Rail(Workbench& workbench, QWidget* parent = nullptr);
    void setCurrent(int index);
    void setCompact(bool compact);
    QAbstractButton* button(int index) { return m_buttons[size_t(index)]; }
    /// The same entries as the menu at the foot.
    void fillDevices(QMenu* menu);
    void fillBaselines(QMenu* menu);

signals:
    void chosen(int index);

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    void refresh();
    Workbench& m_workbench;
    std::vector<RailButton*> m_buttons;
    RailMenu *m_device, *m_baseline;
};

} // namespace nibble
