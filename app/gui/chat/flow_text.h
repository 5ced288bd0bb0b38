#pragma once

#include <QTextBrowser>

namespace nibble {

/// Text that is as tall as its content, so that only the conversation scrolls. Loads nothing:
/// pictures and links to files in a model's answer stay text.
class FlowText : public QTextBrowser {
    Q_OBJECT
public:
    enum class Look { Plain, Markdown, Code };
    explicit FlowText(Look look, QWidget* parent = nullptr);
    void setSource(const QString& text);
    /// The width that the text would like, at most `most`.
    int idealWidth(int most) const;
    QVariant loadResource(int type, const QUrl& name) override;
    QSize sizeHint() const override;
    QSize minimumSizeHint() const override;

protected:
    void resizeEvent(QResizeEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;

private:
    void restyle();
    void fit();
    Look m_look;
    QString m_source;
};

} // namespace nibble
