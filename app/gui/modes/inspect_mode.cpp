#include "app/gui/modes/mode.h"

#include "app/gui/panels/distribution_plot.h"
#include "app/gui/panels/layers_panel.h"
#include "app/gui/panels/method_loss_plot.h"
#include "app/gui/panels/tensor_panel.h"
#include "app/gui/panels/tensor_table.h"
#include "app/gui/units.h"
#include "app/gui/widgets/folding_panels.h"
#include "app/gui/widgets/parts.h"
#include "app/gui/workbench.h"

#include <QDoubleSpinBox>
#include <QHBoxLayout>
#include <QResizeEvent>
#include <QScrollArea>
#include <QSignalBlocker>
#include <QSplitter>
#include <QVBoxLayout>

namespace nibble {

namespace {

/// Where the loss comes from: the layer strip, the tensors, and one tensor's weights in detail.
class InspectMode final : public Mode {
public:
    InspectMode(Workbench& workbench, QWidget* parent);
    void showProblem(const QString& sentence) override {
        m_banner->show(Banner::Kind::Bad, sentence);
    }
    void find() override { m_table->focusFilter(); }
    void focusStart() override { m_layers->strip()->setFocus(); }
    void resetLayout() override { arrange(true); }

protected:
    void resizeEvent(QResizeEvent* event) override {
        Mode::resizeEvent(event);
        arrange(false);
    }
    void showEvent(QShowEvent* event) override {
        Mode::showEvent(event);
        ask();
    }

private:
    void ask();
    void showMethods();
    void describeLoss();
    void arrange(bool force);
    Panel* plotPanel(const QString& title, Plot* plot, Label* note);

    Workbench& m_workbench;
    Banner* m_banner;
    LayersPanel* m_layers;
    TensorTable* m_table;
    TensorPanel* m_tensor;
    DistributionPlot* m_distribution;
    OutlierPlot* m_outliers;
    LayerLossPlot* m_loss;
    MethodLossPlot* m_methods = nullptr;
    Label *m_distributionNote, *m_outlierNote, *m_lossNote;
    Panel *m_distributionPanel, *m_outlierPanel, *m_lossPanel;
    static constexpr int kByMethod = 1; ///< of m_lossOf
    Segments *m_outlierOf, *m_lossOf;
    QDoubleSpinBox* m_threshold;
    QPushButton* m_measure;
    QSplitter *m_columns, *m_plots, *m_lower;
    FoldingPanels* m_panels;
};

InspectMode::InspectMode(Workbench& workbench, QWidget* parent)
    : Mode(parent), m_workbench(workbench), m_banner(new Banner(this)),
      m_layers(new LayersPanel(workbench, this)), m_table(new TensorTable(workbench, this)),
      m_tensor(new TensorPanel(workbench, this)), m_distribution(new DistributionPlot),
      m_outliers(new OutlierPlot), m_loss(new LayerLossPlot),
      m_distributionNote(new Label({}, Type::Footnote, Ink::SecondaryText)),
      m_outlierNote(new Label({}, Type::Footnote, Ink::SecondaryText)),
      m_lossNote(new Label({}, Type::Footnote, Ink::SecondaryText)),
      m_measure(makeButton(tr("Measure"))) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(space::m());
    layout->addWidget(m_banner);
    auto* inside = new QWidget;
    auto* column = new QVBoxLayout(inside);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(space::m());
    column->addWidget(m_layers);
    m_layers->hideFoot();           // the panel of the tensor says the same
    auto* scroll = new QScrollArea; // for large type in a small window
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setWidget(inside);
    layout->addWidget(scroll, 1);

