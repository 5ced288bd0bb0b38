#pragma once

#include <QProxyStyle>

namespace nibble {

/// Fusion with flat controls drawn from the theme: hairline borders, one accent, and a 2 px focus
/// ring. Sizes follow the type size.
class ThemeStyle : public QProxyStyle {
    Q_OBJECT
public:
    ThemeStyle();

    void drawPrimitive(PrimitiveElement element, const QStyleOption* option, QPainter* painter,
                       const QWidget* widget) const override;
    void drawControl(ControlElement element, const QStyleOption* option, QPainter* painter,
                     const QWidget* widget) const override;
    void drawComplexControl(ComplexControl control, const QStyleOptionComplex* option,
                            QPainter* painter, const QWidget* widget) const override;
    QSize sizeFromContents(ContentsType type, const QStyleOption* option, const QSize& size,
                           const QWidget* widget) const override;
    QRect subControlRect(ComplexControl control, const QStyleOptionComplex* option,
                         SubControl subControl, const QWidget* widget) const override;
    int pixelMetric(PixelMetric metric, const QStyleOption* option,
                    const QWidget* widget) const override;
    int styleHint(StyleHint hint, const QStyleOption* option, const QWidget* widget,
                  QStyleHintReturn* returnData) const override;
    using QProxyStyle::polish;
    void polish(QWidget* widget) override;

private:
    void drawButton(const QStyleOption* option, QPainter* painter, const QWidget* widget) const;
    void drawCheck(const QStyleOption* option, QPainter* painter, bool round) const;
    void drawCombo(const QStyleOptionComplex* option, QPainter* painter,
                   const QWidget* widget) const;
    void drawSlider(const QStyleOptionComplex* option, QPainter* painter,
                    const QWidget* widget) const;
    void drawSpinBox(const QStyleOptionComplex* option, QPainter* painter,
                     const QWidget* widget) const;
    void drawScrollBar(const QStyleOptionComplex* option, QPainter* painter,
                       const QWidget* widget) const;
};

/// Whether a framed widget is a field that text is written in.
bool isTextField(const QWidget* widget);

/// A rounded box with a hairline border that lies on device pixels.
void drawBox(QPainter* painter, const QRectF& rect, const QColor& fill, const QColor& border,
             double radius, double width = 1);

} // namespace nibble
