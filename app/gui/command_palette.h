#pragma once

#include <QFrame>

#include <vector>

class QAction;
class QLineEdit;
class QListWidget;

namespace nibble {

/// Every command of the menus, found by typing parts of its name. Ctrl+K.
class CommandPalette : public QFrame {
    Q_OBJECT
public:
    explicit CommandPalette(QWidget* parent);
    /// Shows itself under the top of `parent` with these commands.
    void open(const std::vector<QAction*>& actions);

protected:
    bool eventFilter(QObject* watched, QEvent* event) override;
    void paintEvent(QPaintEvent* event) override;

private:
    void filter(const QString& text);
    void run();
    QLineEdit* m_field;
    QListWidget* m_list;
    std::vector<QAction*> m_actions;
};

/// An action's text without its mnemonic and dots, with its menu in front: "File: Open file".
QString commandTitle(const QAction* action);

} // namespace nibble
