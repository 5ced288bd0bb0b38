#include "app/gui/theme_style.h"

#include "app/gui/theme.h"

#include <QAbstractButton>
#include <QAbstractItemView>
#include <QComboBox>
#include <QPainter>
#include <QPlainTextEdit>
#include <QScrollBar>
#include <QSlider>
#include <QStyleOption>

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

QColor mixed(const QColor& a, const QColor& b, float share) {
    return QColor::fromRgbF(a.redF() + (b.redF() - a.redF()) * share,
                            a.greenF() + (b.greenF() - a.greenF()) * share,
                            a.blueF() + (b.blueF() - a.blueF()) * share);
}

void drawGlyph(QPainter* painter, const QString& name, const QRect& rect, Ink role) {
    Theme::get().icon(name, role).paint(painter, rect);
}

/// Both in the middle, 6 px apart.
void drawIconAndText(const QStyleOptionButton& button, QPainter* painter) {
    const int side = button.iconSize.width(), gap = px(6);
    const QFontMetrics metrics = button.fontMetrics;
    const int text = metrics.horizontalAdvance(button.text);
    const int left =
        button.rect.left() + std::max(0, (button.rect.width() - side - gap - text) / 2);
    const QRect icon(left, button.rect.center().y() - side / 2 + 1, side, side);
    button.icon.paint(painter, icon, Qt::AlignCenter,
                      has(&button, QStyle::State_Enabled) ? QIcon::Normal : QIcon::Disabled,
                      has(&button, QStyle::State_On) ? QIcon::On : QIcon::Off);
    painter->setPen(button.palette.color(QPalette::ButtonText));
    painter->drawText(QRect(icon.right() + gap, button.rect.top(), text + 1, button.rect.height()),
                      Qt::AlignVCenter | Qt::TextSingleLine, button.text);
}

} // namespace

void drawBox(QPainter* painter, const QRectF& rect, const QColor& fill, const QColor& border,
             double radius, double width) {
    painter->save();
    painter->setRenderHint(QPainter::Antialiasing);
    const double dpr = painter->device() ? painter->device()->devicePixelRatioF() : 1;
    const double line = width <= 1 ? 1 / dpr : width;
    painter->setPen(border.alpha() ? QPen(border, line) : QPen(Qt::NoPen));
    painter->setBrush(fill);
    painter->drawRoundedRect(rect.adjusted(line / 2, line / 2, -line / 2, -line / 2), radius,
                             radius);
    painter->restore();
}

ThemeStyle::ThemeStyle() : QProxyStyle(QStringLiteral("Fusion")) {}

void ThemeStyle::polish(QWidget* widget) {
    QProxyStyle::polish(widget);
    if (qobject_cast<QAbstractButton*>(widget) || qobject_cast<QComboBox*>(widget) ||
        qobject_cast<QSlider*>(widget) || qobject_cast<QScrollBar*>(widget))
        widget->setAttribute(Qt::WA_Hover);
}

void ThemeStyle::drawButton(const QStyleOption* option, QPainter* painter,
                            const QWidget* widget) const {
    const ButtonKind kind = kindOf(widget);
    const bool enabled = has(option, State_Enabled), on = has(option, State_On);
    const bool hover = enabled && has(option, State_MouseOver), down = has(option, State_Sunken);
    QColor fill = ink(Ink::Panel), border = ink(Ink::ControlBorder);
    double radius = px(5);
    switch (kind) {
    case ButtonKind::Primary:
        fill = border = enabled ? ink(Ink::Accent) : ink(Ink::Line);
        break;
    case ButtonKind::Danger:
        border = enabled ? ink(Ink::Bad) : ink(Ink::Line);
        break;
    case ButtonKind::Quiet:
    case ButtonKind::Link:
        fill = border = Qt::transparent;
        break;
    case ButtonKind::Chip:
        radius = option->rect.height() / 2.0;
        break;
    case ButtonKind::Plain:
        break;
    }
    if (widget && widget->property("field").toBool()) {
        fill = ink(Ink::Field);
        border = ink(Ink::Line);
    }
    if (on && kind != ButtonKind::Link) {
        fill = ink(Ink::AccentFill);
        border = ink(Ink::Accent);
    }
    if (!enabled && kind != ButtonKind::Quiet && kind != ButtonKind::Link)
        border = ink(Ink::Line);
    if ((hover || down) && kind != ButtonKind::Link) {
        const float share = down ? 0.16f : 0.08f;
        fill = fill.alpha() ? mixed(fill, ink(Ink::Text), share)
                            : mixed(ink(Ink::Panel), ink(Ink::Text), share);
    }
    drawBox(painter, option->rect, fill, border, radius);
    if (has(option, State_HasFocus) && has(option, State_KeyboardFocusChange)) {
        const QColor ring = kind == ButtonKind::Primary ? ink(Ink::Text) : ink(Ink::Accent);
        drawBox(painter, option->rect, Qt::transparent, ring, radius, 2);
    }
}

