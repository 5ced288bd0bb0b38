#include "app/gui/panels/tensor_panel.h"

#include "app/gui/units.h"
#include "app/gui/workbench.h"

#include "core/model/names.h"

#include <QComboBox>
#include <QGridLayout>
#include <QScrollArea>
#include <QScrollBar>
#include <QSignalBlocker>
#include <QVBoxLayout>

#include <algorithm>

namespace nibble {
TensorPanel::TensorPanel(Workbench& workbench, QWidget* parent)
    : Panel({}, parent), m_workbench(workbench), m_name(new ElidedLabel({}, Type::Title)),
      m_format(new QComboBox), m_activations(new QComboBox), m_facts(new QGridLayout),
      m_apply(makeButton(tr("Apply"), ButtonKind::Primary)),
      m_undo(makeButton(tr("Undo"), ButtonKind::Plain, QStringLiteral("undo"))),
      m_sameForRole(makeButton(tr("Same for all"))) {
    body()->addWidget(m_name);
    m_facts->setColumnStretch(1, 1);
    m_facts->setHorizontalSpacing(space::m());
    m_facts->setVerticalSpacing(space::s());
    m_format->setAccessibleName(tr("Format of the tensor"));
    m_facts->addWidget(new Label(tr("Format"), Type::Body, Ink::SecondaryText), 0, 0);
    m_facts->addWidget(m_format, 0, 1);
    m_activations->setAccessibleName(tr("Activations"));
    m_facts->addWidget(new Label(tr("Activations"), Type::Body, Ink::SecondaryText), 1, 0);
    m_facts->addWidget(m_activations, 1, 1);
    m_activations->addItem(tr("as in level"), QString());
    m_activations->addItem(tr("float"), QStringLiteral("float"));
    m_activations->addItem(tr("INT8"), QStringLiteral("int8"));
    addFact(tr("Method"), m_method, tr("How the codes are chosen"));
    addFact(tr("Shape"), m_shape, tr("Rows × input channels"));
    addFact(tr("In the file"), m_stored);
    addFact(tr("Bits per weight"), m_bits);
    addFact(tr("Size"), m_size);
    addFact(tr("Error"), m_error, tr("‖weights − quantized‖ / ‖weights‖, this tensor alone"));
    addFact(tr("SQNR"), m_sqnr, tr("Signal to quantization noise; 6 dB are one bit"));
    addFact(tr("Cosine"), m_cosine, tr("Between the weights and their quantized values"));
    addFact(tr("Beyond 6 σ"), m_beyond,
            tr("Weights further from the mean than six standard deviations"));
    addFact(tr("Spread"), m_spread,
            tr("Standard deviation, and the largest weight in units of it"));
    auto* inside = new QWidget;
    auto* column = new QVBoxLayout(inside);
    column->setContentsMargins(0, 0, 0, 0);
    column->addLayout(m_facts);
    column->addStretch(1);
    auto* scroll = new QScrollArea;
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    scroll->viewport()->setAutoFillBackground(false);
    scroll->setWidget(inside);
    inside->setAutoFillBackground(false); // the panel's colour shows through
    m_scroll = scroll;
    connect(&Theme::get(), &Theme::changed, this, &TensorPanel::refresh, Qt::QueuedConnection);
    body()->addWidget(scroll, 1);
    auto* buttons = new QHBoxLayout;
    buttons->addWidget(m_apply, 1);
    buttons->addWidget(m_undo, 1);
    body()->addLayout(buttons);
    body()->addWidget(m_sameForRole);

    connect(m_format, &QComboBox::activated, this, [this] {
        if (const auto key = m_workbench.selection())
            m_workbench.setTensorFormat(*key, m_format->currentData().toString());
    });
    connect(m_activations, &QComboBox::activated, this,
            [this] { m_workbench.setActivations(m_activations->currentData().toString()); });
    connect(m_apply, &QPushButton::clicked, &m_workbench, &Workbench::apply);
    connect(m_undo, &QPushButton::clicked, m_workbench.undoStack(), &QUndoStack::undo);
    connect(m_sameForRole, &QPushButton::clicked, this, [this] {
        const auto key = m_workbench.selection();
        const auto choice = key ? m_workbench.choice(*key) : std::nullopt;
        if (!choice || !choice->format || key->layer < 0)
            return;
        RecipeRule rule;
        rule.match = tensorName(*key);
        rule.match.replace(0, rule.match.find('.', 4), "blk.*");
        rule.format = choice->format->name;
        if (choice->method)
            rule.method = choice->method->name;
        rule.activations = name(choice->activations);
        Recipe recipe = m_workbench.recipe();
        recipe.rules.push_back(rule);
        m_workbench.setRecipe(
            recipe, tr("Same format for all %1").arg(QString::fromUtf8(shortName(key->role))));
    });
    connect(&m_workbench, &Workbench::tensorDetailReady, this, [this](const TensorDetail& detail) {
        m_detail = detail;
        refresh();
    });
    for (auto signal :
         {&Workbench::modelChanged, &Workbench::selectionChanged, &Workbench::recipeChanged,
          &Workbench::runningChanged, &Workbench::optionsChanged})
        connect(&m_workbench, signal, this, &TensorPanel::refresh);
    connect(&m_workbench, &Workbench::modelChanged, this, [this] {
        m_detail.reset();
        refresh();
    });
    refresh();
}

void TensorPanel::addFact(const QString& name, Label*& value, const QString& about) {
    const int row = m_facts->rowCount();
    auto* label = new Label(name, Type::Body, Ink::SecondaryText);
    label->setToolTip(about);
    value = new Label;
    value->setTextInteractionFlags(Qt::TextSelectableByMouse);
    m_facts->addWidget(label, row, 0);
    m_facts->addWidget(value, row, 1, Qt::AlignRight);
}

void TensorPanel::refresh() {
    const auto key = m_workbench.selection();
    const auto model = m_workbench.model();
    // Of a model that is not understood there are only the stored values.
    const TensorDetail* stored =
        m_detail && model && !model->unsupported.empty() ? &*m_detail : nullptr;
    const TensorInfo* info = stored         ? model->checkpoint->find(stored->name)
                             : key && model ? model->find(*key)
                                            : nullptr;
    const auto choice = key ? m_workbench.choice(*key) : std::nullopt;
    const Format* format = choice && info && isMatrix(key->role) ? choice->format : nullptr;
    const Method* method = format ? choice->method : nullptr;
    const bool matrix = format != nullptr;
    m_name->setFullText(stored ? QString::fromStdString(printable(stored->name))
                        : key  ? QString::fromStdString(tensorName(*key))
                               : tr("No tensor selected"));
    const QSignalBlocker quiet(m_format);
    m_format->clear();
    m_format->setEnabled(matrix);
    if (matrix) {
        auto offered = choosableFormats(info->cols());
        if (std::find(offered.begin(), offered.end(), format) == offered.end())
            offered.push_back(format);
        for (const Format* one : offered)
            m_format->addItem(QString::fromUtf8(one->name), QString::fromUtf8(one->name));
        m_format->setCurrentIndex(m_format->findData(QString::fromUtf8(format->name)));
    }
    const auto& activations = m_workbench.options().activations;
    m_activations->setCurrentIndex(
        activations ? m_activations->findData(QString::fromUtf8(name(*activations).data())) : 0);

    const QString none = QStringLiteral("–");
    const bool detailed = stored || (m_detail && key && m_detail->key == *key);
    m_method->setText(matrix && !format->isFloat() && method ? QString::fromUtf8(method->title)
                                                             : none);
    m_shape->setText(
        info ? tr("%1 × %2").arg(units::count(info->rows()), units::count(info->cols())) : none);
    m_stored->setText(info && info->type ? QString::fromStdString(info->storedText()) : none);
    const double bits =
        matrix ? format->bitsPerWeight(info->cols())
        : stored && info && info->values()
            ? static_cast<double>(info->storedBytes()) * 8 / static_cast<double>(info->values())
            : 0;
    m_bits->setText(bits > 0 ? QString::number(bits, 'f', 2) : none);
    m_size->setText(bits > 0 ? units::bytes(static_cast<uint64_t>(
                                   bits * static_cast<double>(info->values()) / 8))
                             : none);
    const bool measured = detailed && m_detail->quantized;
    m_error->setText(measured ? units::number(m_detail->error.relativeError) : none);
    m_sqnr->setText(measured ? tr("%1 dB").arg(QString::number(m_detail->error.sqnr, 'f', 1))
                             : none);
    m_cosine->setText(measured ? QString::number(m_detail->error.cosine, 'f', 5) : none);
    m_beyond->setText(detailed ? units::count(m_detail->beyondSixSigma) : none);
    m_spread->setText(
        detailed && m_detail->sigma > 0
            ? tr("σ %1, max %2 σ")
                  .arg(units::number(m_detail->sigma),
                       units::number(std::max(std::abs(m_detail->minimum - m_detail->mean),
                                              std::abs(m_detail->maximum - m_detail->mean)) /
                                     m_detail->sigma))
            : none);
    m_scroll->setMinimumWidth(m_scroll->widget()->minimumSizeHint().width() +
                              m_scroll->verticalScrollBar()->sizeHint().width());
    m_apply->setEnabled(m_workbench.hasPendingChange() && !m_workbench.isApplying());
    m_undo->setEnabled(m_workbench.undoStack()->canUndo());
    m_sameForRole->setEnabled(matrix && key->layer >= 0);
    m_sameForRole->setText(matrix && key->layer >= 0
                               ? tr("Same for all %1").arg(QString::fromUtf8(shortName(key->role)))
                               : tr("Same for all"));
}

} // namespace nibble
