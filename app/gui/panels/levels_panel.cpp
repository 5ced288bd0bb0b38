#include "app/gui/panels/levels_panel.h"

#include "app/gui/panels/ledger_panel.h"
#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include <QPainter>
#include <QPushButton>
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
    return QString::fromStdString(ladderTitle(name));
}

/// "● measured  ○ predicted".
class Legend : public QWidget {
public:
    Legend() { setSizePolicy(QSizePolicy::Fixed, QSizePolicy::Fixed); }
    QSize sizeHint() const override {
        const QFontMetrics text(Theme::get().font(Type::Footnote));
        return {text.horizontalAdvance(LevelsPanel::tr("measured") + LevelsPanel::tr("predicted")) +
                    2 * text.height() + space::xl(),
                text.height() + space::xs()};
    }

protected:
    void paintEvent(QPaintEvent*) override {
        const Theme& theme = Theme::get();
        QPainter painter(this);
        painter.setRenderHint(QPainter::Antialiasing);
        painter.setFont(theme.font(Type::Footnote));
        const QFontMetrics text(painter.font());
        const double size = theme.px(8);
        double x = 1;
        for (const bool filled : {true, false}) {
            const QString word =
                filled ? LevelsPanel::tr("measured") : LevelsPanel::tr("predicted");
            painter.setPen(QPen(theme.ink(Ink::Text), 1.5));
            painter.setBrush(filled ? QBrush(theme.ink(Ink::Text)) : QBrush(Qt::NoBrush));
            painter.drawEllipse(QRectF(x, (height() - size) / 2, size, size));
            x += text.height();
            painter.setPen(theme.ink(Ink::SecondaryText));
            painter.drawText(QRectF(x, 0, width() - x, height()), Qt::AlignVCenter, word);
            x += text.horizontalAdvance(word) + space::l();
        }
    }
};

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
    columns.push_back(
        {tr("KLD ×10⁻³"),
         tr("How far the level's next-token probabilities move from the base "
            "model's, in thousandths; 0 is no loss"),
         [this, at](int i) {
             const LadderRow* r = at(i);
             if (!r->problem.empty())
                 return tr("failed");
             if (!r->measured) {
                 const auto p = m_workbench.prediction(r->recipe);
                 return p ? QStringLiteral("≈ ") + units::withError(p->kld * 1e3, p->error * 1e3)
                          : tr("not measured");
             }
             return r->quality.kldMean == 0
                        ? QStringLiteral("0")
                        : units::withError(r->quality.kldMean * 1e3, r->quality.kldError * 1e3);
         },
         [this, at](int i) {
             if (at(i)->measured)
                 return at(i)->quality.kldMean;
             const auto p = m_workbench.prediction(at(i)->recipe);
             return p ? p->kld : 1e300;
         },
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

    m_legend = new Legend;
    m_predict = makeButton(tr("Predict"));
    m_predict->setToolTip(
        tr("Finds what each tensor costs, once for a model; then every recipe's loss is predicted "
           "at once, and the memory budget can be moved"));
    header()->addStretch(1);
    header()->addWidget(m_legend);
    header()->addWidget(m_predict);
    connect(m_predict, &QPushButton::clicked, &m_workbench, &Workbench::predictLosses);

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
          &Workbench::ledgerChanged, &Workbench::predictionsChanged, &Workbench::modelChanged})
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

    // Above this many bytes of weights the rest (cache, scratch, other programs) no longer fits.
    double limit = 0;
    if (const auto& ledger = m_workbench.predictedLedger()) {
        const uint64_t rest =
            ledger->use.kv + ledger->use.scratch + ledger->other + m_ledger->keepFree();
        limit = ledger->budget > rest ? static_cast<double>(ledger->budget - rest) : 1;
    }
    m_plane->setPoints(points(), limit,
                       m_ledger->keepFree()
                           ? tr("does not fit: %1 tokens of context,\n%2 kept free")
                                 .arg(units::count(m_workbench.options().context),
                                      units::bytes(m_ledger->keepFree()))
                           : tr("does not fit with\n%1 tokens of context")
                                 .arg(units::count(m_workbench.options().context)));
    m_plane->setChosen(QString::fromStdString(chosen));
    m_footnote->setText(footnote());
    m_predict->setVisible(m_workbench.model() && !m_workbench.canPredict());
    m_predict->setEnabled(!m_workbench.isPredicting() && !m_workbench.isMeasuringLadder());
    m_predict->setText(m_workbench.isPredicting() ? tr("Predicting…") : tr("Predict"));
}

/// Of levels that were measured, or else predicted; and of the edited recipe when it is none.
std::vector<LevelPoint> LevelsPanel::points() const {
    std::vector<LevelPoint> points;
    const Recipe& edited = m_workbench.recipe();
    bool shown = false;
    for (const LadderRow& r : m_workbench.ladder()) {
        const auto predicted = r.measured ? std::nullopt : m_workbench.prediction(r.recipe);
        if (!r.measured && !predicted)
            continue;
        // A budget's recipe has the level's name; only one of the two is its point.
        const bool own = r.level == edited.name;
        if (own && r.recipe.rules != edited.rules && m_workbench.prediction())
            continue;
        shown = shown || own;
        points.push_back({QString::fromStdString(r.level), levelTitle(r.level),
                          static_cast<double>(r.size.bytes),
                          predicted ? predicted->kld : r.quality.kldMean,
                          predicted ? predicted->error : r.quality.kldError, r.generateTps,
                          r.size.bitsPerWeight, r.fits, predicted.has_value()});
    }
    const auto predicted = m_workbench.prediction();
    if (!shown && predicted && !edited.rules.empty()) {
        const RecipeSize& size = m_workbench.size();
        const QualityReport* measured = m_workbench.quality();
        const bool known = measured && measured->hasReference;
        points.push_back(
            {QString::fromStdString(edited.name), m_workbench.title(),
             static_cast<double>(size.bytes), known ? measured->kldMean : predicted->kld,
             known ? measured->kldError : predicted->error, 0, size.bitsPerWeight, true, !known});
    }
    return points;
}

QString LevelsPanel::footnote() const {
    const auto& ladder = m_workbench.ladder();
    if (ladder.empty())
        return tr("KLD: how far the next-token probabilities move from the base model's.");
    int64_t tokens = 0;
    for (const LadderRow& r : ladder)
        if (r.measured)
            tokens = std::max(tokens, r.quality.tokens);
    if (tokens > 0)
        return tr("measured on %1 tokens of the shipped text; bars: ± one standard error, of "
                  "predictions where 95 of 100 measurements lie; line: levels that no smaller one "
                  "beats")
            .arg(units::count(tokens));
    if (m_workbench.canPredict())
        return tr("predicted from what each tensor costs; bars: where 95 of 100 measurements lie. "
                  "Press Measure for certainty.");
    return tr("Sizes are exact. Press Measure for loss and speed on this device, or Predict for an "
              "estimate of every level and recipe.");
}

} // namespace nibble