    m_distributionPanel = plotPanel(tr("Weights"), m_distribution, m_distributionNote);
    m_outlierPanel = plotPanel(tr("Outliers"), m_outliers, m_outlierNote);
    m_outlierOf = new Segments(tr("Outliers of"), this);
    m_outlierOf->setChoices({tr("Weights"), tr("Inputs")});
    m_threshold = new QDoubleSpinBox;
    m_threshold->setRange(0.1, 1000);
    m_threshold->setDecimals(1);
    m_threshold->setSingleStep(0.5);
    m_threshold->setAccessibleName(tr("Threshold of LLM.int8()"));
    m_threshold->setToolTip(tr("Inputs of this magnitude and more are kept in 16 bits by "
                               "LLM.int8(). Drag the line, or set it here"));
    m_threshold->hide();
    m_outlierPanel->header()->addWidget(m_outlierOf);
    m_outlierPanel->header()->addStretch(1);
    m_outlierPanel->header()->addWidget(m_threshold);
    connect(m_outlierOf, &Segments::chosen, this, [this](int index) {
        m_outlierOf->setCurrent(index);
        m_threshold->setVisible(index == 1);
        m_outliers->show(index == 1 ? OutlierPlot::Of::Inputs : OutlierPlot::Of::Weights);
        ask();
    });
    connect(m_threshold, &QDoubleSpinBox::valueChanged, &m_workbench,
            &Workbench::setOutlierThreshold);
    connect(m_outliers, &OutlierPlot::thresholdMoved, this, [this](double at, bool letGo) {
        const QSignalBlocker quiet(m_threshold);
        m_threshold->setValue(at);
        if (letGo)
            m_workbench.setOutlierThreshold(m_threshold->value());
    });
    m_lossPanel = plotPanel(tr("Loss"), m_loss, m_lossNote);
    m_lossOf = new Segments(tr("Loss by block"), this);
    m_lossOf->setChoices({tr("Measured"), tr("By method")});
    m_methods = new MethodLossPlot;
    m_loss->hide();
    m_lossOf->setCurrent(kByMethod); // what each block costs in the end comes first
    m_lossPanel->body()->insertWidget(m_lossPanel->body()->indexOf(m_loss), m_methods, 1);
    connect(m_lossOf, &Segments::chosen, this, [this](int index) {
        m_lossOf->setCurrent(index);
        m_loss->setVisible(index != kByMethod);
        m_methods->setVisible(index == kByMethod);
        ask();
    });
    m_lossPanel->header()->addWidget(m_lossOf);
    m_lossPanel->header()->addStretch(1);
    m_lossPanel->header()->addWidget(m_measure);

    m_columns = makeSplitter(Qt::Horizontal);
    m_plots = makeSplitter(Qt::Vertical);
    m_lower = makeSplitter(Qt::Horizontal);
    m_panels = new FoldingPanels(m_plots);
    m_panels->add(m_distributionPanel, tr("Weights"), m_plots, 0);
    m_plots->addWidget(m_lower);
    m_panels->add(m_outlierPanel, tr("Outliers"), m_lower, 0);
    m_panels->add(m_lossPanel, tr("Loss"), m_lower, 1);
    m_columns->addWidget(m_table);
    m_columns->addWidget(m_panels);
    m_columns->addWidget(m_tensor);
    m_columns->setStretchFactor(0, 4);
    m_columns->setStretchFactor(1, 6);
    m_columns->setStretchFactor(2, 2);
    column->addWidget(m_columns, 1);

