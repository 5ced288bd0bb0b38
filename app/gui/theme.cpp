#include "app/gui/theme.h"

#include "app/gui/theme_style.h"

#include <QApplication>
#include <QEvent>
#include <QFontDatabase>
#include <QFontInfo>
#include <QFontMetricsF>
#include <QWidget>

#include <algorithm>
#include <cmath>
#include <span>

namespace nibble {

namespace {

struct InkPair {
    QRgb light, dark;
};

constexpr std::array<InkPair, kInkCount> kInks = {{
    {0xfff6f6f4, 0xff17191c}, // Window
    {0xffffffff, 0xff1f2226}, // Panel
    {0xfffafaf8, 0xff191b1e}, // Field
    {0xffecece8, 0xff121417}, // Rail
    {0xfff3f3f0, 0xff15171a}, // CodeBlock
    {0xffdcdcd8, 0xff34383e}, // Line
    {0xff8b8d90, 0xff676e76}, // ControlBorder
    {0xffe9e9e5, 0xff2b2f34}, // PlotGrid
    {0xffc4c5c0, 0xff454b52}, // Hatch
    {0xff1d2125, 0xffe6e8ea}, // Text
    {0xff5f656b, 0xffa2a9b0}, // SecondaryText
    {0xff8c9196, 0xff666d74}, // DisabledText
    {0xff0b6bcb, 0xff5aa9ff}, // Accent
    {0xffe3effb, 0xff1d3350}, // AccentFill
    {0xffffffff, 0xff0d1117}, // TextOnAccent
    {0xff187043, 0xff4cc38a}, // Good
    {0xffe6f4ec, 0xff183328}, // GoodFill
    {0xff8a5300, 0xffe2a336}, // Warning
    {0xfffbf0dc, 0xff3a2d15}, // WarningFill
    {0xffb3261e, 0xffff7b72}, // Bad
    {0xfffbe9e7, 0xff3f2221}, // BadFill
    {0xff0b6bcb, 0xff5aa9ff}, // Series1
    {0xffc2570c, 0xfff0883e}, // Series2
    {0xff0b6655, 0xff259076}, // Series3
    {0xff8c2f78, 0xffd46cb8}, // Series4
    {0xff8f959b, 0xffbcc2c8}, // Series5
}};

constexpr QRgb kLossLight[] = {0xfffdf6e7, 0xfffae0a6, 0xfff0b25f,
                               0xffd67a31, 0xffa34720, 0xff5f1a14};
constexpr QRgb kLossDark[] = {0xff2b2a2a, 0xff533d2a, 0xff8d5827,
                              0xffcb8732, 0xfff3bb5b, 0xfffff0c4};
/// Viridis (Smith and van der Walt, matplotlib) at nine even stops.
constexpr QRgb kNeutral[] = {0xff440154, 0xff472d7b, 0xff3b528b, 0xff2c728e, 0xff21918c,
                             0xff28ae80, 0xff5ec962, 0xffaddc30, 0xfffde725};
constexpr QRgb kDivergingLight[] = {0xff0b5fb3, 0xff8fbce6, 0xfff1f1ee, 0xfff0b07a, 0xffb34a0a};
constexpr QRgb kDivergingDark[] = {0xff6cb4ff, 0xff2f5f93, 0xff2a2d31, 0xff8f5527, 0xffff9a4d};
constexpr QRgb kNearBlack = 0xff0f1113, kWhite = 0xffffffff;

QColor interpolate(std::span<const QRgb> stops, double t) {
    if (!(t > 0))
        return QColor::fromRgb(stops.front());
    if (t >= 1)
        return QColor::fromRgb(stops.back());
    const double at = t * double(stops.size() - 1);
    const auto i = size_t(at);
    const float f = float(at - double(i));
    const QColor a = QColor::fromRgb(stops[i]), b = QColor::fromRgb(stops[i + 1]);
    return QColor::fromRgbF(a.redF() + f * (b.redF() - a.redF()),
                            a.greenF() + f * (b.greenF() - a.greenF()),
                            a.blueF() + f * (b.blueF() - a.blueF()));
}

double luminance(const QColor& colour) {
    const auto linear = [](float c) {
        return c <= 0.04045f ? double(c) / 12.92 : std::pow((double(c) + 0.055) / 1.055, 2.4);
    };
    return 0.2126 * linear(colour.redF()) + 0.7152 * linear(colour.greenF()) +
           0.0722 * linear(colour.blueF());
}

} // namespace

Theme& Theme::get() {
    static Theme theme;
    return theme;
}

QColor Theme::ink(Ink role, bool dark) {
    const InkPair& pair = kInks[size_t(role)];
    return QColor::fromRgb(dark ? pair.dark : pair.light);
}

QColor Theme::series(int index) const {
    return ink(Ink(int(Ink::Series1) + ((index % 5) + 5) % 5));
}

QColor Theme::lossMap(double t, bool dark) {
    return interpolate(dark ? kLossDark : kLossLight, t);
}

QColor Theme::neutralMap(double t) {
    return interpolate(kNeutral, t);
}

QColor Theme::divergingMap(double t, bool dark) {
    return interpolate(dark ? kDivergingDark : kDivergingLight, (t + 1) / 2);
}

QColor Theme::textOn(const QColor& background) {
    const QColor black = QColor::fromRgb(kNearBlack), white = QColor::fromRgb(kWhite);
    return contrast(black, background) >= contrast(white, background) ? black : white;
}

double Theme::contrast(const QColor& a, const QColor& b) {
    const double x = luminance(a), y = luminance(b);
    return (std::max(x, y) + 0.05) / (std::min(x, y) + 0.05);
}

QFont Theme::font(Type type) const {
    QFont font = type == Type::Mono ? QFontDatabase::systemFont(QFontDatabase::FixedFont) : m_base;
    const double s = QFontInfo(m_base).pixelSize() * m_zoom;
    const auto size = [&font](double pixels) {
        font.setPixelSize(std::max(11, int(std::lround(pixels))));
    };
    font.setWeight(QFont::Normal);
    size(s);
    switch (type) {
    case Type::Body:
        break;
    case Type::Strong:
    case Type::Title:
        font.setWeight(QFont::DemiBold);
        break;
    case Type::Secondary:
        size(s - 1);
        break;
    case Type::Footnote:
        size(s - 2);
        break;
    case Type::Number:
        size(1.5 * s);
        font.setWeight(QFont::DemiBold);
        break;
    case Type::PageTitle:
        size(1.7 * s);
        font.setWeight(QFont::DemiBold);
        break;
    case Type::Mono:
        size(s - 1);
        break;
    }
    return font;
}

int Theme::px(double length) const {
    // Inter at 13 px, which the design was drawn with, has a line height of 16 px.
    const double unit = QFontMetricsF(font(Type::Body)).height() / 16.0;
    return std::max(1, int(std::lround(length * std::max(unit, 0.9))));
}

QPalette Theme::palette() const {
    QPalette p;
    const auto set = [&p, this](QPalette::ColorRole role, Ink normal, Ink disabled) {
        p.setColor(QPalette::Active, role, ink(normal));
        p.setColor(QPalette::Inactive, role, ink(normal));
        p.setColor(QPalette::Disabled, role, ink(disabled));
    };
    set(QPalette::Window, Ink::Window, Ink::Window);
    set(QPalette::WindowText, Ink::Text, Ink::DisabledText);
    set(QPalette::Base, Ink::Panel, Ink::Panel);
    set(QPalette::AlternateBase, Ink::Field, Ink::Field);
    set(QPalette::Text, Ink::Text, Ink::DisabledText);
    set(QPalette::Button, Ink::Panel, Ink::Panel);
    set(QPalette::ButtonText, Ink::Text, Ink::DisabledText);
    set(QPalette::BrightText, Ink::Bad, Ink::DisabledText);
    set(QPalette::Highlight, Ink::AccentFill, Ink::Line);
    set(QPalette::HighlightedText, Ink::Text, Ink::DisabledText);
    set(QPalette::Link, Ink::Accent, Ink::DisabledText);
    set(QPalette::LinkVisited, Ink::Accent, Ink::DisabledText);
    set(QPalette::ToolTipBase, Ink::Panel, Ink::Panel);
    set(QPalette::ToolTipText, Ink::Text, Ink::Text);
    set(QPalette::PlaceholderText, Ink::SecondaryText, Ink::DisabledText);
    set(QPalette::Light, Ink::Panel, Ink::Panel);
    set(QPalette::Midlight, Ink::Field, Ink::Field);
    set(QPalette::Mid, Ink::Line, Ink::Line);
    set(QPalette::Dark, Ink::ControlBorder, Ink::ControlBorder);
    set(QPalette::Shadow, Ink::ControlBorder, Ink::ControlBorder);
    return p;
}

void Theme::install() {
    m_system = QApplication::palette();
    m_base = QApplication::font();
    if (QGuiApplication::platformName() == QLatin1String("offscreen"))
        m_base.setPixelSize(12); // no desktop has an opinion there
    QApplication::setStyle(new ThemeStyle);
    qApp->installEventFilter(this);
    refresh();
}

void Theme::setChoice(Choice choice) {
    m_choice = choice;
    refresh();
}

void Theme::setZoom(double zoom) {
    m_zoom = std::clamp(zoom, 0.75, 2.0);
    refresh();
}

void Theme::refresh() {
    m_dark = m_choice == Choice::Dark ||
             (m_choice == Choice::System && m_system.color(QPalette::Window).lightness() < 128);
    m_refreshing = true;
    QApplication::setFont(font(Type::Body));
    QApplication::setPalette(palette());
    m_refreshing = false;
    emit changed();
}

bool Theme::eventFilter(QObject* watched, QEvent* event) {
    if (watched == qApp && event->type() == QEvent::ApplicationPaletteChange && !m_refreshing) {
        // Qt 6.4 tells of a desktop switching to dark only by handing out another palette.
        const QPalette now = QApplication::palette();
        if (now.color(QPalette::Window) != ink(Ink::Window)) {
            m_system = now;
            QMetaObject::invokeMethod(
                this, [this] { refresh(); }, Qt::QueuedConnection);
        }
    }
    return false;
}

int space::xs() {
    return Theme::get().px(4);
}
int space::s() {
    return Theme::get().px(8);
}
int space::m() {
    return Theme::get().px(12);
}
int space::l() {
    return Theme::get().px(16);
}
int space::xl() {
    return Theme::get().px(24);
}

void setKind(QWidget* button, ButtonKind kind) {
    button->setProperty("kind", int(kind));
}

ButtonKind kindOf(const QWidget* button) {
    return button ? ButtonKind(button->property("kind").toInt()) : ButtonKind::Plain;
}

} // namespace nibble