void ThemeStyle::drawCheck(const QStyleOption* option, QPainter* painter, bool round) const {
    const bool on = has(option, State_On) || has(option, State_NoChange);
    const bool enabled = has(option, State_Enabled);
    const QRect r = option->rect;
    const QColor accent = enabled ? ink(Ink::Accent) : ink(Ink::DisabledText);
    const QColor border = enabled ? ink(Ink::ControlBorder) : ink(Ink::Line);
    drawBox(painter, r, on && !round ? accent : ink(Ink::Field), on ? accent : border,
            round ? r.height() / 2.0 : px(3));
    if (on && round) {
        const int inset = r.height() / 4;
        drawBox(painter, r.adjusted(inset, inset, -inset, -inset), accent, accent, r.height());
    } else if (on) {
        drawGlyph(painter,
                  has(option, State_NoChange) ? QStringLiteral("minus") : QStringLiteral("check"),
                  r.adjusted(1, 1, -1, -1), Ink::TextOnAccent);
    }
}

void ThemeStyle::drawPrimitive(PrimitiveElement element, const QStyleOption* option,
                               QPainter* painter, const QWidget* widget) const {
    switch (element) {
    case PE_PanelButtonCommand:
    case PE_PanelButtonTool:
        if (element == PE_PanelButtonTool && kindOf(widget) == ButtonKind::Plain &&
            !has(option, State_On) && !has(option, State_MouseOver) && !has(option, State_Sunken) &&
            !has(option, State_HasFocus))
            return;
        return drawButton(option, painter, widget);
    case PE_FrameDefaultButton:
    case PE_FrameFocusRect:
        if (element == PE_FrameFocusRect && !qobject_cast<const QAbstractButton*>(widget) &&
            !qobject_cast<const QAbstractItemView*>(widget))
            drawBox(painter, option->rect, Qt::transparent, ink(Ink::Accent), px(3), 2);
        return;
    case PE_PanelLineEdit:
        if (const auto* frame = qstyleoption_cast<const QStyleOptionFrame*>(option);
            frame && frame->lineWidth <= 0)
            return;
        [[fallthrough]];
    case PE_FrameLineEdit: {
        const bool focus = has(option, State_HasFocus);
        const bool enabled = has(option, State_Enabled);
        drawBox(painter, option->rect, ink(Ink::Field),
                ink(focus     ? Ink::Accent
                    : enabled ? Ink::ControlBorder
                              : Ink::Line),
                px(5), focus ? 2 : 1);
        return;
    }
    case PE_Frame:
        if (isTextField(widget)) {
            const bool focus = has(option, State_HasFocus);
            drawBox(painter, option->rect, ink(Ink::Panel),
                    ink(focus ? Ink::Accent : Ink::ControlBorder), px(5), focus ? 2 : 1);
            return;
        }
        if (has(option, State_HasFocus) && widget && widget->property("ring").toBool())
            drawBox(painter, option->rect, Qt::transparent, ink(Ink::Accent), px(5), 2);
        else
            drawBox(painter, option->rect, Qt::transparent, ink(Ink::Line), px(5));
        return;
    case PE_IndicatorCheckBox:
    case PE_IndicatorItemViewItemCheck:
        return drawCheck(option, painter, false);
    case PE_IndicatorRadioButton:
        return drawCheck(option, painter, true);
    case PE_IndicatorBranch:
        if (has(option, State_Children)) {
            const int side = px(14);
            QRect r(0, 0, side, side);
            r.moveCenter(option->rect.center());
            drawGlyph(painter,
                      has(option, State_Open) ? QStringLiteral("chevron-down")
                                              : QStringLiteral("chevron-right"),
                      r, Ink::SecondaryText);
        }
        return;
    case PE_PanelTipLabel:
        return drawBox(painter, option->rect, ink(Ink::Panel), ink(Ink::ControlBorder), 0);
    case PE_IndicatorArrowDown:
    case PE_IndicatorHeaderArrow: {
        QString name = QStringLiteral("chevron-down");
        if (const auto* header = qstyleoption_cast<const QStyleOptionHeader*>(option);
            header && header->sortIndicator == QStyleOptionHeader::SortUp)
            name = QStringLiteral("chevron-up");
        const int side = std::min({px(12), option->rect.width(), option->rect.height()});
        QRect r(0, 0, side, side);
        r.moveCenter(option->rect.center());
        return drawGlyph(painter, name, r,
                         has(option, State_Enabled) ? Ink::SecondaryText : Ink::DisabledText);
    }
    default:
        QProxyStyle::drawPrimitive(element, option, painter, widget);
    }
}

