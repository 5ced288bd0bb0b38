#include "app/gui/chat/composer.h"

#include "app/gui/theme_style.h"
#include "app/gui/units.h"

#include "core/template/chat_template.h"

#include <QDoubleSpinBox>
#include <QFileDialog>
#include <QFileInfo>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QKeyEvent>
#include <QMenu>
#include <QPainter>
#include <QPlainTextEdit>
#include <QVBoxLayout>

namespace nibble {

namespace {

/// A panel that closes when something else is clicked.
class Popover final : public Panel {
public:
    explicit Popover(const QString& title, QWidget* parent) : Panel(title, parent) {
        setWindowFlags(Qt::Popup);
        setAttribute(Qt::WA_DeleteOnClose);
        setAutoFillBackground(true);
    }
    void openAbove(QWidget* anchor) {
        adjustSize();
        move(anchor->mapToGlobal(QPoint(0, -height() - 4)));
        show();
    }
};

QDoubleSpinBox* makeSpin(const QString& name, double low, double high, double step, int decimals,
                         double value) {
    auto* spin = new QDoubleSpinBox;
    spin->setRange(low, high);
    spin->setSingleStep(step);
    spin->setDecimals(decimals);
    spin->setValue(value);
    spin->setAccessibleName(name);
    return spin;
}

} // namespace

Composer::Composer(QWidget* parent)
    : Panel({}, parent), m_field(new QPlainTextEdit), m_sampling(makeButton({})),
      m_systemButton(makeButton(tr("System prompt"))), m_templateButton(makeButton({})),
      m_send(makeButton(tr("Send"), ButtonKind::Primary, QStringLiteral("send"))),
      m_stop(makeButton(tr("Stop"), ButtonKind::Danger, QStringLiteral("stop"))),
      m_count(new ElidedLabel({}, Type::Footnote, Ink::SecondaryText)), m_editing(new QWidget) {
    setAccessibleName(tr("Prompt"));
    m_field->setAccessibleName(tr("Prompt"));
    m_field->setPlaceholderText(tr("Write a prompt. Enter sends, Shift+Enter starts a new line."));
    m_field->setTabChangesFocus(true);
    m_field->setProperty("ring", true);
    m_field->setFixedHeight(3 * m_field->fontMetrics().lineSpacing() + Theme::get().px(14));
    m_field->installEventFilter(this);
    auto* note = new QHBoxLayout(m_editing);
    note->setContentsMargins(0, 0, 0, 0);
    note->addWidget(
        new Label(tr("Changing an earlier prompt. The old one and its answers are kept."),
                  Type::Secondary, Ink::SecondaryText),
        1);
    auto* leave = makeButton(tr("Leave it as it was"), ButtonKind::Link);
    leave->setToolTip(tr("Esc"));
    connect(leave, &QPushButton::clicked, this, &Composer::cancelEdit);
    note->addWidget(leave);
    m_editing->hide();
    body()->addWidget(m_editing);
    body()->addWidget(m_field);
    m_rows = new QBoxLayout(QBoxLayout::LeftToRight);
    m_rows->setSpacing(space::s());
    auto* settings = new QHBoxLayout;
    settings->setSpacing(space::s());
    for (QPushButton* button : {m_sampling, m_systemButton, m_templateButton})
        settings->addWidget(button);
    settings->addStretch(1);
    m_rows->addLayout(settings, 1);
    auto* sending = new QHBoxLayout;
    sending->setSpacing(space::s());
    m_count->setAlignment(Qt::AlignRight | Qt::AlignVCenter);
    sending->addWidget(m_count, 1);
    sending->addWidget(m_send);
    sending->addWidget(m_stop);
    m_rows->addLayout(sending, 1);
    m_stop->setToolTip(tr("Esc"));
    body()->addLayout(m_rows);
    auto* templates = new QMenu(m_templateButton);
    templates->setToolTipsVisible(true);
    connect(templates, &QMenu::aboutToShow, this, [this, templates] { fillTemplates(templates); });
    m_templateButton->setMenu(templates);
    connect(m_sampling, &QPushButton::clicked, this, &Composer::openSampling);
    connect(m_systemButton, &QPushButton::clicked, this, &Composer::openSystem);
    connect(m_send, &QPushButton::clicked, this, &Composer::send);
    connect(m_stop, &QPushButton::clicked, this, &Composer::stop);
    connect(m_field, &QPlainTextEdit::textChanged, this, &Composer::refresh);
    setAnswering(false);
    refresh();
}

/// What the settings are is left to their tooltips where it does not fit.
void Composer::fitTexts() {
    const std::pair<QPushButton*, QString> texts[] = {{m_sampling, tr("Sampling")},
                                                      {m_templateButton, tr("Template")}};
    m_sampling->setText(m_samplingText);
    m_templateButton->setText(m_templateText);
    int wanted = 2 * space::s() + 2 * space::xl();
    for (const QPushButton* button : {m_sampling, m_systemButton, m_templateButton})
        wanted += button->sizeHint().width();
    if (wanted <= width())
        return;
    for (const auto& [button, text] : texts)
        button->setText(text);
}

/// Sending goes below the settings where both do not fit side by side.
void Composer::resizeEvent(QResizeEvent* event) {
    Panel::resizeEvent(event);
    fitTexts();
    const int settings = m_rows->itemAt(0)->minimumSize().width();
    const int sending = m_count->sizeHint().width() + m_send->sizeHint().width() + space::xl();
    m_rows->setDirection(settings + sending + 2 * space::xl() > width() ? QBoxLayout::TopToBottom
                                                                        : QBoxLayout::LeftToRight);
}

QString Composer::text() const {
    return m_field->toPlainText();
}

void Composer::setText(const QString& text) {
    m_field->setPlainText(text);
    m_field->moveCursor(QTextCursor::End);
}

void Composer::setAnswering(bool answering) {
    m_send->setVisible(!answering);
    m_stop->setVisible(answering);
}

void Composer::setEditing(bool editing) {
    m_editing->setVisible(editing);
}

void Composer::setReady(bool ready) {
    m_send->setEnabled(ready);
}

void Composer::setCount(const QString& text) {
    m_count->setFullText(text, Qt::ElideRight);
}

void Composer::setSettings(const GenerateOptions& options, const QString& systemPrompt,
                           const QString& templateName) {
    m_options = options;
    m_system = systemPrompt;
    m_template = templateName;
    refresh();
}

void Composer::setTemplateName(const QString& name) {
    m_template = name;
    refresh();
}

void Composer::setUsualTemplate(const QString& builtIn) {
    m_usualTemplate = builtIn;
    refresh();
}

namespace {

/// A template as people know it: a file by its name alone.
QString shownTemplate(const QString& name) {
    return name.contains(QLatin1Char('/')) ? QFileInfo(name).fileName() : name;
}

} // namespace

void Composer::fillTemplates(QMenu* menu) {
    menu->clear();
    const auto add = [&](const QString& text, const QString& name, const QString& about) {
        auto* action = menu->addAction(text);
        action->setToolTip(about);
        action->setCheckable(true);
        action->setChecked(m_template == name);
        connect(action, &QAction::triggered, this, [this, name] { emit templatePicked(name); });
    };
    add(m_usualTemplate.isEmpty() ? tr("The model's own")
                                  : tr("Usual: %1, as the model has none").arg(m_usualTemplate),
        {}, {});
    menu->addSeparator();
    for (const BuiltInTemplate& one : builtInTemplates())
        add(QLatin1String(one.name), QLatin1String(one.name), QString::fromUtf8(one.about));
    menu->addSeparator();
    if (!m_template.isEmpty() && !findBuiltInTemplate(m_template.toStdString()))
        add(shownTemplate(m_template), m_template, m_template);
    connect(menu->addAction(tr("From a file…")), &QAction::triggered, this,
            &Composer::pickTemplateFile);
}

void Composer::pickTemplateFile() {
    const QString path =
        QFileDialog::getOpenFileName(this, tr("Chat template"), {},
                                     tr("Jinja templates (*.jinja *.jinja2 *.j2);;All files (*)"));
    if (!path.isEmpty())
        emit templatePicked(path);
}

void Composer::refresh() {
    m_samplingText =
        m_options.sampler.temperature <= 0
            ? tr("Sampling: greedy")
            : tr("Sampling: temperature %1").arg(QString::number(m_options.sampler.temperature));
    m_sampling->setAccessibleName(m_samplingText);
    m_sampling->setToolTip(m_samplingText);
    m_systemButton->setText(m_system.isEmpty() ? tr("System prompt") : tr("System prompt: set"));
    m_templateText = !m_template.isEmpty() ? tr("Template: %1").arg(shownTemplate(m_template))
                     : m_usualTemplate.isEmpty()
                         ? tr("Template: the model's")
                         : tr("Template: %1, the model has none").arg(m_usualTemplate);
    m_templateButton->setToolTip(m_template.isEmpty() ? m_templateText : m_template);
    m_templateButton->setAccessibleName(m_templateText);
    fitTexts();
}

void Composer::openSampling() {
    auto* popover = new Popover(tr("Sampling"), this);
    auto* form = new QFormLayout;
    const SamplerOptions& s = m_options.sampler;
    auto* temperature = makeSpin(tr("Temperature, 0 is greedy"), 0, 5, 0.1, 2, s.temperature);
    auto* topK = makeSpin(tr("Top k, 0 is off"), 0, 1000, 1, 0, s.topK);
    auto* topP = makeSpin(tr("Top p"), 0.01, 1, 0.05, 2, s.topP);
    auto* minP = makeSpin(tr("Min p"), 0, 1, 0.01, 2, s.minP);
    auto* repeat = makeSpin(tr("Repeat penalty, 1 is off"), 1, 2, 0.05, 2, s.repeatPenalty);
    auto* seed = makeSpin(tr("Seed, 0 is a fresh one"), 0, 4294967295.0, 1, 0, double(s.seed));
    auto* most = makeSpin(tr("Longest answer, tokens"), 1, 131072, 64, 0, m_options.maxTokens);
    for (QDoubleSpinBox* spin : {temperature, topK, topP, minP, repeat, seed, most}) {
        form->addRow(new Label(spin->accessibleName()), spin);
        connect(spin, qOverload<double>(&QDoubleSpinBox::valueChanged), this, [=, this] {
            SamplerOptions& o = m_options.sampler;
            o.temperature = temperature->value();
            o.topK = int(topK->value());
            o.topP = topP->value();
            o.minP = minP->value();
            o.repeatPenalty = repeat->value();
            o.seed = uint64_t(seed->value());
            m_options.maxTokens = int(most->value());
            refresh();
            emit settingsChanged();
        });
    }
    popover->body()->addLayout(form);
    popover->openAbove(m_sampling);
    temperature->setFocus();
}

void Composer::openSystem() {
    auto* popover = new Popover(tr("System prompt"), this);
    auto* edit = new QPlainTextEdit(m_system);
    edit->setAccessibleName(tr("System prompt"));
    edit->setPlaceholderText(tr("What the model should keep in mind in the whole chat"));
    edit->setMinimumSize(Theme::get().px(360), Theme::get().px(120));
    connect(edit, &QPlainTextEdit::textChanged, this, [this, edit] {
        m_system = edit->toPlainText();
        refresh();
        emit settingsChanged();
    });
    popover->body()->addWidget(edit);
    popover->openAbove(m_systemButton);
    edit->setFocus();
}

bool Composer::eventFilter(QObject* watched, QEvent* event) {
    if (watched != m_field || event->type() != QEvent::KeyPress)
        return Panel::eventFilter(watched, event);
    const auto* key = static_cast<QKeyEvent*>(event);
    if ((key->key() == Qt::Key_Return || key->key() == Qt::Key_Enter) &&
        !(key->modifiers() & Qt::ShiftModifier)) {
        if (m_send->isVisible() && m_send->isEnabled())
            emit send();
        return true;
    }
    if (key->key() == Qt::Key_Up && text().isEmpty()) {
        emit editLast();
        return true;
    }
    if (key->key() == Qt::Key_Escape && m_stop->isVisible()) {
        emit stop();
        return true;
    }
    if (key->key() == Qt::Key_Escape && m_editing->isVisible()) {
        emit cancelEdit();
        return true;
    }
    return false;
}

} // namespace nibble
