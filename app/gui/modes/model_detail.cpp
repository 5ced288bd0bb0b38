#include "app/gui/modes/model_detail.h"

#include "app/gui/models/found_models.h"
#include "app/gui/units.h"
#include "app/gui/widgets/drop_zone.h"
#include "app/gui/workbench.h"

#include "core/tokenizer/chat_template.h"

#include <QDir>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QVBoxLayout>

namespace nibble {

namespace {

std::vector<std::pair<QString, QString>> factsOf(const Model& model) {
    const ModelConfig& c = model.config;
    const auto pair = [](int64_t a, int64_t b) {
        return QStringLiteral("%1 / %2").arg(units::count(a), units::count(b));
    };
    const ChatTemplate& chat = detectChatTemplate(model.chatTemplate);
    const QString found = model.chatTemplate.empty()
                              ? ModelDetail::tr("none, %1 is used").arg(QLatin1String(chat.name))
                              : ModelDetail::tr("found, %1").arg(QLatin1String(chat.name));
    return {
        {ModelDetail::tr("Architecture"),
         ModelDetail::tr("%1, %n blocks", nullptr, c.layers)
             .arg(QString::fromStdString(printable(c.architecture)))},
        {ModelDetail::tr("Parameters"), units::big(double(model.parameters()))},
        {ModelDetail::tr("Width / feed-forward"), pair(c.width, c.feedForward)},
        {ModelDetail::tr("Heads / KV heads"), pair(c.heads, c.kvHeads)},
        {ModelDetail::tr("Longest context"),
         ModelDetail::tr("%1 tokens").arg(units::count(c.contextLength))},
        {ModelDetail::tr("Vocabulary"),
         ModelDetail::tr("%1 tokens").arg(units::count(c.vocabulary))},
        {ModelDetail::tr("Chat template"), found},
        {ModelDetail::tr("Licence"),
         QString::fromStdString(
             printable(model.checkpoint->metadata.stringOr("general.license", "not stated")))},
    };
}

QString homely(const QString& path) {
    const QString home = QDir::homePath();
    return path.startsWith(home + QLatin1Char('/')) ? QLatin1Char('~') + path.mid(home.size())
                                                    : path;
}

} // namespace

ModelDetail::ModelDetail(Workbench& workbench, QWidget* parent)
    : Panel({}, parent), m_workbench(workbench), m_name(new ElidedLabel({}, Type::Title)),
      m_path(new ElidedLabel({}, Type::Footnote, Ink::SecondaryText)),
      m_chat(makeButton(tr("Chat"), ButtonKind::Primary, QStringLiteral("chat"))),
      m_tune(makeButton(tr("Tune"), ButtonKind::Plain, QStringLiteral("tune"))),
      m_inspect(makeButton(tr("Inspect"), ButtonKind::Plain, QStringLiteral("inspect"))),
      m_note(new Label({}, Type::Secondary, Ink::SecondaryText)),
      m_memoryTitle(new Label({}, Type::Title)), m_modelTitle(new Label(tr("Model"), Type::Title)),
      m_facts(new FactList), m_memory(new FactList) {
    setAccessibleName(tr("Selected model"));
    body()->addWidget(m_name);
    body()->addWidget(m_path);
    auto* buttons = new QHBoxLayout;
    buttons->setSpacing(space::s());
    for (QPushButton* button : {m_chat, m_tune, m_inspect})
        buttons->addWidget(button, 1);
    body()->addLayout(buttons);
    m_note->setWordWrap(true);
    body()->addWidget(m_note);
    body()->addSpacing(space::s());
    body()->addWidget(m_modelTitle);
    body()->addWidget(m_facts);
    body()->addSpacing(space::s());
    body()->addWidget(m_memoryTitle);
    body()->addWidget(m_memory);
    body()->addStretch();
    connect(m_chat, &QPushButton::clicked, this, [this] { openThen(QStringLiteral("chat")); });
    connect(m_tune, &QPushButton::clicked, this, [this] { openThen(QStringLiteral("tune")); });
    connect(m_inspect, &QPushButton::clicked, this,
            [this] { openThen(QStringLiteral("inspect")); });
    connect(&workbench, &Workbench::modelChanged, this, [this] {
        m_shownPath = m_workbench.modelPath();
        m_shownProblem.clear();
        refresh();
        if (m_workbench.model() && !m_thenMode.isEmpty())
            emit wantsMode(m_thenMode);
        m_thenMode.clear();
    });
    connect(&workbench, &Workbench::ledgerChanged, this, &ModelDetail::refresh);
    refresh();
}

void ModelDetail::show(const FoundModel* row) {
    m_shownPath = row ? row->path : m_workbench.modelPath();
    m_shownProblem = row ? row->problem : QString();
    refresh();
}

void ModelDetail::openThen(const QString& mode) {
    if (m_workbench.model() && m_shownPath == m_workbench.modelPath()) {
        emit wantsMode(mode);
        return;
    }
    m_thenMode = mode;
    emit wantsOpen(m_shownPath);
}

void ModelDetail::refresh() {
    const auto model = m_workbench.model();
    const bool isOpen = model && m_shownPath == m_workbench.modelPath();
    const bool any = !m_shownPath.isEmpty();
    m_name->setFullText(isOpen ? m_workbench.modelName()
                        : any  ? QFileInfo(m_shownPath).completeBaseName()
                               : tr("No model chosen"));
    m_path->setFullText(homely(m_shownPath));
    const bool runs = any && m_shownProblem.isEmpty() && (!isOpen || model->unsupported.empty());
    m_chat->setEnabled(runs && !m_workbench.isOpening());
    m_tune->setEnabled(runs && !m_workbench.isOpening());
    m_inspect->setEnabled(any && !m_workbench.isOpening() && (isOpen || m_shownProblem.isEmpty()));
    const QString note = !m_shownProblem.isEmpty() ? m_shownProblem
                         : isOpen                  ? QString::fromStdString(model->unsupported)
                         : any                     ? tr("Not open yet: a button above opens it.")
                               : tr("Choose a model in the table, or drop one on the window.");
    m_note->setText(note);
    m_note->setVisible(!note.isEmpty());
    m_modelTitle->setVisible(isOpen);
    m_facts->setVisible(isOpen);
    if (isOpen)
        m_facts->setFacts(factsOf(*model));
    const auto& ledger = m_workbench.predictedLedger();
    m_memoryTitle->setVisible(isOpen && ledger);
    m_memory->setVisible(isOpen && ledger);
    if (isOpen && ledger) {
        m_memoryTitle->setText(tr("Memory of %1, context %2")
                                   .arg(Workbench::recipeTitle(m_workbench.recipe()),
                                        units::count(m_workbench.options().context)));
        m_memory->setFacts({{tr("Weights"), units::bytes(ledger->use.weights)},
                            {tr("KV cache"), units::bytes(ledger->use.kv)},
                            {tr("Scratch"), units::bytes(ledger->use.scratch)},
                            {tr("Needs"), units::bytes(ledger->use.total())}},
                           true);
    }
}

} // namespace nibble