void ThemeStyle::drawControl(ControlElement element, const QStyleOption* option, QPainter* painter,
                             const QWidget* widget) const {
    switch (element) {
    case CE_PushButtonBevel: {
        drawButton(option, painter, widget);
        const auto* button = qstyleoption_cast<const QStyleOptionButton*>(option);
        if (button && button->features & QStyleOptionButton::HasMenu) {
            const int side = px(12);
            QRect r(0, 0, side, side);
            r.moveCenter(
                QPoint(option->rect.right() - px(8) - side / 2, option->rect.center().y()));
            drawGlyph(painter, QStringLiteral("chevron-down"), r,
                      has(option, State_Enabled) ? Ink::SecondaryText : Ink::DisabledText);
        }
        return;
    }
    case CE_PushButtonLabel: {
        const auto* button = qstyleoption_cast<const QStyleOptionButton*>(option);
        if (!button)
            break;
        QStyleOptionButton copy(*button);
        const ButtonKind kind = kindOf(widget);
        if (has(option, State_Enabled)) {
            if (kind == ButtonKind::Primary)
                copy.palette.setColor(QPalette::ButtonText, ink(Ink::TextOnAccent));
            else if (kind == ButtonKind::Link || has(option, State_On))
                copy.palette.setColor(QPalette::ButtonText, ink(Ink::Accent));
            else if (kind == ButtonKind::Danger)
                copy.palette.setColor(QPalette::ButtonText, ink(Ink::Bad));
        }
        if (copy.features & QStyleOptionButton::HasMenu) {
            copy.rect.adjust(px(4), 0, -px(16), 0);
            copy.features &= ~QStyleOptionButton::HasMenu;
        }
        if (!copy.icon.isNull() && !copy.text.isEmpty())
            return drawIconAndText(copy, painter);
        QProxyStyle::drawControl(element, &copy, painter, widget);
        return;
    }
    case CE_ProgressBarGroove:
        return drawBox(painter, option->rect, ink(Ink::Line), Qt::transparent, px(2));
    case CE_ProgressBarContents: {
        const auto* bar = qstyleoption_cast<const QStyleOptionProgressBar*>(option);
        if (!bar || bar->maximum <= bar->minimum)
            return;
        QRectF r = bar->rect;
        r.setWidth(r.width() * double(bar->progress - bar->minimum) /
                   double(bar->maximum - bar->minimum));
        return drawBox(painter, r, ink(Ink::Accent), Qt::transparent, px(2));
    }
    case CE_HeaderSection:
        painter->fillRect(option->rect, ink(Ink::Panel));
        painter->fillRect(
            QRect(option->rect.left(), option->rect.bottom(), option->rect.width(), 1),
            ink(Ink::Line));
        return;
    case CE_MenuBarEmptyArea:
        painter->fillRect(option->rect, ink(Ink::Panel));
        return;
    case CE_MenuBarItem: {
        const auto* item = qstyleoption_cast<const QStyleOptionMenuItem*>(option);
        if (!item)
            break;
        painter->fillRect(item->rect, ink(Ink::Panel));
        if (has(option, State_Selected))
            drawBox(painter, item->rect.adjusted(1, 2, -1, -2), ink(Ink::AccentFill),
                    Qt::transparent, px(4));
        painter->setPen(ink(has(option, State_Enabled) ? Ink::Text : Ink::DisabledText));
        painter->drawText(item->rect, Qt::AlignCenter | Qt::TextHideMnemonic, item->text);
        return;
    }
    case CE_HeaderEmptyArea:
        painter->fillRect(option->rect, ink(Ink::Panel));
        painter->fillRect(
            QRect(option->rect.left(), option->rect.bottom(), option->rect.width(), 1),
            ink(Ink::Line));
        return;
    case CE_HeaderLabel: {
        const auto* header = qstyleoption_cast<const QStyleOptionHeader*>(option);
        if (!header)
            break;
        QStyleOptionHeaderV2 copy;
        if (const auto* v2 = qstyleoption_cast<const QStyleOptionHeaderV2*>(option))
            copy = *v2;
        else
            static_cast<QStyleOptionHeader&>(copy) = *header;
        copy.palette.setColor(QPalette::ButtonText, ink(Ink::SecondaryText));
        copy.state &= ~State_On;
        QProxyStyle::drawControl(element, &copy, painter, widget);
        return;
    }
    case CE_Splitter:
        return;
    case CE_ShapedFrame:
        break;
    default:
        break;
    }
    QProxyStyle::drawControl(element, option, painter, widget);
}

} // namespace nibble
