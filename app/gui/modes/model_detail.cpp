#include "app/gui/modes/model_detail.h"

#include "app/gui/models/found_models.h"
#include "app/gui/units.h"
#include "app/gui/widgets/drop_zone.h"
#include "app/gui/workbench.h"

#include "core/base/resources.h"
#include "core/model/chat_format.h"

#include <QDir>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QScrollArea>
#include <QVBoxLayout>

namespace nibble {

namespace {

QString text(const std::string& fromFile) {
    return QString::fromStdString(printable(fromFile));
}

/// What is known of any model, also of one that cannot be run.
std::vector<std::pair<QString, QString>> knownFacts(const Model& model, const Diagnosis& known) {
    const QString architecture =
        known.architecture.empty() ? ModelDetail::tr("not stated") : text(known.architecture);
    std::vector<std::pair<QString, QString>> facts;
    if (!known.problem.empty())
        facts.emplace_back(ModelDetail::tr("Architecture"),
                           known.architectureKnown
                               ? architecture
                               : ModelDetail::tr("%1, not known here").arg(architecture));
    QString tokenizer = known.tokenizer.empty() ? ModelDetail::tr("none") : text(known.tokenizer);
    if (!known.preTokenizer.empty())
        tokenizer += QStringLiteral(", ") + text(known.preTokenizer);
    if (!known.tokenizer.empty() && !known.tokenizerKnown)
        tokenizer += ModelDetail::tr(", not fully known");
    facts.emplace_back(ModelDetail::tr("Tokenizer"), tokenizer);
    facts.emplace_back(ModelDetail::tr("Stored as"), text(known.quantization));
    if (!known.unused.empty())
        facts.emplace_back(ModelDetail::tr("Not used"),
                           ModelDetail::tr("%n tensors, %1 …", nullptr, int(known.unused.size()))
                               .arg(text(known.unused.front())));
    if (!known.problem.empty())
        facts.emplace_back(ModelDetail::tr("Parameters"), units::big(double(model.parameters())));
    return facts;
}

std::vector<std::pair<QString, QString>> factsOf(const Model& model) {
    const ModelConfig& c = model.config;
    const auto pair = [](int64_t a, int64_t b) {
        return QStringLiteral("%1 / %2").arg(units::count(a), units::count(b));
    };
    const QString found = model.chatTemplate.empty()
                              ? ModelDetail::tr("none, %1 is used")
                                    .arg(QString::fromStdString(chatFormat(model).name))
                              : ModelDetail::tr("the model's own");
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

bool isSample(const QString& path) {
    try {
        return !path.isEmpty() &&
               QFileInfo(path) == QFileInfo(QString::fromStdString(sampleModelPath().string()));
    } catch (const Error&) { // it is not installed
        return false;
    }
}

} // namespace

ModelDetail::ModelDetail(Workbench& workbench, QWidget* parent)
    : Panel({}, parent), m_workbench(workbench), m_name(new ElidedLabel({}, Type::Title)),
      m_path(new ElidedLabel({}, Type::Footnote, Ink::SecondaryText)),
      m_chat(makeButton(tr("Chat"), ButtonKind::Primary, QStringLiteral("chat"))),
      m_tune(makeButton(tr("Tune"), ButtonKind::Plain, QStringLiteral("tune"))),
      m_inspect(makeButton(tr("Inspect"), ButtonKind::Plain, QStringLiteral("inspect"))),
      m_note(new Label({}, Type::Secondary, Ink::SecondaryText)),
      m_warning(new Label({}, Type::Secondary, Ink::Warning)),
      m_memoryTitle(new Label({}, Type::Title)), m_modelTitle(new Label(tr("Model"), Type::Title)),
      m_planTitle(new Label(tr("Where it runs"), Type::Title)), m_plan(new Label),
      m_metadata(makeButton(tr("Metadata…"), ButtonKind::Link)), m_facts(new FactList),
      m_memory(new FactList) {
    setAccessibleName(tr("Selected model"));
    body()->addWidget(m_name);
    body()->addWidget(m_path);
    auto* buttons = new QHBoxLayout;
    buttons->setSpacing(space::s());
    for (QPushButton* button : {m_chat, m_tune, m_inspect})
        buttons->addWidget(button, 1);
    body()->addLayout(buttons);
    // What follows may be longer than the window is high.
    auto* inside = new QWidget;
    auto* column = new QVBoxLayout(inside);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(body()->spacing());
    for (Label* label : {m_note, m_warning, m_plan})
        label->setWordWrap(true);
    m_warning->setAccessibleName(tr("Warnings about the model"));
    m_plan->setTextInteractionFlags(Qt::TextSelectableByMouse);
    column->addWidget(m_note);
    column->addWidget(m_warning);
    column->addWidget(makeBest());
    column->addSpacing(space::s());
    column->addWidget(m_planTitle);
    column->addWidget(m_plan);
    auto* title = new QHBoxLayout;
    title->addWidget(m_modelTitle, 1);
    title->addWidget(m_metadata);
    column->addLayout(title);
    column->addWidget(m_facts);
    column->addSpacing(space::s());
    column->addWidget(m_memoryTitle);
    column->addWidget(m_memory);
    column->addStretch();
    auto* scroll = new QScrollArea;
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    scroll->viewport()->setAutoFillBackground(false);
    scroll->setWidget(inside);
    inside->setAutoFillBackground(false); // the panel's colour shows through
    body()->addWidget(scroll, 1);
    connect(m_metadata, &QPushButton::clicked, this, &ModelDetail::wantsMetadata);
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

Panel* ModelDetail::makeBest() {
    m_best = new Panel;
    m_best->setFill(Ink::AccentFill);
    m_best->setBorder(Ink::Accent);
    m_best->setAccessibleName(tr("Recommended level"));
    m_bestTitle = new Label({}, Type::Footnote, Ink::Accent);
    m_bestText = new Label;
    m_bestText->setWordWrap(true);
    m_useBest = makeButton(tr("Use the recommended level"));
    m_why = makeButton(tr("Why?"), ButtonKind::Link);
    m_best->body()->addWidget(m_bestTitle);
    m_best->body()->addWidget(m_bestText);
    auto* buttons = new QHBoxLayout;
    buttons->addWidget(m_useBest);
    buttons->addWidget(m_why);
    buttons->addStretch(1);
    m_best->body()->addLayout(buttons);
    connect(m_useBest, &QPushButton::clicked, this,
            [this] { m_workbench.applyLevel(m_bestLevel); });
    connect(m_why, &QPushButton::clicked, this, [this] {
        m_workbench.setLevel(m_bestLevel);
        const LadderRow* row = m_workbench.ladderRow(m_workbench.recipe());
        if (row && !row->measured)
            m_workbench.measureLadder();
        emit wantsMode(QStringLiteral("tune"));
    });
    for (auto signal : {&Workbench::ladderChanged, &Workbench::runningChanged,
                        &Workbench::devicesChanged, &Workbench::optionsChanged})
        connect(&m_workbench, signal, this, &ModelDetail::refresh);
    return m_best;
}

/// Says which level is recommended, and why, in a sentence of what was measured.
void ModelDetail::refreshBest(bool isOpen) {
    const auto& ladder = m_workbench.ladder();
    const auto model = m_workbench.model();
    std::optional<Recommendation> found;
    if (isOpen && model->unsupported.empty())
        found = recommendLevel(ladder, recipeSize(*model, Recipe{}).bytes);
    m_best->setVisible(found.has_value());
    if (!found)
        return;
    const Recommendation best = *found;
    const LadderRow& row = ladder[best.row];
    const auto device = m_workbench.device();
    const QString title = m_workbench.recipeTitle(row.recipe);
    m_bestLevel = QString::fromStdString(row.level);
    m_bestTitle->setText(device && device->kind == "cpu" ? tr("Best for this CPU")
                                                         : tr("Best for this GPU"));
    const QString share = units::number(best.sizeShare * 100, 2);
    QString text;
    if (!best.measured)
        text = tr("%1: the most bits that fit, %2 % of the base's size. Loss and speed are not "
                  "measured yet.")
                   .arg(title, share);
    else if (best.smallLoss)
        text = tr("%1: the smallest level whose answers hardly change. KLD %2 on %3 tokens, in "
                  "%4 % of the base's size.")
                   .arg(title, units::withError(row.quality.kldMean, row.quality.kldError),
                        units::count(row.quality.tokens), share);
    else
        text = tr("%1: of the levels that fit, the one that loses least. KLD %2 on %3 tokens, in "
                  "%4 % of the base's size.")
                   .arg(title, units::withError(row.quality.kldMean, row.quality.kldError),
                        units::count(row.quality.tokens), share);
    if (best.speedRatio > 0)
        text += QLatin1Char(' ') +
                tr("%1 tokens/s, %2 times as fast as F16.")
                    .arg(units::number(row.generateTps), units::number(best.speedRatio, 2));
    m_bestText->setText(text);
    const bool used = m_workbench.runningRecipe().name == row.level;
    m_useBest->setText(used ? tr("In use") : tr("Use %1").arg(title));
    m_useBest->setEnabled(!used && m_workbench.isRunning() && !m_workbench.isApplying());
    m_why->setText(best.measured ? tr("Why?") : tr("Measure all levels"));
    for (QPushButton* button : {m_useBest, m_why})
        button->setAccessibleName(button->text());
}

void ModelDetail::show(const FoundModel* row, const QString& level) {
    m_shownLevel = level;
    m_shownPath = row ? row->path : m_workbench.modelPath();
    m_shownName = row ? row->name : QString();
    m_shownProblem = row ? row->problem : QString();
    m_shownPlan = row ? row->plan : QString();
    refresh();
}

void ModelDetail::openThen(const QString& mode) {
    if (m_workbench.model() && m_shownPath == m_workbench.modelPath()) {
        if (!m_shownLevel.isEmpty()) // of a variant: what it is opened for
            mode == QLatin1String("chat") ? m_workbench.applyLevel(m_shownLevel)
                                          : m_workbench.setLevel(m_shownLevel);
        emit wantsMode(mode);
        return;
    }
    m_thenMode = mode;
    emit wantsOpen(m_shownPath);
}

/// Of the open model what lies where now, of another what would.
void ModelDetail::refreshPlan(bool isOpen) {
    const auto& plan = m_workbench.plan();
    const QString text = !isOpen ? m_shownPlan
                         : plan  ? QString::fromStdString(plan->text())
                                 : QString();
    m_planTitle->setText(isOpen ? tr("Where it runs") : tr("Where it would run"));
    m_plan->setText(text);
    m_planTitle->setVisible(!text.isEmpty());
    m_plan->setVisible(!text.isEmpty());
}

void ModelDetail::refresh() {
    const auto model = m_workbench.model();
    const bool isOpen = model && m_shownPath == m_workbench.modelPath();
    const bool any = !m_shownPath.isEmpty();
    QString variant;
    for (const LadderRow& row : m_workbench.ladder())
        if (isOpen && m_shownLevel == QString::fromStdString(row.level))
            variant = tr("%1 of ").arg(m_workbench.recipeTitle(row.recipe));
    m_name->setFullText(isOpen                   ? variant + m_workbench.modelName()
                        : !m_shownName.isEmpty() ? m_shownName
                        : any                    ? QFileInfo(m_shownPath).completeBaseName()
                                                 : tr("No model chosen"));
    m_path->setFullText(isSample(m_shownPath) ? tr("ships with Nibble") : homely(m_shownPath));
    const bool runs = any && m_shownProblem.isEmpty() && (!isOpen || model->unsupported.empty());
    m_chat->setEnabled(runs && !m_workbench.isOpening());
    m_tune->setEnabled(runs && !m_workbench.isOpening());
    // What cannot be run can still be looked at, if only its file can be read.
    m_inspect->setEnabled(any && !m_workbench.isOpening());
    const QString note = !m_shownProblem.isEmpty() ? m_shownProblem
                         : isOpen                  ? QString::fromStdString(model->unsupported)
                         : any                     ? tr("Not open yet: a button above opens it.")
                               : tr("Choose a model in the table, or drop one on the window.");
    m_note->setText(note);
    m_note->setVisible(!note.isEmpty());
    const Diagnosis& known = m_workbench.diagnosis();
    QStringList warnings;
    for (const std::string& warning : known.warnings)
        warnings << QString::fromStdString(warning);
    m_warning->setText(warnings.join(QLatin1Char('\n')));
    m_warning->setVisible(isOpen && !warnings.isEmpty());
    refreshBest(isOpen);
    refreshPlan(isOpen);
    m_modelTitle->setVisible(isOpen);
    m_metadata->setVisible(isOpen);
    m_facts->setVisible(isOpen);
    if (isOpen) {
        auto facts = knownFacts(*model, known);
        if (known.problem.empty()) {
            const auto more = factsOf(*model);
            facts.insert(facts.begin(), more.begin(), more.end());
        }
        m_facts->setFacts(facts);
    }
    const auto& ledger = m_workbench.predictedLedger();
    m_memoryTitle->setVisible(isOpen && ledger);
    m_memory->setVisible(isOpen && ledger);
    if (isOpen && ledger) {
        m_memoryTitle->setText(
            tr("Memory of %1, context %2")
                .arg(m_workbench.title(), units::count(m_workbench.options().context)));
        m_memory->setFacts({{tr("Weights"), units::bytes(ledger->use.weights)},
                            {tr("KV cache"), units::bytes(ledger->use.kv)},
                            {tr("Scratch"), units::bytes(ledger->use.scratch)},
                            {tr("Needs"), units::bytes(ledger->use.total())}},
                           true);
    }
}

} // namespace nibble
