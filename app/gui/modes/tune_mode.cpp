#include "app/gui/export_menu.h"
#include "app/gui/modes/mode.h"

#include "app/gui/panels/budget_row.h"
#include "app/gui/panels/calibration_chooser.h"
#include "app/gui/panels/layers_panel.h"
#include "app/gui/panels/ledger_panel.h"
#include "app/gui/panels/levels_panel.h"
#include "app/gui/units.h"
#include "app/gui/widgets/folding_panels.h"
#include "app/gui/widgets/parts.h"
#include "app/gui/workbench.h"

#include <QComboBox>
#include <QResizeEvent>
#include <QScrollArea>
#include <QSignalBlocker>
#include <QSplitter>
#include <QVBoxLayout>

#include <algorithm>

namespace nibble {

namespace {

/// A quantity of the chosen recipe: name, number, and what it is compared with.
class Figure : public QWidget {
public:
    Figure(const QString& name, const QString& about, QWidget* parent)
        : QWidget(parent), m_number(new Label({}, Type::Number)),
          m_unit(new Label({}, Type::Secondary, Ink::SecondaryText)),
          m_note(new ElidedLabel({}, Type::Footnote, Ink::SecondaryText)) {
        setToolTip(about);
        auto* layout = new QVBoxLayout(this);
        layout->setContentsMargins(0, 0, 0, 0);
        layout->setSpacing(space::xs());
        layout->addWidget(new Label(name, Type::Body, Ink::SecondaryText));
        auto* line = new QHBoxLayout;
        line->setSpacing(space::s());
        line->addWidget(m_number, 0, Qt::AlignBaseline);
        line->addWidget(m_unit, 0, Qt::AlignBaseline);
        line->addStretch(1);
        layout->addLayout(line);
        layout->addWidget(m_note);
        setAccessibleName(name);
    }
    void set(const QString& number, const QString& unit, const QString& note) {
        m_number->setText(number);
        m_unit->setText(unit);
        m_note->setFullText(note, Qt::ElideRight);
        setAccessibleDescription(tr("%1 %2. %3").arg(number, unit, note));
    }

private:
    Label *m_number, *m_unit;
    ElidedLabel* m_note;
};

/// Choose a level: what it takes, what it costs, whether it fits, and which tensors lose most.
class TuneMode final : public Mode {
public:
    TuneMode(Workbench& workbench, QWidget* parent);
    void showProblem(const QString& sentence) override {
        m_banner->show(Banner::Kind::Bad, sentence);
    }
    void focusStart() override { m_level->setFocus(); }
    void resetLayout() override { arrange(true); }

protected:
    void resizeEvent(QResizeEvent* event) override {
        Mode::resizeEvent(event);
        arrange(false);
    }

private:
    void refresh();
    void arrange(bool force);
    void arrangeTop(bool narrow);
    void refreshFigures();
    QWidget* makeTop();

    Workbench& m_workbench;
    Banner* m_banner;
    QString m_calibration; ///< that was explained last
    QGridLayout* m_top;
    QBoxLayout* m_buttons;
    QWidget *m_levelBox, *m_buttonBox;
    QComboBox* m_level;
    ElidedLabel* m_recipeText;
    Figure *m_memory, *m_quality, *m_speed;
    BudgetRow* m_budget;
    QPushButton *m_apply, *m_export, *m_measure;
    LedgerPanel* m_ledger;
    LevelsPanel* m_levels;
    LayersPanel* m_layers;
    QSplitter* m_middle;
    FoldingPanels* m_panels;
};

TuneMode::TuneMode(Workbench& workbench, QWidget* parent)
    : Mode(parent), m_workbench(workbench), m_banner(new Banner(this)) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(space::m());
    layout->addWidget(m_banner);
    layout->addWidget(makeTop());

    m_ledger = new LedgerPanel(workbench, this);
    m_levels = new LevelsPanel(workbench, m_ledger, this);
    m_layers = new LayersPanel(workbench, this);
    m_middle = makeSplitter(Qt::Horizontal);
    m_panels = new FoldingPanels(m_middle);
    m_panels->add(m_levels, tr("Levels"), m_middle, 0);
    m_panels->add(m_ledger, tr("Memory"), m_middle, 1);
    m_middle->setStretchFactor(0, 3);
    m_middle->setStretchFactor(1, 1);

    auto* inside = new QWidget;
    auto* column = new QVBoxLayout(inside);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(space::m());
    column->addWidget(m_panels, 1);
    column->addWidget(m_layers);
    auto* scroll = new QScrollArea;
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setWidget(inside);
    layout->addWidget(scroll, 1);

