#include "app/gui/panels/levels_panel.h"

#include "app/gui/panels/ledger_panel.h"
#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include <QSplitter>
#include <QVBoxLayout>

#include <algorithm>

namespace nibble {
namespace {

/// "capitals: 23 of 24", a line each.
QString categoriesText(const ProbeReport& report) {
    QStringList lines;
    for (const ProbeReport::Category& c : report.categories)
        lines += LevelsPanel::tr("%1: %2 of %3")
                     .arg(QString::fromStdString(c.category), units::count(c.correct),
                          units::count(c.count));
    return lines.join(QLatin1Char('\n'));
}

QString levelTitle(const std::string& name) {
    for (const Level& level : levels())
        if (name == level.name)
            return QString::fromUtf8(level.title);
    return QString::fromStdString(name);
}

} // namespace

LevelsPanel::LevelsPanel(Workbench& workbench, LedgerPanel* ledger, QWidget* parent)
    : Panel(tr("Levels"), parent), m_workbench(workbench), m_ledger(ledger),
      m_plane(new LevelPlane), m_footnote(new Label({}, Type::Footnote, Ink::SecondaryText)) {
    m_footnote->setWordWrap(true);
    const auto at = [this](int i) { return row(i); };
    std::vector<Column> columns;
    columns.push_back({tr("Level"), {}, [at](int i) { return levelTitle(at(i)->level); }, {}, {}});
    columns.push_back({tr("Size"),
                       tr("Size of the weights"),
                       [at](int i) { return units::bytes(at(i)->size.bytes); },
                       [at](int i) { return static_cast<double>(at(i)->size.bytes); },
                       {}});
    columns.push_back({tr("Bits"),
                       tr("Bits that one weight takes on average, scales included"),
                       [at](int i) { return QString::number(at(i)->size.bitsPerWeight, 'f', 2); },
                       [at](int i) { return at(i)->size.bitsPerWeight; },
                       {},
                       2});
    columns.push_back({tr("KLD ×10⁻³"),
                       tr("How far the level's next-token probabilities move from the base "
                          "model's, in thousandths; 0 is no loss"),
                       [at](int i) {
                           const LadderRow* r = at(i);
                           if (!r->problem.empty())
                               return tr("failed");
                           if (!r->measured)
                               return tr("not measured");
                           return r->quality.kldMean == 0
                                      ? QStringLiteral("0")
                                      : units::withError(r->quality.kldMean * 1e3,
                                                         r->quality.kldError * 1e3);
                       },
                       [at](int i) { return at(i)->measured ? at(i)->quality.kldMean : 1e300; },
                       {}});
    columns.push_back(
        {tr("Right, %"),
         tr("Questions that the level answers right, with the standard error"),
         [at](int i) {
             const auto& p = at(i)->probes;
             return p ? units::withError(p->accuracy * 100, p->error * 100) : tr("not asked");
         },
         [at](int i) { return at(i)->probes ? at(i)->probes->accuracy : -1; },
         {},
         0,
         [at](int i) { return at(i)->probes ? categoriesText(*at(i)->probes) : tr("not asked"); },
         [this] {
             const auto& rows = m_workbench.ladder();
             return std::any_of(rows.begin(), rows.end(),
                                [](const LadderRow& r) { return r.probes.has_value(); });
         }});
    columns.push_back({tr("Tokens/s"),
                       tr("Tokens that this device generates in a second"),
                       [at](int i) {
                           return at(i)->generateTps > 0 ? units::number(at(i)->generateTps)
                                                         : QStringLiteral("–");
                       },
                       [at](int i) { return at(i)->generateTps; },
                       {},
                       1});
    columns.push_back({tr("Fit"),
                       tr("Whether it fits into the device's memory with this context"),
                       [at](int i) { return at(i)->fits ? tr("✓ fits") : tr("✕ too big"); },
                       {},
                       {},
                       3});
    m_model = new ColumnModel(std::move(columns), this);
    m_model->setEmphasis(
        [this, at](int i) { return at(i)->level == m_workbench.runningRecipe().name; });
    m_table = new ColumnTable(m_model, tr("Levels"), 3);

    auto* splitter = new QSplitter(Qt::Horizontal);
    m_splitter = splitter;
    splitter->addWidget(m_plane);
    splitter->addWidget(m_table);
    splitter->setStretchFactor(0, 3);
    splitter->setStretchFactor(1, 2);
    splitter->setChildrenCollapsible(false);
    splitter->setSizes({Theme::get().px(520), Theme::get().px(420)});
    body()->addWidget(splitter, 1);
    body()->addWidget(m_footnote);

    const auto choose = [this](const QString& id) { m_workbench.setLevel(id); };
    connect(m_plane, &LevelPlane::chosen, this, choose);
    connect(m_plane, &LevelPlane::activated, &m_workbench, &Workbench::applyLevel);
    connect(m_table, &ColumnTable::rowChosen, this,
            [this, choose](int i) { choose(QString::fromStdString(row(i)->level)); });
    connect(m_table, &ColumnTable::rowActivated, this,
            [this](int i) { m_workbench.applyLevel(QString::fromStdString(row(i)->level)); });
    for (auto signal :
         {&Workbench::ladderChanged, &Workbench::recipeChanged, &Workbench::runningChanged,
          &Workbench::ledgerChanged, &Workbench::modelChanged})
        connect(&m_workbench, signal, this, &LevelsPanel::refresh);
    connect(m_ledger, &LedgerPanel::keepFreeChanged, this, &LevelsPanel::refresh);
    refresh();
}

void LevelsPanel::setStacked(bool stacked) {
    m_splitter->setOrientation(stacked ? Qt::Vertical : Qt::Horizontal);
    const int rows = stacked ? m_model->rowCount() + 2 : 3;
    m_table->setMinimumHeight(rows * Theme::get().rowHeight());
    m_plane->setMinimumHeight(Theme::get().px(stacked ? 240 : 120));
}

const LadderRow* LevelsPanel::row(int index) const {
    return &m_workbench.ladder()[static_cast<size_t>(index)];
}

void LevelsPanel::refresh() {
    const auto& ladder = m_workbench.ladder();
    title()->setText(m_workbench.model() ? tr("Levels of %1").arg(m_workbench.modelName())
                                         : tr("Levels"));
    m_model->setRows(static_cast<int>(ladder.size()));
    const std::string chosen = m_workbench.recipe().name;
    const auto found = std::find_if(ladder.begin(), ladder.end(),
                                    [&](const LadderRow& r) { return r.level == chosen; });
    m_table->setCurrentRow(found == ladder.end() ? -1 : static_cast<int>(found - ladder.begin()));

    std::vector<LevelPoint> points;
    int64_t tokens = 0;
    for (const LadderRow& r : ladder) {
        if (!r.measured)
            continue;
        tokens = std::max(tokens, r.quality.tokens);
        points.push_back({QString::fromStdString(r.level), levelTitle(r.level),
                          static_cast<double>(r.size.bytes), r.quality.kldMean, r.quality.kldError,
                          r.generateTps, r.size.bitsPerWeight, r.fits});
    }
    // Above this many bytes of weights the rest (cache, scratch, other programs) no longer fits.
    double limit = 0;
    if (const auto& ledger = m_workbench.predictedLedger()) {
        const uint64_t rest =
            ledger->use.kv + ledger->use.scratch + ledger->other + m_ledger->keepFree();
        limit = ledger->budget > rest ? static_cast<double>(ledger->budget - rest) : 1;
    }
    m_plane->setPoints(std::move(points), limit,
                       m_ledger->keepFree()
                           ? tr("does not fit: %1 tokens of context,\n%2 kept free")
                                 .arg(units::count(m_workbench.options().context),
                                      units::bytes(m_ledger->keepFree()))
                           : tr("does not fit with\n%1 tokens of context")
                                 .arg(units::count(m_workbench.options().context)));
    m_plane->setChosen(QString::fromStdString(chosen));
    if (ladder.empty())
        m_footnote->setText(
            tr("KLD: how far the next-token probabilities move from the base model's."));
    else if (tokens == 0)
        m_footnote->setText(
            tr("Sizes are exact. Press Measure for loss and speed on this device."));
    else
        m_footnote->setText(tr("measured on %1 tokens of the shipped text; bars: ± one standard "
                               "error; line: levels "
                               "that no smaller one beats")
                                .arg(units::count(tokens)));
}

} // namespace nibble
