#include "app/gui/widgets/parts.h"

#include "app/gui/theme_style.h"

#include <QHBoxLayout>
#include <QPainter>
#include <QVBoxLayout>

namespace nibble {

Label::Label(const QString& text, Type type, Ink ink, QWidget* parent)
    : QLabel(text, parent), m_type(type), m_ink(ink) {
    setTextFormat(Qt::PlainText);
    connect(&Theme::get(), &Theme::changed, this, &Label::restyle);
    restyle();
}

void Label::setInk(Ink ink) {
    m_ink = ink;
    restyle();
}

void Label::setType(Type type) {
    m_type = type;
    restyle();
}

void Label::restyle() {
    setFont(Theme::get().font(m_type));
    QPalette p = Theme::get().palette();
    p.setColor(QPalette::Active, QPalette::WindowText, Theme::get().ink(m_ink));
    p.setColor(QPalette::Inactive, QPalette::WindowText, Theme::get().ink(m_ink));
    setPalette(p);
}

void ElidedLabel::setFullText(const QString& text, Qt::TextElideMode mode) {
    m_full = text;
    m_mode = mode;
    setText(text);
    setAccessibleName(text);
    updateGeometry();
    update();
}

QSize ElidedLabel::minimumSizeHint() const {
    return {fontMetrics().averageCharWidth() * 4, fontMetrics().height()};
}

QSize ElidedLabel::sizeHint() const {
    return {fontMetrics().horizontalAdvance(m_full) + 2, fontMetrics().height()};
}

void ElidedLabel::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    painter.setPen(
        palette().color(isEnabled() ? QPalette::Active : QPalette::Disabled, QPalette::WindowText));
    const QString shown = fontMetrics().elidedText(m_full, m_mode, width());
    if (toolTip().isEmpty() != (shown == m_full))
        setToolTip(shown == m_full ? QString() : m_full.toHtmlEscaped());
    painter.drawText(rect(), int(alignment() | Qt::TextSingleLine), shown);
}

Panel::Panel(const QString& title, QWidget* parent) : QFrame(parent) {
    const Theme& theme = Theme::get();
    m_body = new QVBoxLayout(this);
    m_body->setContentsMargins(theme.px(14), theme.px(12), theme.px(14), theme.px(12));
    m_body->setSpacing(space::s());
    m_header = new QHBoxLayout;
    m_header->setSpacing(space::s());
    m_body->addLayout(m_header);
    if (!title.isEmpty()) {
        m_title = new Label(title, Type::Title);
        m_header->addWidget(m_title);
        setAccessibleName(title);
    }
    connect(&theme, &Theme::changed, this, qOverload<>(&QWidget::update));
}

void Panel::setFill(Ink fill) {
    m_fill = fill;
    update();
}

void Panel::setBorder(Ink border, bool dashed) {
    m_border = border;
    m_dashed = dashed;
    update();
}

void Panel::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    const Theme& theme = Theme::get();
    if (!m_dashed) {
        drawBox(&painter, rect(), theme.ink(m_fill), theme.ink(m_border), theme.px(6));
        return;
    }
    drawBox(&painter, rect(), theme.ink(m_fill), Qt::transparent, theme.px(6));
    painter.setRenderHint(QPainter::Antialiasing);
    QPen pen(theme.ink(m_border), 1);
    pen.setDashPattern({3, 2});
    painter.setPen(pen);
    painter.drawRoundedRect(QRectF(rect()).adjusted(0.5, 0.5, -0.5, -0.5), theme.px(6),
                            theme.px(6));
}

namespace {

struct BannerLook {
    Ink text, fill;
    const char* icon;
};

BannerLook look(Banner::Kind kind) {
    switch (kind) {
    case Banner::Kind::Good:
        return {Ink::Good, Ink::GoodFill, "check"};
    case Banner::Kind::Warning:
        return {Ink::Warning, Ink::WarningFill, "warning"};
    case Banner::Kind::Bad:
        return {Ink::Bad, Ink::BadFill, "error"};
    case Banner::Kind::Info:
        break;
    }
    return {Ink::Accent, Ink::AccentFill, "info"};
}

} // namespace

Banner::Banner(QWidget* parent) : QFrame(parent), m_icon(new QLabel), m_text(new Label) {
    auto* layout = new QHBoxLayout(this);
    const int pad = Theme::get().px(10);
    layout->setContentsMargins(pad, pad, pad, pad);
    layout->setSpacing(space::s());
    m_text->setWordWrap(true);
    m_text->setTextInteractionFlags(Qt::TextSelectableByMouse);
    layout->addWidget(m_icon, 0, Qt::AlignTop);
    layout->addWidget(m_text, 1);
    m_actions = new QHBoxLayout;
    layout->addLayout(m_actions);
    auto* close = makeIconButton(QStringLiteral("close"), tr("Close this message"));
    connect(close, &QToolButton::clicked, this, &QWidget::hide);
    layout->addWidget(close, 0, Qt::AlignTop);
    connect(&Theme::get(), &Theme::changed, this, [this] {
        m_icon->setPixmap(Theme::get().pixmap(QLatin1String(look(m_kind).icon), look(m_kind).text,
                                              Theme::get().px(16), devicePixelRatioF()));
        update();
    });
    hide();
}

