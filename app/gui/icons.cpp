#include "app/gui/theme.h"

#include <QFile>
#include <QIconEngine>
#include <QPainter>
#include <QSvgRenderer>

#include <map>
#include <optional>

namespace nibble {

namespace {

/// The source of an icon with its stroke colour replaced: icons are drawn with "currentColor".
QByteArray tinted(const QString& name, const QColor& colour) {
    static std::map<QString, QByteArray> sources;
    auto at = sources.find(name);
    if (at == sources.end()) {
        QFile file(QStringLiteral(":/icons/%1.svg").arg(name));
        at = sources.emplace(name, file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray())
                 .first;
    }
    QByteArray svg = at->second;
    svg.replace("currentColor", colour.name().toLatin1());
    return svg;
}

void drawIcon(QPainter* painter, const QRectF& rect, const QString& name, const QColor& colour) {
    QSvgRenderer renderer(tinted(name, colour));
    if (renderer.isValid())
        renderer.render(painter, rect);
}

/// Draws in the colour that the theme has when the icon is painted, so that nothing needs to be set
/// again when the theme changes.
class LineIcon final : public QIconEngine {
public:
    LineIcon(QString name, std::optional<Ink> role) : m_name(std::move(name)), m_role(role) {}

    void paint(QPainter* painter, const QRect& rect, QIcon::Mode mode,
               QIcon::State state) override {
        drawIcon(painter, rect, m_name, colour(mode, state));
    }
    QPixmap pixmap(const QSize& size, QIcon::Mode mode, QIcon::State state) override {
        QPixmap result(size);
        result.fill(Qt::transparent);
        QPainter painter(&result);
        paint(&painter, QRect(QPoint(), size), mode, state);
        return result;
    }
    QIconEngine* clone() const override { return new LineIcon(*this); }
    QString key() const override { return QStringLiteral("nibble-line"); }

private:
    QColor colour(QIcon::Mode mode, QIcon::State state) const {
        const Theme& theme = Theme::get();
        if (mode == QIcon::Disabled)
            return theme.ink(Ink::DisabledText);
        if (m_role)
            return theme.ink(*m_role);
        return theme.ink(state == QIcon::On ? Ink::Accent : Ink::Text);
    }

    QString m_name;
    std::optional<Ink> m_role;
};

} // namespace

QIcon Theme::icon(const QString& name) const {
    return QIcon(new LineIcon(name, std::nullopt));
}

QIcon Theme::icon(const QString& name, Ink role) const {
    return QIcon(new LineIcon(name, role));
}

QPixmap Theme::pixmap(const QString& name, Ink role, int size, double devicePixelRatio) const {
    QPixmap result(QSize(size, size) * devicePixelRatio);
    result.setDevicePixelRatio(devicePixelRatio);
    result.fill(Qt::transparent);
    QPainter painter(&result);
    drawIcon(&painter, QRectF(0, 0, size, size), name, ink(role));
    return result;
}

} // namespace nibble