    connect(m_layers, &LayersPanel::inspect, this, [this](TensorKey key) {
        m_workbench.setSelection(key);
        emit wantsMode(QStringLiteral("inspect"));
    });
    for (auto signal :
         {&Workbench::modelChanged, &Workbench::recipeChanged, &Workbench::runningChanged,
          &Workbench::baselineChanged, &Workbench::optionsChanged, &Workbench::ladderChanged,
          &Workbench::qualityChanged, &Workbench::predictionsChanged, &Workbench::ledgerChanged,
          &Workbench::tensorErrorsChanged})
        connect(&m_workbench, signal, this, &TuneMode::refresh);
    connect(&m_workbench.jobs(), &Jobs::changed, this, &TuneMode::refresh);
    connect(&m_workbench, &Workbench::exported, this, [this](const QString& path) {
        m_banner->show(
            Banner::Kind::Good,
            tr("Written: %1. Run “nibble-cli deploy” on it for the commands of other engines.")
                .arg(path));
    });
    connect(&m_workbench, &Workbench::calibrationChanged, this, [this] {
        if (m_workbench.calibration() != m_calibration)
            m_banner->show(Banner::Kind::Info, CalibrationChooser::explanation(m_workbench));
        m_calibration = m_workbench.calibration();
    });
    m_layers->addStepKeys(this);
    connect(&Theme::get(), &Theme::changed, this, [this] { arrange(true); });
    arrange(true);
    refresh();
}

QWidget* TuneMode::makeTop() {
    auto* panel = new Panel({}, this);
    m_top = new QGridLayout;
    m_top->setHorizontalSpacing(space::xl());
    m_top->setVerticalSpacing(space::m());

    m_levelBox = new QWidget;
    auto* left = new QVBoxLayout(m_levelBox);
    left->setContentsMargins(0, 0, 0, 0);
    left->setSpacing(space::xs());
    left->addWidget(new Label(tr("Level"), Type::Body, Ink::SecondaryText));
    m_level = new QComboBox;
    m_level->setAccessibleName(tr("Level"));
    for (const LadderLevel& level : ladderLevels()) {
        m_level->addItem(QString::fromUtf8(level.title), QString::fromUtf8(level.name));
        m_level->setItemData(m_level->count() - 1, QString::fromUtf8(level.about), Qt::ToolTipRole);
    }
    left->addWidget(m_level);
    m_recipeText = new ElidedLabel({}, Type::Footnote, Ink::SecondaryText);
    left->addWidget(m_recipeText);
    left->addStretch(1);

    m_memory = new Figure(tr("Memory"), tr("Weights, cache and scratch on the device"), panel);
    m_quality =
        new Figure(tr("Quality"),
                   tr("KLD: how far the next-token probabilities move from the base model's, "
                      "in thousandths; 0 is no loss"),
                   panel);
    m_speed = new Figure(tr("Speed"), tr("Tokens generated in a second on this device"), panel);

    m_buttonBox = new QWidget;
    m_buttons = new QBoxLayout(QBoxLayout::TopToBottom, m_buttonBox);
    m_buttons->setContentsMargins(0, 0, 0, 0);
    m_buttons->setSpacing(space::xs());
    m_apply = makeButton(tr("Apply"), ButtonKind::Primary);
    m_measure = makeButton(tr("Measure"));
    m_export = makeButton(tr("Export"), ButtonKind::Plain, QStringLiteral("export"));
    for (QPushButton* button : {m_apply, m_measure, m_export})
        m_buttons->addWidget(button);
    panel->body()->addLayout(m_top);
    m_budget = new BudgetRow(m_workbench);
    panel->body()->addWidget(m_budget);

    connect(m_level, &QComboBox::activated, this,
            [this] { m_workbench.setLevel(m_level->currentData().toString()); });
    connect(m_apply, &QPushButton::clicked, &m_workbench, &Workbench::apply);
    m_export->setMenu(makeExportMenu(m_workbench, this));
    connect(m_measure, &QPushButton::clicked, this, [this] {
        m_workbench.measureLadder();
        m_workbench.measureTensors();
    });
    return panel;
}

/// The level, three figures and the buttons in one row, or the figures in a row of their own.
void TuneMode::arrangeTop(bool narrow) {
    for (QWidget* widget :
         std::initializer_list<QWidget*>{m_levelBox, m_memory, m_quality, m_speed, m_buttonBox})
        m_top->removeWidget(widget);
    const int row = narrow ? 1 : 0, first = narrow ? 0 : 1;
    m_top->addWidget(m_levelBox, 0, 0);
    m_top->addWidget(m_memory, row, first);
    m_top->addWidget(m_quality, row, first + 1);
    m_top->addWidget(m_speed, row, first + 2);
    if (narrow)
        m_top->addWidget(m_buttonBox, 0, 1, 1, 2, Qt::AlignRight);
    else
        m_top->addWidget(m_buttonBox, 0, 4);
    for (int column = 0; column < 5; ++column)
        m_top->setColumnStretch(column, narrow ? column < 3 : column < 4 ? 2 : 1);
    m_buttons->setDirection(narrow ? QBoxLayout::LeftToRight : QBoxLayout::TopToBottom);
    m_buttons->setSpacing(narrow ? space::s() : space::xs());
}

/// Below 1200 px the ledger becomes a tab beside the levels.
void TuneMode::arrange(bool force) {
    const bool narrow = width() < Theme::get().px(1110);
    m_levels->setStacked(width() < Theme::get().px(700));
    if (narrow == m_panels->isFolded() && !force)
        return;
    m_panels->fold(narrow);
    arrangeTop(narrow);
    if (!narrow)
        m_middle->setSizes({Theme::get().px(900), Theme::get().px(330)});
    m_levels->setMinimumHeight(Theme::get().px(300));
}

void TuneMode::refresh() {
    const bool hasModel = m_workbench.model() != nullptr;
    const Recipe& recipe = m_workbench.recipe();
    {
        const QSignalBlocker quiet(m_level);
        m_level->setCurrentIndex(m_level->findData(QString::fromStdString(recipe.name)));
    }
    const QString chosen = m_workbench.title();
    m_recipeText->setFullText(!hasModel ? tr("Open a model first.")
                              : m_workbench.hasPendingChange()
                                  ? tr("running: %1").arg(m_workbench.runningTitle())
                              : chosen == m_level->currentText() ? tr("this is running")
                                                                 : tr("running: %1").arg(chosen),
                              Qt::ElideRight);
    refreshFigures();
    m_budget->refresh();
    const bool pending = hasModel && m_workbench.hasPendingChange();
    m_apply->setEnabled(pending && !m_workbench.isApplying());
    m_apply->setText(m_workbench.isApplying() ? tr("Applying…")
                     : pending                ? tr("Apply")
                                              : tr("Applied"));
    m_measure->setEnabled(hasModel && !m_workbench.isMeasuringLadder());
    m_measure->setText(m_workbench.isMeasuringLadder() ? tr("Measuring…") : tr("Measure"));
    m_export->setEnabled(hasModel);
}

/// What the chosen recipe takes and loses, and beside it the baseline where that is another one.
void TuneMode::refreshFigures() {
    const Recipe& recipe = m_workbench.recipe();
    const LadderRow* level = m_workbench.ladderRow(recipe);
    const Recipe& baseline = m_workbench.baseline();
    const bool compares = !baseline.rules.empty() && baseline != recipe;
    const LadderRow* other = compares ? m_workbench.ladderRow(baseline) : nullptr;
    const QString beside = m_workbench.baselineTitle() + QStringLiteral(": ");

    if (const auto& ledger = m_workbench.predictedLedger())
        m_memory->set(units::bytes(ledger->use.total()), {},
                      other ? beside + units::bytes(other->memory.total())
                            : tr("weights %1").arg(units::bytes(ledger->use.weights)));
    else
        m_memory->set(QStringLiteral("–"), {}, tr("nothing loaded"));

    const auto loss = [](const QualityReport& q) {
        return q.kldMean == 0 ? QStringLiteral("0")
                              : units::withError(q.kldMean * 1e3, q.kldError * 1e3);
    };
    const QualityReport* quality = m_workbench.quality();
    if (!quality && level && level->measured)
        quality = &level->quality;
    const QualityReport* otherQuality = compares ? m_workbench.quality(baseline.hash()) : nullptr;
    const QString unit = tr("KLD ×10⁻³");
    const auto& prompt = m_workbench.promptLoss();
    const QString onPrompt =
        prompt && !m_workbench.hasPendingChange()
            ? tr("on your last prompt %1")
                  .arg(units::withError(prompt->kld * 1e3, prompt->error * 1e3))
            : QString();
    if (quality && quality->hasReference)
        m_quality->set(loss(*quality), unit,
                       !onPrompt.isEmpty() ? onPrompt
                       : otherQuality      ? beside + loss(*otherQuality)
                                           : tr("same top token %1 %, %2 tokens")
                                            .arg(units::number(quality->sameTop * 100),
                                                 units::count(quality->tokens)));
    else if (const auto predicted = m_workbench.prediction(); predicted && predicted->kld > 0)
        m_quality->set(QStringLiteral("≈ ") +
                           units::withError(predicted->kld * 1e3, predicted->error * 1e3),
                       unit, onPrompt.isEmpty() ? tr("predicted, not measured") : onPrompt);
    else
        m_quality->set(QStringLiteral("–"), unit,
                       onPrompt.isEmpty() ? tr("not measured") : onPrompt);

    if (level && level->generateTps > 0)
        m_speed->set(units::number(level->generateTps), tr("tokens/s"),
                     other && other->generateTps > 0
                         ? beside + units::number(other->generateTps)
                         : tr("reads %1 tokens/s").arg(units::number(level->promptTps)));
    else
        m_speed->set(QStringLiteral("–"), tr("tokens/s"), tr("not measured"));
}

} // namespace

Mode* makeTuneMode(Workbench& workbench, QWidget* parent) {
    return new TuneMode(workbench, parent);
}

} // namespace nibble
