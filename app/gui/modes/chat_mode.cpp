#include "app/gui/modes/chat_mode.h"

#include "app/gui/chat/template_step.h"
#include "app/gui/units.h"

#include "core/model/chat_format.h"

#include <QElapsedTimer>
#include <QHBoxLayout>
#include <QKeyEvent>
#include <QListView>
#include <QPlainTextEdit>
#include <QPointer>
#include <QUndoStack>
#include <QUuid>

#include <algorithm>

namespace nibble {

namespace {

constexpr int kDrawMs = 33, kSlowestDrawMs = 500, kSaveMs = 1000, kTitleLength = 48, kNarrow = 760;

QString endingOf(GenerateResult::Stop stop) {
    switch (stop) {
    case GenerateResult::Stop::Cancelled:
        return ChatMode::tr("stopped");
    case GenerateResult::Stop::ContextFull:
        return ChatMode::tr("the context is full");
    case GenerateResult::Stop::MaxTokens:
        return ChatMode::tr("longest answer reached");
    case GenerateResult::Stop::EndToken:
        break;
    }
    return {};
}

} // namespace

ChatMode::ChatMode(Workbench& workbench, QWidget* parent)
    : Mode(parent), m_workbench(workbench), m_list(new ChatList(this)) {
    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(space::m());
    m_side = makeSide();
    layout->addWidget(m_side);
    layout->addWidget(makeMain(), 1);
    m_drawTimer.setSingleShot(true);
    m_drawTimer.setInterval(kDrawMs);
    connect(&m_drawTimer, &QTimer::timeout, this, &ChatMode::draw);
    m_saveTimer.setSingleShot(true);
    m_saveTimer.setInterval(kSaveMs);
    connect(&m_saveTimer, &QTimer::timeout, this, &ChatMode::save);
    m_countTimer.setSingleShot(true);
    m_countTimer.setInterval(150);
    connect(&m_countTimer, &QTimer::timeout, this, &ChatMode::refreshCount);

    connect(&workbench, &Workbench::chatText, this, [this](const Workbench::ChatUpdate& update) {
        if (update.request != m_request || m_chat.turns.empty())
            return;
        m_chat.turns.back().text += update.text;
        if (!m_drawTimer.isActive())
            m_drawTimer.start();
        if (!m_saveTimer.isActive())
            m_saveTimer.start();
    });
    connect(&workbench, &Workbench::chatFinished, this,
            [this](quint64 request, const GenerateResult& result) {
                if (request != m_request || m_chat.turns.empty())
                    return;
                ChatTurn turn = m_chat.turns.back();
                turn.text = QString::fromStdString(result.text);
                turn.tokens = int(result.tokens.size());
                turn.tokensPerSecond = result.generateTps;
                turn.firstTokenMs = result.firstTokenMs;
                turn.seed = result.seed;
                turn.ending = endingOf(result.stop);
                finish(turn);
                if (!result.note.empty())
                    m_banner->show(Banner::Kind::Info, QString::fromStdString(result.note));
            });
    connect(&workbench, &Workbench::chatFailed, this,
            [this](quint64 request, const Failure& failure) {
                if (request != m_request || m_chat.turns.empty())
                    return;
                ChatTurn turn = m_chat.turns.back();
                turn.ending = failure.cancelled() ? tr("stopped") : tr("failed");
                finish(turn);
                if (!failure.cancelled())
                    showProblem(failure.sentence);
            });
    connect(&workbench, &Workbench::modelChanged, this, &ChatMode::newChat);
    connect(&workbench, &Workbench::modelChanged, this, &ChatMode::warn);
    connect(&workbench, &Workbench::runningChanged, this, &ChatMode::refresh);
    connect(&workbench, &Workbench::devicesChanged, this, &ChatMode::refresh);
    connect(&workbench, &Workbench::qualityChanged, this, &ChatMode::refresh);
    workbench.jobs().onPool<std::pair<std::vector<ChatRecord>, QStringList>>(
        QStringLiteral("chats"), {}, this,
        [folder = m_store.folder()](const Progress&) {
            QStringList problems;
            auto chats = ChatStore(folder).load(&problems);
            return std::pair(std::move(chats), problems);
        },
        [this](std::pair<std::vector<ChatRecord>, QStringList> loaded) {
            m_list->setChats(std::move(loaded.first));
            if (!loaded.second.isEmpty())
                m_banner->show(Banner::Kind::Warning, loaded.second.join(QLatin1Char('\n')));
        });
    newChat();
}

/// What may make this model's answers worse stands above them.
void ChatMode::warn() {
    QStringList warnings;
    if (const auto model = m_workbench.model(); model && model->unsupported.empty())
        for (const std::string& warning : m_workbench.diagnosis().warnings)
            warnings << QString::fromStdString(warning);
    if (warnings.isEmpty() && m_banner->sentence() == m_warned)
        m_banner->hide();
    m_warned = warnings.join(QLatin1Char('\n'));
    if (!warnings.isEmpty())
        m_banner->show(Banner::Kind::Warning, m_warned);
}

void ChatMode::newChat() {
    stop();
    m_request = 0;
    m_edited.clear();
    m_composer->setEditing(false);
    const GenerateOptions options = m_composer->options();
    m_chat = {};
    m_chat.id = QUuid::createUuid().toString(QUuid::WithoutBraces);
    m_chat.options = options;
    m_composer->setSettings(options, {}, {});
    m_composer->setAnswering(false);
    m_view->setTurns({});
    m_banner->hide();
    refresh();
    checkTemplate();
}

void ChatMode::openChat(const QString& id) {
    const ChatRecord* found = m_list->find(id);
    if (!found || id == m_chat.id)
        return;
    stop();
    m_request = 0;
    cancelEdit();
    m_chat = *found;
    m_composer->setSettings(m_chat.options, m_chat.systemPrompt, m_chat.templateName);
    m_composer->setAnswering(false);
    m_view->setTurns(m_chat.turns);
    m_view->scrollToEnd();
    refresh();
    checkTemplate();
}

void ChatMode::pickTemplate(const QString& name) {
    const QString before = m_composer->templateName();
    if (name == before)
        return;
    const QPointer<ChatMode> self(this);
    m_workbench.undoStack()->push(new TemplateStep(before, name, tr("Choose a chat template"),
                                                   [self, chat = m_chat.id](const QString& one) {
                                                       if (self)
                                                           self->setTemplate(chat, one);
                                                   }));
}

void ChatMode::setTemplate(const QString& chat, const QString& name) {
    if (chat != m_chat.id) { // it was chosen in a chat that is not on the screen
        const ChatRecord* found = m_list->find(chat);
        if (!found)
            return;
        ChatRecord changed = *found;
        changed.templateName = name;
        m_list->put(changed);
        m_store.save(changed, [this](const QString& problem) {
            if (!problem.isEmpty())
                showProblem(problem);
        });
        return;
    }
    m_composer->setTemplateName(name);
    m_chat.templateName = name;
    if (!m_chat.turns.empty()) {
        m_list->put(m_chat);
        save();
    }
    checkTemplate();
}

void ChatMode::checkTemplate() {
    const auto model = m_workbench.model();
    if (!model)
        return;
    struct Found {
        QString usual, note;
        bool fits = true;
    };
    const auto show = [this](Banner::Kind kind, const QString& note) {
        if (!m_templateNote.isEmpty() && m_banner->sentence() == m_templateNote)
            m_banner->hide();
        m_templateNote = note;
        if (!note.isEmpty())
            m_banner->show(kind, note);
    };
    m_workbench.jobs().onPool<Found>(
        QStringLiteral("template"), {}, this,
        [model, name = m_composer->templateName().toStdString()](const Progress&) {
            Found found;
            if (model->chatTemplate.empty())
                found.usual = QString::fromStdString(chatFormat(*model).name);
            const ChatFormat format = chatFormat(*model, name);
            found.note = QString::fromStdString(format.note);
            found.fits = format.fits;
            return found;
        },
        [this, show](const Found& found) {
            m_composer->setUsualTemplate(found.usual);
            show(found.fits ? Banner::Kind::Info : Banner::Kind::Warning, found.note);
        },
        [show](const Failure& failure) {
            if (!failure.cancelled())
                show(Banner::Kind::Bad, failure.sentence);
        });
}

void ChatMode::removeChat(const QString& id) {
    m_store.remove(id);
    m_list->remove(id);
    if (id == m_chat.id)
        newChat();
}

void ChatMode::sendPrompt() {
    const QString prompt = m_composer->text().trimmed();
    if (prompt.isEmpty() || !m_workbench.isRunning() || isBusy())
        return;
    if (m_chat.turns.empty())
        m_chat.title = prompt.simplified().left(kTitleLength);
    ChatTurn turn;
    turn.role = QStringLiteral("user");
    turn.text = prompt;
    if (m_edited.empty()) {
        m_chat.turns.push_back(turn);
    } else {
        const size_t at = m_chat.turns.size();
        cancelEdit();
        addWay(m_chat.turns, at, turn);
    }
    m_chat.turns.push_back(emptyAnswer());
    m_composer->setText({});
    ask();
}

ChatTurn ChatMode::emptyAnswer() const {
    ChatTurn answer;
    answer.role = QStringLiteral("assistant");
    answer.variant = m_workbench.runningTitle();
    if (const auto device = m_workbench.device())
        answer.device = device->kind == "cpu"
                            ? tr("CPU")
                            : QString::fromStdString(device->name).section(u'(', 0, 0).trimmed();
    answer.finished = false;
    return answer;
}

void ChatMode::ask() {
    m_chat.modelPath = m_workbench.modelPath();
    m_chat.modelName = m_workbench.modelName();
    m_chat.variant = m_workbench.runningTitle();
    m_chat.options = m_composer->options();
    m_chat.systemPrompt = m_composer->systemPrompt();
    m_chat.templateName = m_composer->templateName();
    m_chat.changed = QDateTime::currentDateTime();
    ChatRequest request;
    if (!m_chat.systemPrompt.isEmpty())
        request.messages.push_back({"system", m_chat.systemPrompt.toStdString()});
    for (size_t i = 0; i + 1 < m_chat.turns.size(); ++i)
        request.messages.push_back(
            {m_chat.turns[i].role.toStdString(), m_chat.turns[i].text.toStdString()});
    request.templateName = m_chat.templateName.toStdString();
    request.options = m_chat.options;
    m_view->setTurns(m_chat.turns);
    m_view->scrollToEnd();
    m_composer->setAnswering(true);
    m_list->put(m_chat);
    m_waiting = true;
    m_store.save(m_chat, [this, request, id = m_chat.id](const QString& problem) {
        m_waiting = false;
        if (!problem.isEmpty())
            showProblem(problem);
        if (id == m_chat.id)
            m_request = m_workbench.chat(request);
    });
}

void ChatMode::draw() {
    QElapsedTimer clock;
    clock.start();
    m_view->setTurns(m_chat.turns);
    refreshCount();
    // Drawing never takes more than a fifth of the window's time, however long the answer is.
    m_drawTimer.setInterval(std::clamp(int(4 * clock.elapsed()), kDrawMs, kSlowestDrawMs));
}

void ChatMode::save() {
    m_store.save(m_chat, [this](const QString& problem) {
        if (!problem.isEmpty())
            showProblem(problem);
    });
}

void ChatMode::finish(const ChatTurn& turn) {
    m_request = 0;
    m_chat.turns.back() = turn;
    m_chat.turns.back().finished = true;
    m_drawTimer.stop();
    m_saveTimer.stop();
    save();
    m_list->put(m_chat);
    m_chats->setCurrentIndex(m_list->indexOf(m_chat.id));
    m_composer->setAnswering(false);
    draw();
}

void ChatMode::askAgain(int turn) {
    if (isBusy() || !m_workbench.isRunning())
        return;
    cancelEdit();
    const auto at = size_t(turn);
    if (turn < 0 || at >= m_chat.turns.size())
        return;
    // A prompt without an answer (it failed, or the program ended) gets its first.
    addWay(m_chat.turns, m_chat.turns[at].isPrompt() ? at + 1 : at, emptyAnswer());
    ask();
}

void ChatMode::edit(int turn) {
    if (isBusy())
        return;
    cancelEdit();
    const auto at = size_t(turn);
    if (turn < 0 || at >= m_chat.turns.size() || !m_chat.turns[at].isPrompt())
        return;
    m_edited.assign(m_chat.turns.begin() + turn, m_chat.turns.end());
    m_chat.turns.resize(at);
    m_composer->setText(m_edited.front().text);
    m_composer->setEditing(true);
    m_view->setTurns(m_chat.turns);
    m_composer->field()->setFocus();
}

void ChatMode::editLast() {
    for (size_t i = m_chat.turns.size(); i-- > 0;)
        if (m_chat.turns[i].isPrompt())
            return edit(int(i));
}

void ChatMode::cancelEdit() {
    m_composer->setEditing(false);
    if (m_edited.empty())
        return;
    m_chat.turns.insert(m_chat.turns.end(), m_edited.begin(), m_edited.end());
    m_edited.clear();
    m_composer->setText({});
    m_view->setTurns(m_chat.turns);
}

void ChatMode::branch(int turn) {
    if (isBusy() || turn < 0 || size_t(turn) >= m_chat.turns.size())
        return;
    cancelEdit();
    m_chat.turns.resize(size_t(turn) + 1);
    m_chat.id = QUuid::createUuid().toString(QUuid::WithoutBraces);
    m_chat.title = tr("%1 (branch)").arg(m_chat.title);
    m_chat.changed = QDateTime::currentDateTime();
    m_list->put(m_chat);
    m_chats->setCurrentIndex(m_list->indexOf(m_chat.id));
    save();
    draw();
    focusStart();
}

void ChatMode::showOther(int turn, int place) {
    if (isBusy() || turn < 0)
        return;
    cancelEdit();
    showWay(m_chat.turns, size_t(turn), place);
    m_list->put(m_chat);
    save();
    draw();
}

bool ChatMode::perform(const QString& command) {
    if (command == QLatin1String("new-chat")) {
        newChat();
        focusStart();
    } else if (command == QLatin1String("search-chats")) {
        m_sideWanted = true;
        m_side->show();
        find();
    } else if (command == QLatin1String("toggle-side")) {
        m_sideWanted = !m_side->isVisible();
        m_side->setVisible(m_sideWanted);
    } else if (command == QLatin1String("again")) {
        again();
    } else {
        return false;
    }
    return true;
}

void ChatMode::showProblem(const QString& sentence) {
    m_banner->show(Banner::Kind::Bad, sentence);
}

void ChatMode::refreshCount() {
    const auto model = m_workbench.model();
    if (!model || !model->tokenizer)
        return;
    const QString text = m_composer->text();
    m_workbench.jobs().onPool<int>(
        QStringLiteral("count"), {}, this,
        [tokenizer = model->tokenizer, prompt = text.toStdString()](const Progress&) {
            return int(tokenizer->encode(prompt, false).size());
        },
        [this](int tokens) {
            m_composer->setCount(tr("%1 tokens · %2 of %3")
                                     .arg(units::count(tokens),
                                          units::count(m_workbench.contextUsed()),
                                          units::count(m_workbench.options().context)));
        });
}

void ChatMode::keyPressEvent(QKeyEvent* event) {
    if (event->key() == Qt::Key_Escape && m_workbench.isAnswering())
        stop();
    else
        Mode::keyPressEvent(event);
}

void ChatMode::resizeEvent(QResizeEvent* event) {
    Mode::resizeEvent(event);
    m_side->setVisible(m_sideWanted && width() >= Theme::get().px(kNarrow));
}

void ChatMode::focusStart() {
    m_composer->field()->setFocus();
}

Mode* makeChatMode(Workbench& workbench, QWidget* parent) {
    return new ChatMode(workbench, parent);
}

} // namespace nibble
