#pragma once

#include "app/gui/chat/chat_store.h"
#include "app/gui/widgets/parts.h"

class QBoxLayout;
class QPlainTextEdit;
class QMenu;

namespace nibble {

/// Where a prompt is written: the field, sampling and system prompt, the count of tokens, Send that
/// turns into Stop.
class Composer : public Panel {
    Q_OBJECT
public:
    explicit Composer(QWidget* parent = nullptr);
    QString text() const;
    void setText(const QString& text);
    QPlainTextEdit* field() { return m_field; }
    void setAnswering(bool answering);
    void setReady(bool ready);
    /// Says that an earlier prompt is being changed, and how to leave it.
    void setEditing(bool editing);
    /// "12 tokens · 2,311 of 16,384 used".
    void setCount(const QString& text);

    GenerateOptions options() const { return m_options; }
    QString systemPrompt() const { return m_system; }
    QString templateName() const { return m_template; }
    void setTemplateName(const QString& name);
    void setSettings(const GenerateOptions& options, const QString& systemPrompt,
                     const QString& templateName);
    /// The template that is used where none is chosen: the model's own, or the built-in one of that
    /// name.
    void setUsualTemplate(const QString& builtIn);

signals:
    void send();
    void stop();
    void editLast();
    void cancelEdit();
    void settingsChanged();
    /// A template was picked: a built-in one's name, a file's path, empty for the usual one.
    void templatePicked(const QString& name);

protected:
    void resizeEvent(QResizeEvent* event) override;
    bool eventFilter(QObject* watched, QEvent* event) override;

private:
    void openSampling();
    void openSystem();
    void fillTemplates(QMenu* menu);
    void pickTemplateFile();
    void refresh();
    void fitTexts();
    QPlainTextEdit* m_field;
    QPushButton *m_sampling, *m_systemButton, *m_templateButton, *m_send, *m_stop;
    ElidedLabel* m_count;
    QWidget* m_editing;
    QBoxLayout* m_rows;
    GenerateOptions m_options;
    QString m_system, m_template, m_usualTemplate;
    QString m_samplingText, m_templateText; ///< of their buttons, where there is room
};

} // namespace nibble
