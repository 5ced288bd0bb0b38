#include "app/gui/modes/chat_mode.h"

#include "app/gui/units.h"

#include "core/tokenizer/chat_template.h"

#include <QHBoxLayout>
#include <QKeyEvent>
#include <QListView>
#include <QPlainTextEdit>
#include <QUuid>

namespace nibble {

namespace {

constexpr int kDrawMs = 33, kSaveMs = 1000, kTitleLength = 48, kNarrow = 760;

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

void ChatMode::newChat() {
    stop();
    m_request = 0;
    const GenerateOptions options = m_composer->options();
    m_chat = {};
    m_chat.id = QUuid::createUuid().toString(QUuid::WithoutBraces);
    m_chat.options = options;
    m_composer->setSettings(options, {}, {});
    m_composer->setAnswering(false);
    m_view->setTurns({});
    m_banner->hide();
    refresh();
}

void ChatMode::openChat(const QString& id) {
    const ChatRecord* found = m_list->find(id);
    if (!found || id == m_chat.id)
        return;
    stop();
    m_request = 0;
    m_chat = *found;
    m_composer->setSettings(m_chat.options, m_chat.systemPrompt, m_chat.templateName);
    m_composer->setAnswering(false);
    m_view->setTurns(m_chat.turns);
    m_view->scrollToEnd();
    refresh();
}

void ChatMode::removeChat(const QString& id) {
    m_store.remove(id);
    m_list->remove(id);
    if (id == m_chat.id)
        newChat();
}

void ChatMode::sendPrompt() {
    const QString prompt = m_composer->text().trimmed();
    if (prompt.isEmpty() || !m_workbench.isRunning() || m_waiting)
        return;
    if (m_chat.turns.empty())
        m_chat.title = prompt.simplified().left(kTitleLength);
    ChatTurn turn;
    turn.role = QStringLiteral("user");
    turn.text = prompt;
    m_chat.turns.push_back(turn);
    m_composer->setText({});
    ask();
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
    for (const ChatTurn& turn : m_chat.turns)
        request.messages.push_back({turn.role.toStdString(), turn.text.toStdString()});
    request.templateName = m_chat.templateName.toStdString();
    request.options = m_chat.options;
    ChatTurn answer;
    answer.role = QStringLiteral("assistant");
    answer.variant = m_chat.variant;
    if (const auto device = m_workbench.device())
        answer.device = QString::fromStdString(device->name);
    answer.finished = false;
    m_chat.turns.push_back(answer);
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
    m_view->setTurns(m_chat.turns);
    refreshCount();
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

void ChatMode::again() {
    if (m_workbench.isAnswering() || m_waiting || !m_workbench.isRunning())
        return;
    while (!m_chat.turns.empty() && m_chat.turns.back().role == QLatin1String("assistant"))
        m_chat.turns.pop_back();
    if (!m_chat.turns.empty())
        ask();
}

void ChatMode::editLast() {
    if (m_workbench.isAnswering() || m_waiting)
        return;
    while (!m_chat.turns.empty()) {
        const ChatTurn turn = m_chat.turns.back();
        m_chat.turns.pop_back();
        if (turn.role != QLatin1String("user"))
            continue;
        m_composer->setText(turn.text);
        m_view->setTurns(m_chat.turns);
        m_composer->field()->setFocus();
        return;
    }
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
