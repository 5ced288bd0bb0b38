#include "app/gui/panels/budget_row.h"

#include "app/gui/panels/calibration_chooser.h"
#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include <QComboBox>
#include <QDoubleSpinBox>
#include <QSignalBlocker>
#include <QSlider>
#include <QVBoxLayout>

#include <algorithm>
#include <array>
#include <cmath>

namespace nibble {

namespace {

constexpr int kSteps = 1000;
constexpr double kGigabytesFrom = 2e9;

struct Kind {
    Budget::Of of;
    const char *title, *about;
};
constexpr std::array<Kind, 4> kKinds{{
    {Budget::Of::Bits, QT_TRANSLATE_NOOP("BudgetRow", "Bits per weight"),
     QT_TRANSLATE_NOOP("BudgetRow",
                       "The bits that one weight may take on average, scales included")},
    {Budget::Of::Bytes, QT_TRANSLATE_NOOP("BudgetRow", "File size"),
     QT_TRANSLATE_NOOP("BudgetRow", "The size that the weights may have in a file")},
    {Budget::Of::Memory, QT_TRANSLATE_NOOP("BudgetRow", "Memory"),
     QT_TRANSLATE_NOOP("BudgetRow",
                       "What the variant may take of the device: weights, cache and scratch, with "
                       "the context and the KV cache that are set under Memory. When those change, "
                       "the recipe follows")},
    {Budget::Of::Loss, QT_TRANSLATE_NOOP("BudgetRow", "Loss (KLD)"),
     QT_TRANSLATE_NOOP("BudgetRow",
                       "The KLD that the recipe may be predicted to have: the smallest recipe that "
                       "keeps to it is found")},
}};

} // namespace

Budget::Of BudgetRow::of() const {
    return kKinds[static_cast<size_t>(m_of->currentIndex())].of;
}

BudgetRow::BudgetRow(Workbench& workbench, QWidget* parent)
    : QWidget(parent), m_workbench(workbench), m_of(new QComboBox), m_value(new QDoubleSpinBox),
      m_slider(new QSlider(Qt::Horizontal)),
      m_facts(new ElidedLabel({}, Type::Secondary, Ink::SecondaryText)) {
    auto* rows = new QVBoxLayout(this);
    rows->setContentsMargins(0, 0, 0, 0);
    rows->setSpacing(space::s());
    auto* line = new QHBoxLayout;
    line->setSpacing(space::m());
    line->addWidget(new Label(tr("Budget"), Type::Body, Ink::SecondaryText));
    m_of->setObjectName(QStringLiteral("budget-of"));
    m_of->setAccessibleName(tr("What the budget is for"));
    for (const Kind& kind : kKinds) {
        m_of->addItem(tr(kind.title));
        m_of->setItemData(m_of->count() - 1, tr(kind.about), Qt::ToolTipRole);
    }
    line->addWidget(m_of);
    m_value->setObjectName(QStringLiteral("budget-value"));
    m_value->setLocale(QLocale::English); // as all numbers are written here
    m_value->setSingleStep(0.1);
    m_value->setKeyboardTracking(false);
    m_value->setAlignment(Qt::AlignRight);
    line->addWidget(m_value);
    m_slider->setObjectName(QStringLiteral("budget"));
    m_slider->setRange(0, kSteps);
    m_slider->setPageStep(kSteps / 20);
    m_slider->setSingleStep(kSteps / 200);
    line->addWidget(m_slider, 1);
    rows->addLayout(line);
    auto* below = new QHBoxLayout;
    below->setSpacing(space::l());
    below->addWidget(m_facts, 1);
    below->addWidget(new CalibrationChooser(workbench));
    rows->addLayout(below);
    setToolTip(tr("For each budget the recipe that is predicted to lose least is found: more bits "
                  "where they matter"));

    connect(m_of, &QComboBox::currentIndexChanged, this, &BudgetRow::refresh);
    connect(m_value, &QDoubleSpinBox::valueChanged, this, [this](double value) {
        m_workbench.setBudget({of(), value * unit()});
        m_workbench.endBudget();
    });
    connect(m_slider, &QSlider::valueChanged, this, [this](int step) {
        m_workbench.setBudget({of(), valueAt(step)});
    });
    connect(m_slider, &QSlider::sliderReleased, this, [this] { m_workbench.endBudget(); });
    refresh();
}

/// What the number beside the slider counts.
double BudgetRow::unit() const {
    switch (of()) {
    case Budget::Of::Bits:
        return 1;
    case Budget::Of::Loss:
        return 1e-3;
    case Budget::Of::Bytes:
    case Budget::Of::Memory:
        break;
    }
    return m_workbench.budgetRange(of()).second < kGigabytesFrom ? 1e6 : 1e9;
}

double BudgetRow::valueAt(int step) const {
    const auto [least, most] = m_workbench.budgetRange(of());
    const double part = static_cast<double>(step) / kSteps;
    return of() == Budget::Of::Loss ? least * std::pow(most / least, part)
                                    : std::lerp(least, most, part);
}

int BudgetRow::stepOf(double value) const {
    const auto [least, most] = m_workbench.budgetRange(of());
    const double part = of() != Budget::Of::Loss ? (value - least) / (most - least)
                        : value > 0              ? std::log(value / least) / std::log(most / least)
                                                 : 1;
    return static_cast<int>(std::lround(std::clamp(part, 0.0, 1.0) * kSteps));
}

/// The budget that the edited recipe was found for, else what it takes.
std::optional<double> BudgetRow::shownValue() const {
    if (const auto held = m_workbench.heldBudget(); held && held->of == of())
        return held->value;
    switch (of()) {
    case Budget::Of::Bits:
        return m_workbench.size().bitsPerWeight;
    case Budget::Of::Bytes:
        return static_cast<double>(m_workbench.size().bytes);
    case Budget::Of::Memory:
        if (const auto& ledger = m_workbench.predictedLedger())
            return static_cast<double>(ledger->use.total());
        break;
    case Budget::Of::Loss:
        if (const auto predicted = m_workbench.prediction())
            return predicted->kld;
        break;
    }
    return {};
}

/// Only where they are others now: else what is being typed would go.
void BudgetRow::refreshUnits() {
    const auto range = m_workbench.budgetRange(of());
    if (range == m_range)
        return;
    m_range = range;
    const auto [least, most] = std::minmax(range.first, range.second);
    const bool isLoss = of() == Budget::Of::Loss;
    m_value->setDecimals(isLoss ? 3 : 2);
    m_value->setRange(least / unit(), most / unit());
    m_value->setStepType(isLoss ? QAbstractSpinBox::AdaptiveDecimalStepType
                                : QAbstractSpinBox::DefaultStepType);
    m_value->setSuffix(isLoss                     ? tr(" ×10⁻³")
                       : of() == Budget::Of::Bits ? tr(" bits")
                       : unit() == 1e9            ? tr(" GB")
                                                  : tr(" MB"));
    const QString about = tr(kKinds[static_cast<size_t>(m_of->currentIndex())].about);
    m_of->setToolTip(about);
    m_value->setToolTip(about);
    m_slider->setToolTip(about);
}

void BudgetRow::refresh() {
    const auto [least, most] = m_workbench.budgetRange(of());
    const bool ready = m_workbench.canPredict() && least != most;
    for (QWidget* part : std::initializer_list<QWidget*>{m_of, m_value, m_slider})
        part->setEnabled(ready);
    m_value->setVisible(ready);
    refreshFacts();
    m_value->setAccessibleName(tr("Budget, %1").arg(m_of->currentText()));
    m_slider->setAccessibleName(m_value->accessibleName());
    if (!ready)
        return;
    const QSignalBlocker quietValue(m_value), quietSlider(m_slider);
    refreshUnits();
    const auto value = shownValue();
    if (value && !m_slider->isSliderDown())
        m_slider->setValue(stepOf(*value));
    if (value &&
        m_value->textFromValue(*value / unit()) != m_value->textFromValue(m_value->value()))
        m_value->setValue(*value / unit());
    m_slider->setAccessibleName(tr("Budget, %1, %2").arg(m_of->currentText(), m_value->text()));
}

void BudgetRow::refreshFacts() {
    if (!m_workbench.model() || !m_workbench.canPredict()) {
        m_facts->setFullText(!m_workbench.model() ? QString()
                             : m_workbench.isPredicting()
                                 ? tr("finding what each tensor costs…")
                                 : tr("Press Predict: then the best recipe for any budget "
                                      "is found at once."),
                             Qt::ElideRight);
        return;
    }
    const RecipeSize& size = m_workbench.size();
    QStringList facts{tr("%1 bits per weight").arg(QString::number(size.bitsPerWeight, 'f', 2)),
                      tr("%1 in a file").arg(units::bytes(size.bytes))};
    if (const auto& ledger = m_workbench.predictedLedger())
        facts << tr("%1 of memory with %2 tokens")
                     .arg(units::bytes(ledger->use.total()),
                          units::count(m_workbench.options().context));
    if (const auto predicted = m_workbench.prediction())
        facts << tr("KLD ×10⁻³ ≈ %1")
                     .arg(predicted->kld > 0
                              ? units::withError(predicted->kld * 1e3, predicted->error * 1e3)
                              : QStringLiteral("0"));
    m_facts->setFullText(facts.join(QStringLiteral(" · ")), Qt::ElideRight);
}

} // namespace nibble