    connect(m_layers, &LayersPanel::inspect, m_tensor, [this] { m_tensor->setFocus(); });
    const auto choose = [this](int layer) {
        const auto key = m_workbench.selection();
        m_workbench.setSelection({key && key->layer >= 0 ? key->role : Role::Down, layer});
    };
    connect(m_loss, &LayerLossPlot::layerClicked, this, choose);
    connect(m_methods, &MethodLossPlot::layerClicked, this, choose);
    connect(&m_workbench, &Workbench::predictionsChanged, this, &InspectMode::showMethods);
    connect(m_measure, &QPushButton::clicked, this, [this] {
        if (m_lossOf->current() == kByMethod) {
            m_workbench.predictLosses();
            return;
        }
        m_workbench.measureTensors();
        m_workbench.measureQuality();
    });
    connect(&m_workbench, &Workbench::selectionChanged, this, &InspectMode::ask);
    connect(&m_workbench, &Workbench::recipeChanged, this, &InspectMode::ask);
    connect(&m_workbench, &Workbench::modelChanged, this, [this] {
        m_distribution->clear();
        m_outliers->clear();
        m_distributionNote->setText({});
        m_outlierNote->setText({});
        ask();
    });
    connect(m_table, &TensorTable::storedChosen, this, &InspectMode::ask);
    connect(&m_workbench, &Workbench::tensorDetailReady, this, [this](const TensorDetail& detail) {
        m_distribution->setDetail(detail);
        m_outliers->setDetail(detail);
        m_distributionNote->setText(
            detail.quantized
                ? tr("filled: %1 · line: %2 · thin lines: what a group of middle scale can "
                     "represent")
                      .arg(QString::fromStdString(detail.baseFormat),
                           QString::fromStdString(detail.variantFormat))
                : tr("filled: %1, not quantized").arg(QString::fromStdString(detail.baseFormat)));
        m_outlierNote->setText(
            m_outlierOf->current() == 1
                ? tr("LLM.int8() keeps inputs beyond the line in 16 bits; other methods do not "
                     "look at it")
                : tr("%1 of %2 channels reach beyond 6 σ")
                      .arg(detail.outlierColumns.size())
                      .arg(detail.columnMaxima.size()));
    });
    connect(&m_workbench, &Workbench::qualityChanged, this, &InspectMode::ask);
    m_layers->addStepKeys(this);
    connect(&Theme::get(), &Theme::changed, this, [this] { arrange(true); });
    arrange(true);
    ask();
}

Panel* InspectMode::plotPanel(const QString& title, Plot* plot, Label* note) {
    auto* panel = new Panel(title, this);
    panel->body()->addWidget(plot, 1);
    note->setWordWrap(true);
    panel->body()->addWidget(note);
    return panel;
}

/// Below 1110 px the three plots become tabs.
void InspectMode::arrange(bool force) {
    // Large type in a small window: one below the other.
    const bool stacked = width() < Theme::get().px(760);
    m_columns->setOrientation(stacked ? Qt::Vertical : Qt::Horizontal);
    m_columns->setMinimumHeight(Theme::get().px(stacked ? 1000 : 320));
    const bool narrow = width() < Theme::get().px(1110);
    if (narrow == m_panels->isFolded() && !force)
        return;
    m_panels->fold(narrow);
    const int unit = Theme::get().px(100);
    m_plots->setSizes({3 * unit, 2 * unit + unit / 2});
    if (stacked)
        m_columns->setSizes({unit, unit, unit});
    else
        m_columns->setSizes(narrow
                                ? QList<int>{280, 380, 300}
                                : QList<int>{4 * unit + unit / 2, 5 * unit + unit / 2, 3 * unit});
}

void InspectMode::showMethods() {
    std::map<QString, std::vector<double>> losses;
    for (const auto& [level, values] : m_workbench.layerLosses())
        losses[QString::fromStdString(ladderTitle(level))] = values;
    m_methods->setLosses(std::move(losses));
    const auto key = m_workbench.selection();
    m_methods->setSelected(key ? key->layer : -1);
    describeLoss();
}

void InspectMode::ask() {
    const auto model = m_workbench.model();
    if (model && !m_workbench.selection()) {
        for (const TensorKey key : model->keys())
            if (key.role == Role::Down) {
                m_workbench.setSelection(key); // asks again by selectionChanged
                return;
            }
    }
    if (model && !model->unsupported.empty() && isVisible())
        m_workbench.requestStoredDetail(m_table->currentStored());
    const auto key = m_workbench.selection();
    if (model && key && isVisible())
        m_workbench.requestTensorDetail(*key, m_outlierOf->current() == 1);
    {
        const QSignalBlocker quiet(m_threshold);
        m_threshold->setValue(static_cast<double>(m_workbench.recipe().outlierThreshold));
    }
    const auto layers = m_workbench.layerErrors();
    m_loss->setLayers(layers);
    m_loss->setSelected(key ? key->layer : -1);
    m_methods->setSelected(key ? key->layer : -1);
    describeLoss();
}

/// The note below the loss, and whether there is something to measure.
void InspectMode::describeLoss() {
    const auto layers = m_workbench.layerErrors();
    const auto model = m_workbench.model();
    const QualityReport* quality = m_workbench.quality();
    m_lossNote->setText(
        m_lossOf->current() == kByMethod
            ? m_workbench.layerLosses().empty()
                  ? tr("what each block costs by method, once each tensor's cost has "
                       "been measured")
                  : tr("KLD, predicted from what each tensor costs; levels of some "
                       "4.6 bits")
        : layers.empty() || !quality
            ? tr("error of the running text after each block, against the base")
            : tr("error after each block against the base, on %1 tokens")
                  .arg(units::count(quality->tokens)));
    m_measure->setEnabled(model && model->unsupported.empty() &&
                          (m_lossOf->current() != kByMethod ||
                           (!m_workbench.canPredict() && !m_workbench.isPredicting())));
}

} // namespace

Mode* makeInspectMode(Workbench& workbench, QWidget* parent) {
    return new InspectMode(workbench, parent);
}

} // namespace nibble
