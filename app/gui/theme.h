#pragma once

#include <QColor>
#include <QFont>
#include <QIcon>
#include <QObject>
#include <QPalette>
#include <QPixmap>

#include <array>

namespace nibble {

/// Every colour of the window by its purpose; nothing outside theme.cpp names a colour.
enum class Ink {
    Window,
    Panel,
    Field,
    Rail,
    CodeBlock,
    Line,
    ControlBorder,
    PlotGrid,
    Hatch,
    Text,
    SecondaryText,
    DisabledText,
    Accent,
    AccentFill,
    TextOnAccent,
    Good,
    GoodFill,
    Warning,
    WarningFill,
    Bad,
    BadFill,
    Series1,
    Series2,
    Series3,
    Series4,
    Series5,
};
inline constexpr int kInkCount = 26;

enum class Type { Body, Strong, Title, Secondary, Footnote, Number, PageTitle, Mono };

/// Light and dark colours, type sizes, spacing and icons. One for the program; widgets read it when
/// they paint and are told when it changes.
class Theme : public QObject {
    Q_OBJECT
public:
    enum class Choice { System, Light, Dark };
    static Theme& get();

    Choice choice() const { return m_choice; }
    bool isDark() const { return m_dark; }
    /// Ctrl + and −: 0.75 … 2.
    double zoom() const { return m_zoom; }

    QColor ink(Ink role) const { return ink(role, m_dark); }
    static QColor ink(Ink role, bool dark);
    /// Data series 0…4; further ones repeat.
    QColor series(int index) const;

    /// Loss, low (0) to high (1); bits, bytes or time (viridis); change against the baseline from
    /// −1 (better, blue) to 1 (worse, orange). Values outside are clamped.
    QColor lossMap(double t) const { return lossMap(t, m_dark); }
    static QColor lossMap(double t, bool dark);
    static QColor neutralMap(double t);
    QColor divergingMap(double t) const { return divergingMap(t, m_dark); }
    static QColor divergingMap(double t, bool dark);
    /// Near-black or white, whichever stands out more on a cell of that colour.
    static QColor textOn(const QColor& background);
    /// WCAG contrast ratio, 1…21.
    static double contrast(const QColor& a, const QColor& b);

    QFont font(Type type) const;
    /// A length of the design (drawn at 13 px type) at the present type size.
    int px(double length) const;
    int controlHeight() const { return px(28); }
    int rowHeight() const { return px(26); }

    /// A line icon of resources/icons, tinted when painted: text colour of the widget's state, or
    /// always `role`.
    QIcon icon(const QString& name) const;
    QIcon icon(const QString& name, Ink role) const;
    QPixmap pixmap(const QString& name, Ink role, int size, double devicePixelRatio) const;

    QPalette palette() const;

    /// Fusion with our controls, palette and type; call once after QApplication was made.
    void install();
    void setChoice(Choice choice);
    void setZoom(double zoom);

signals:
    void changed();

protected:
    bool eventFilter(QObject* watched, QEvent* event) override;

private:
    Theme() = default;
    void refresh();

    Choice m_choice = Choice::System;
    bool m_dark = false, m_refreshing = false;
    double m_zoom = 1;
    QFont m_base;
    QPalette m_system;
};

/// Spacing of the design, already scaled.
namespace space {
int xs(); ///< 4
int s();  ///< 8
int m();  ///< 12
int l();  ///< 16
int xl(); ///< 24
} // namespace space

/// What a button is, read by the style from the property "kind".
enum class ButtonKind { Plain, Primary, Danger, Quiet, Link, Chip };
void setKind(QWidget* button, ButtonKind kind);
ButtonKind kindOf(const QWidget* button);

} // namespace nibble