void Banner::show(Kind kind, const QString& sentence, const std::vector<Action>& actions) {
    m_kind = kind;
    m_text->setText(sentence);
    setAccessibleName(sentence);
    m_icon->setPixmap(Theme::get().pixmap(QLatin1String(look(kind).icon), look(kind).text,
                                          Theme::get().px(16), devicePixelRatioF()));
    clearLayout(m_actions);
    for (const Action& action : actions) {
        auto* button = makeButton(action.text, ButtonKind::Link);
        connect(button, &QPushButton::clicked, this, [run = action.run] { run(); });
        m_actions->addWidget(button);
    }
    setVisible(true);
    update();
}

QString Banner::sentence() const {
    return m_text->text();
}

void Banner::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    const BannerLook l = look(m_kind);
    drawBox(&painter, rect(), Theme::get().ink(l.fill), Theme::get().ink(l.text),
            Theme::get().px(5));
}

Segments::Segments(const QString& accessibleName, QWidget* parent) : QWidget(parent) {
    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(1, 1, 1, 1);
    layout->setSpacing(0);
    setAccessibleName(accessibleName);
    setSizePolicy(QSizePolicy::Preferred, QSizePolicy::Fixed);
    connect(&Theme::get(), &Theme::changed, this, qOverload<>(&QWidget::update));
}

void Segments::setChoices(const QStringList& texts) {
    clearLayout(layout());
    m_buttons.clear();
    for (const QString& text : texts) {
        auto* button = new QPushButton(text, this);
        button->setCheckable(true);
        button->setAccessibleName(QStringLiteral("%1: %2").arg(accessibleName(), text));
        setKind(button, ButtonKind::Quiet);
        const int index = int(m_buttons.size());
        connect(button, &QPushButton::clicked, this, [this, index] {
            setCurrent(index);
            emit chosen(index);
        });
        m_buttons.push_back(button);
        layout()->addWidget(button);
    }
    setCurrent(std::min(m_current, int(m_buttons.size()) - 1));
}

void Segments::setText(int index, const QString& text) {
    if (index >= 0 && index < int(m_buttons.size()))
        m_buttons[size_t(index)]->setText(text);
}

void Segments::setCurrent(int index) {
    m_current = index;
    for (int i = 0; i < int(m_buttons.size()); ++i)
        m_buttons[size_t(i)]->setChecked(i == index);
}

QSize Segments::sizeHint() const {
    QSize size = layout()->sizeHint();
    size.setHeight(Theme::get().controlHeight());
    return size;
}

void Segments::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    drawBox(&painter, rect(), Theme::get().ink(Ink::Panel), Theme::get().ink(Ink::ControlBorder),
            Theme::get().px(5));
}

QPushButton* makeButton(const QString& text, ButtonKind kind, const QString& icon,
                        QWidget* parent) {
    auto* button = new QPushButton(text, parent);
    setKind(button, kind);
    button->setAccessibleName(text);
    if (!icon.isEmpty()) {
        Theme& theme = Theme::get();
        button->setIcon(kind == ButtonKind::Primary  ? theme.icon(icon, Ink::TextOnAccent)
                        : kind == ButtonKind::Danger ? theme.icon(icon, Ink::Bad)
                                                     : theme.icon(icon));
    }
    if (kind == ButtonKind::Link)
        button->setCursor(Qt::PointingHandCursor);
    return button;
}

QToolButton* makeIconButton(const QString& icon, const QString& name, QWidget* parent) {
    auto* button = new QToolButton(parent);
    button->setIcon(Theme::get().icon(icon));
    button->setAccessibleName(name);
    button->setToolTip(name);
    button->setAutoRaise(true);
    button->setFocusPolicy(Qt::TabFocus);
    return button;
}

namespace {

class Line final : public QWidget {
public:
    using QWidget::QWidget;

protected:
    void paintEvent(QPaintEvent*) override {
        QPainter(this).fillRect(rect(), Theme::get().ink(Ink::Line));
    }
};

} // namespace

QWidget* makeLine(QWidget* parent) {
    auto* line = new Line(parent);
    line->setFixedHeight(1);
    return line;
}

void clearLayout(QLayout* layout) {
    while (QLayoutItem* item = layout->takeAt(0)) {
        if (item->widget()) {
            item->widget()->hide();
            item->widget()->deleteLater();
        } else if (item->layout()) {
            clearLayout(item->layout());
        }
        delete item;
    }
}

} // namespace nibble
