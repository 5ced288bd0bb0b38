#include "app/gui/theme.h"
#include "app/gui/theme_style.h"

#include <QComboBox>
#include <QPainter>
#include <QPlainTextEdit>
#include <QPushButton>
#include <QStyleOption>

#include <algorithm>

namespace nibble {

namespace {

QColor ink(Ink role) {
    return Theme::get().ink(role);
}

int px(double length) {
    return Theme::get().px(length);
}

bool has(const QStyleOption* option, QStyle::StateFlag flag) {
    return option->state & flag;
}

} // namespace

bool isTextField(const QWidget* widget) {
    return qobject_cast<const QPlainTextEdit*>(widget) != nullptr;
}

void ThemeStyle::drawCombo(const QStyleOptionComplex* option, QPainter* painter,
                           const QWidget* widget) const {
    const bool enabled = has(option, State_Enabled), focus = has(option, State_HasFocus);
    const bool ring = focus && has(option, State_KeyboardFocusChange);
    QColor fill = ink(Ink::Panel);
    if (enabled && has(option, State_MouseOver))
        fill = ink(Ink::Field);
    const QColor border = ink(ring ? Ink::Accent : enabled ? Ink::ControlBorder : Ink::Line);
    drawBox(painter, option->rect, fill, border, px(5), ring ? 2 : 1);
    const int side = px(12);
    QRect r = subControlRect(CC_ComboBox, option, SC_ComboBoxArrow, widget);
    r = QRect(r.center() - QPoint(side / 2, side / 2), QSize(side, side));
    Theme::get()
        .icon(QStringLiteral("chevron-down"), enabled ? Ink::SecondaryText : Ink::DisabledText)
        .paint(painter, r);
}

void ThemeStyle::drawSlider(const QStyleOptionComplex* option, QPainter* painter,
                            const QWidget* widget) const {
    const auto* slider = qstyleoption_cast<const QStyleOptionSlider*>(option);
    const bool enabled = has(option, State_Enabled);
    const bool flat = slider->orientation == Qt::Horizontal;
    const QRect groove = subControlRect(CC_Slider, option, SC_SliderGroove, widget);
    const QRect handle = subControlRect(CC_Slider, option, SC_SliderHandle, widget);
    const int line = px(4);
    QRectF whole =
        flat ? QRectF(groove.left(), groove.center().y() - line / 2.0 + 0.5, groove.width(), line)
             : QRectF(groove.center().x() - line / 2.0 + 0.5, groove.top(), line, groove.height());
    QRectF done = whole;
    const bool reversed = slider->upsideDown;
    if (flat && !reversed)
        done.setRight(handle.center().x());
    else if (flat)
        done.setLeft(handle.center().x());
    else if (reversed)
        done.setTop(handle.center().y());
    else
        done.setBottom(handle.center().y());
    const QColor accent = ink(enabled ? Ink::Accent : Ink::DisabledText);
    drawBox(painter, whole, ink(Ink::Line), Qt::transparent, line / 2.0);
    drawBox(painter, done, accent, Qt::transparent, line / 2.0);
    const int side = std::min({px(16), handle.width(), handle.height()});
    const QRectF knob(handle.center().x() - side / 2.0 + 0.5,
                      handle.center().y() - side / 2.0 + 0.5, side, side);
    drawBox(painter, knob, ink(Ink::Panel), accent, side, px(2));
    if (has(option, State_HasFocus) && has(option, State_KeyboardFocusChange))
        drawBox(painter, knob.adjusted(-3, -3, 3, 3), Qt::transparent, ink(Ink::Accent), side, 2);
}

void ThemeStyle::drawSpinBox(const QStyleOptionComplex* option, QPainter* painter,
                             const QWidget* widget) const {
    const bool enabled = has(option, State_Enabled), focus = has(option, State_HasFocus);
    drawBox(painter, option->rect, ink(Ink::Field),
            ink(focus     ? Ink::Accent
                : enabled ? Ink::ControlBorder
                          : Ink::Line),
            px(5), focus ? 2 : 1);
    const auto* spin = qstyleoption_cast<const QStyleOptionSpinBox*>(option);
    for (const bool up : {true, false}) {
        const QRect area =
            subControlRect(CC_SpinBox, option, up ? SC_SpinBoxUp : SC_SpinBoxDown, widget);
        const bool can = enabled && spin->stepEnabled & (up ? QAbstractSpinBox::StepUpEnabled
                                                            : QAbstractSpinBox::StepDownEnabled);
        const int side = std::min(px(10), area.height());
        const QRect r(area.center() - QPoint(side / 2, side / 2), QSize(side, side));
        Theme::get()
            .icon(up ? QStringLiteral("chevron-up") : QStringLiteral("chevron-down"),
                  can ? Ink::SecondaryText : Ink::DisabledText)
            .paint(painter, r);
    }
}

void ThemeStyle::drawScrollBar(const QStyleOptionComplex* option, QPainter* painter,
                               const QWidget* widget) const {
    const auto* bar = qstyleoption_cast<const QStyleOptionSlider*>(option);
    if (bar->maximum <= bar->minimum)
        return;
    QRectF r = subControlRect(CC_ScrollBar, option, SC_ScrollBarSlider, widget);
    const double inset = px(3);
    r.adjust(inset, inset, -inset, -inset);
    const bool live = has(option, State_MouseOver) || has(option, State_Sunken);
    drawBox(painter, r, ink(live ? Ink::SecondaryText : Ink::ControlBorder), Qt::transparent,
            std::min(r.width(), r.height()) / 2);
}

void ThemeStyle::drawComplexControl(ComplexControl control, const QStyleOptionComplex* option,
                                    QPainter* painter, const QWidget* widget) const {
    switch (control) {
    case CC_ComboBox:
        if (const auto* combo = qstyleoption_cast<const QStyleOptionComboBox*>(option);
            combo && !combo->editable)
            return drawCombo(option, painter, widget);
        break;
    case CC_Slider:
        if (qstyleoption_cast<const QStyleOptionSlider*>(option)->tickPosition == QSlider::NoTicks)
            return drawSlider(option, painter, widget);
        break;
    case CC_SpinBox:
        return drawSpinBox(option, painter, widget);
    case CC_ScrollBar:
        return drawScrollBar(option, painter, widget);
    default:
        break;
    }
    QProxyStyle::drawComplexControl(control, option, painter, widget);
}

QRect ThemeStyle::subControlRect(ComplexControl control, const QStyleOptionComplex* option,
                                 SubControl subControl, const QWidget* widget) const {
    const QRect r = option->rect;
    if (control == CC_ScrollBar) {
        // No arrow buttons: the groove is the whole bar.
        const auto* bar = qstyleoption_cast<const QStyleOptionSlider*>(option);
        const bool flat = bar->orientation == Qt::Horizontal;
        const int length = flat ? r.width() : r.height();
        const int range = bar->maximum - bar->minimum;
        int size = length, start = 0;
        if (range > 0) {
            size = std::max(px(28), int(double(length) * bar->pageStep / (range + bar->pageStep)));
            size = std::min(size, length);
            start = sliderPositionFromValue(bar->minimum, bar->maximum, bar->sliderPosition,
                                            length - size, bar->upsideDown);
        }
        const auto part = [&](int from, int count) {
            return flat ? QRect(r.left() + from, r.top(), count, r.height())
                        : QRect(r.left(), r.top() + from, r.width(), count);
        };
        switch (subControl) {
        case SC_ScrollBarSlider:
            return part(start, size);
        case SC_ScrollBarGroove:
            return r;
        case SC_ScrollBarSubPage:
            return part(0, start);
        case SC_ScrollBarAddPage:
            return part(start + size, length - start - size);
        default:
            return {};
        }
    }
    if (control == CC_SpinBox) {
        const int side = px(20), inset = px(6);
        switch (subControl) {
        case SC_SpinBoxUp:
            return QRect(r.right() - side, r.top() + 2, side, r.height() / 2 - 2);
        case SC_SpinBoxDown:
            return QRect(r.right() - side, r.center().y(), side, r.height() / 2 - 2);
        case SC_SpinBoxEditField:
            return r.adjusted(inset, 2, -side - 2, -2);
        default:
            return r;
        }
    }
    if (control == CC_ComboBox) {
        const int side = px(24);
        if (subControl == SC_ComboBoxArrow)
            return QRect(r.right() - side + 1, r.top(), side, r.height());
        if (subControl == SC_ComboBoxEditField)
            return r.adjusted(px(8), 1, -side, -1);
    }
    return QProxyStyle::subControlRect(control, option, subControl, widget);
}

QSize ThemeStyle::sizeFromContents(ContentsType type, const QStyleOption* option, const QSize& size,
                                   const QWidget* widget) const {
    QSize result = QProxyStyle::sizeFromContents(type, option, size, widget);
    switch (type) {
    case CT_PushButton: {
        const auto* button = qstyleoption_cast<const QStyleOptionButton*>(option);
        const int pad = kindOf(widget) == ButtonKind::Link ? px(2) : px(12);
        int width = size.width() + 2 * pad;
        if (button && !button->icon.isNull() && !button->text.isEmpty())
            width += px(4);
        if (button && button->features & QStyleOptionButton::HasMenu)
            width = width - pad + px(8 + 16);
        return {width, std::max(size.height() + px(4), Theme::get().controlHeight())};
    }
    case CT_ComboBox:
        return {size.width() + px(8 + 28), std::max(size.height(), Theme::get().controlHeight())};
    case CT_LineEdit:
    case CT_SpinBox:
        return {result.width(), std::max(result.height(), Theme::get().controlHeight())};
    case CT_ToolButton:
        return {std::max(result.width(), px(24)), std::max(result.height(), px(24))};
    case CT_MenuItem:
        if (const auto* item = qstyleoption_cast<const QStyleOptionMenuItem*>(option);
            item && item->menuItemType != QStyleOptionMenuItem::Separator)
            return {result.width() + px(8), std::max(result.height(), px(26))};
        return result;
    case CT_MenuBarItem:
        return {result.width() + px(4), std::max(result.height(), px(34))};
    case CT_HeaderSection:
        return {result.width(), std::max(result.height(), px(28))};
    default:
        return result;
    }
}

int ThemeStyle::pixelMetric(PixelMetric metric, const QStyleOption* option,
                            const QWidget* widget) const {
    switch (metric) {
    case PM_SmallIconSize:
    case PM_ButtonIconSize:
    case PM_ListViewIconSize:
        return px(16);
    case PM_ScrollBarExtent:
        return px(12);
    case PM_SliderThickness:
    case PM_SliderControlThickness:
    case PM_SliderLength:
        return px(18);
    case PM_IndicatorWidth:
    case PM_IndicatorHeight:
    case PM_ExclusiveIndicatorWidth:
    case PM_ExclusiveIndicatorHeight:
        return px(16);
    case PM_SplitterWidth:
        return px(12);
    case PM_MenuBarPanelWidth:
    case PM_ButtonShiftHorizontal:
    case PM_ButtonShiftVertical:
        return 0;
    case PM_MenuButtonIndicator:
        return qobject_cast<const QPushButton*>(widget)
                   ? 0
                   : QProxyStyle::pixelMetric(metric, option, widget);
    case PM_HeaderMargin:
        return px(6);
    case PM_DefaultFrameWidth:
        return isTextField(widget) ? 3 : QProxyStyle::pixelMetric(metric, option, widget);
    case PM_HeaderMarkSize:
        return px(10);
    case PM_TreeViewIndentation:
        return px(18);
    default:
        return QProxyStyle::pixelMetric(metric, option, widget);
    }
}

int ThemeStyle::styleHint(StyleHint hint, const QStyleOption* option, const QWidget* widget,
                          QStyleHintReturn* returnData) const {
    switch (hint) {
    case SH_UnderlineShortcut:
    case SH_EtchDisabledText:
    case SH_DitherDisabledText:
    case SH_ComboBox_Popup:
    case SH_DialogButtonBox_ButtonsHaveIcons:
    case SH_Menu_Scrollable:
        return 0;
    case SH_Slider_AbsoluteSetButtons:
        return Qt::LeftButton;
    case SH_ToolTip_WakeUpDelay:
        return 500;
    default:
        return QProxyStyle::styleHint(hint, option, widget, returnData);
    }
}

} // namespace nibble
