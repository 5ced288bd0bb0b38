#pragma once

#include "app/gui/theme.h"

#include <QFrame>
#include <QLabel>
#include <QPushButton>
#include <QToolButton>

#include <functional>
#include <vector>

class QBoxLayout;
class QHBoxLayout;
class QVBoxLayout;

namespace nibble {

/// A label in a role's type and colour, which it keeps through theme changes. Its text is plain, so
/// that nothing from a file is taken for markup.
class Label : public QLabel {
    Q_OBJECT
public:
    explicit Label(const QString& text = {}, Type type = Type::Body, Ink ink = Ink::Text,
                   QWidget* parent = nullptr);
    void setInk(Ink ink);
    void setType(Type type);

private:
    void restyle();
    Type m_type;
    Ink m_ink;
};

/// One line of text that elides in the middle where there is no room, with the whole as tooltip.
class ElidedLabel : public Label {
    Q_OBJECT
public:
    using Label::Label;
    void setFullText(const QString& text, Qt::TextElideMode mode = Qt::ElideMiddle);
    QString fullText() const { return m_full; }
    QSize minimumSizeHint() const override;
    QSize sizeHint() const override;

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    QString m_full;
    Qt::TextElideMode m_mode = Qt::ElideMiddle;
};

/// A flat box with the panel colour and a hairline border; `header()` holds the title row.
class Panel : public QFrame {
    Q_OBJECT
public:
    explicit Panel(const QString& title = {}, QWidget* parent = nullptr);
    QVBoxLayout* body() { return m_body; }
    /// Title, then what is added; a stretch lies after the title's neighbours only if added.
    QHBoxLayout* header() { return m_header; }
    Label* title() { return m_title; }
    void setFill(Ink fill);
    void setBorder(Ink border, bool dashed = false);

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    QVBoxLayout* m_body;
    QHBoxLayout* m_header;
    Label* m_title = nullptr;
    Ink m_fill = Ink::Panel, m_border = Ink::Line;
    bool m_dashed = false;
};

/// Something happened: icon, sentence, up to three actions. Hidden until shown.
class Banner : public QFrame {
    Q_OBJECT
public:
    enum class Kind { Info, Good, Warning, Bad };
    explicit Banner(QWidget* parent = nullptr);
    struct Action {
        QString text;
        std::function<void()> run;
    };
    void show(Kind kind, const QString& sentence, const std::vector<Action>& actions = {});
    using QFrame::hide;
    QString sentence() const;

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    Kind m_kind = Kind::Info;
    QLabel* m_icon;
    Label* m_text;
    QHBoxLayout* m_actions;
    std::vector<QWidget*> m_buttons;
};

/// 2–4 exclusive choices on a line.
class Segments : public QWidget {
    Q_OBJECT
public:
    explicit Segments(const QString& accessibleName, QWidget* parent = nullptr);
    void setChoices(const QStringList& texts);
    void setText(int index, const QString& text);
    int current() const { return m_current; }
    /// Does not emit chosen().
    void setCurrent(int index);
    QSize sizeHint() const override;

signals:
    void chosen(int index);

protected:
    void paintEvent(QPaintEvent* event) override;

private:
    std::vector<QPushButton*> m_buttons;
    int m_current = 0;
};

/// A push button of a kind, with an icon in the fitting colour.
QPushButton* makeButton(const QString& text, ButtonKind kind = ButtonKind::Plain,
                        const QString& icon = {}, QWidget* parent = nullptr);
/// A button that is only an icon: it needs a name, which is also its tooltip.
QToolButton* makeIconButton(const QString& icon, const QString& name, QWidget* parent = nullptr);
/// A hairline across a layout.
QWidget* makeLine(QWidget* parent = nullptr);
/// Takes all items out of a layout and deletes their widgets.
void clearLayout(QLayout* layout);

} // namespace nibble
