#include "app/gui/workbench.h"

#include "app/gui/recipe_step.h"

#include "core/model/names.h"

#include <QFileInfo>
#include <QSettings>

#include <algorithm>

namespace nibble {

Workbench::Workbench(QObject* parent) : QObject(parent), m_engine(std::make_shared<Engine>()) {
    const QSettings settings;
    m_options.device =
        settings.value(QStringLiteral("device"), QStringLiteral("auto")).toString().toStdString();
    m_options.context =
        std::clamp(settings.value(QStringLiteral("context"), 2048).toInt(), 64, 1 << 20);
    m_options.quickBase = true;
    m_runningOptions = m_options;
    replaceRecipe({});
    setRunningRecipe({});
    m_baselineTitle = recipeTitle(m_baseline);
    connect(&m_undo, &QUndoStack::indexChanged, this, &Workbench::recipeChanged);
    connect(this, &Workbench::recipeChanged, this, &Workbench::predictLedger);
    connect(this, &Workbench::recipeChanged, this, &Workbench::predictRecipe);
    connect(this, &Workbench::recipeChanged, this, &Workbench::tensorErrorsChanged);
    connect(this, &Workbench::optionsChanged, this, &Workbench::predictLedger);
    connect(this, &Workbench::optionsChanged, this, &Workbench::findBudgetRanges);
}

Workbench::~Workbench() {
    // Clearing the stack would tell panels of a document that is half gone.
    disconnect(&m_undo, nullptr, this, nullptr);
}

QString Workbench::modelName() const {
    if (!m_model)
        return {};
    const QString name = QString::fromStdString(m_model->name);
    return name.isEmpty() ? QFileInfo(m_path).completeBaseName() : name;
}

bool Workbench::hasPendingChange() const {
    if (!m_running)
        return false;
    EngineOptions running = m_runningOptions;
    if (running.calibration != m_options.calibration && !m_edited.calibrated)
        running.calibration = m_options.calibration;
    return m_recipe.rules != m_runningRecipe.rules || m_recipe.kFormat != m_runningRecipe.kFormat ||
           m_recipe.vFormat != m_runningRecipe.vFormat || m_options != running;
}

std::optional<TensorChoice> Workbench::choice(TensorKey key) const {
    const auto at = m_edited.choices.find(key);
    return at == m_edited.choices.end() ? std::nullopt : std::optional(at->second);
}

QString Workbench::glyph(TensorKey key) const {
    const auto c = choice(key);
    if (!c)
        return {};
    return QString::fromStdString(formatGlyph(*c->format, c->method ? c->method->name : ""));
}

QString Workbench::recipeTitle(const Recipe& recipe) const {
    if (recipe.name.empty() && recipe.rules.empty())
        return tr("Base");
    for (const Level& level : levels()) {
        if (recipe.name != level.name)
            continue;
        const QString title = QString::fromUtf8(level.title);
        const size_t own = m_model ? level.make(*m_model).rules.size() : recipe.rules.size();
        if (recipe.rules.size() <= own)
            return title;
        return tr("%1, %n changed", nullptr, int(recipe.rules.size() - own)).arg(title);
    }
    if (recipe.name == kMixedLevel)
        return m_model ? tr("Mixed %1").arg(recipeSize(*m_model, recipe).bitsPerWeight, 0, 'f', 2)
                       : tr("Mixed");
    return recipe.name.empty() ? tr("Own recipe") : QString::fromStdString(recipe.name);
}

std::optional<DeviceInfo> Workbench::device() const {
    const std::string wanted =
        m_deviceInUse.isEmpty() ? m_options.device : m_deviceInUse.toStdString();
    for (const DeviceInfo& info : m_devices)
        if (info.id == wanted)
            return info;
    // "auto" is a real GPU, else the CPU; "vulkan" the first Vulkan device.
    for (const DeviceInfo& info : m_devices)
        if (wanted == "vulkan" ? info.kind != "cpu"
                               : info.kind == "discrete" || info.kind == "integrated")
            return info;
    for (const DeviceInfo& info : m_devices)
        if (info.kind == "cpu")
            return info;
    return std::nullopt;
}

const DoctorReport* Workbench::doctor(const QString& deviceId) const {
    const auto at = m_doctor.find(deviceId);
    return at == m_doctor.end() ? nullptr : &at->second;
}

const DeviceKernels* Workbench::kernels(const QString& deviceId) const {
    const auto at = m_kernels.find(deviceId);
    return at == m_kernels.end() ? nullptr : &at->second;
}

const TensorError* Workbench::tensorError(TensorKey key) const {
    const auto at = m_tensorErrors.find(key);
    const auto made = m_tensorErrorRecipe.find(key);
    if (at == m_tensorErrors.end() || made == m_tensorErrorRecipe.end() ||
        made->second != recipeHash())
        return nullptr;
    return &at->second;
}

std::vector<LayerError> Workbench::layerErrors() const {
    const QualityReport* report = quality();
    return report ? report->layers : std::vector<LayerError>{};
}

const QualityReport* Workbench::quality(uint64_t recipeHash) const {
    const auto at = m_quality.find(recipeHash);
    return at == m_quality.end() ? nullptr : &at->second;
}

const LadderRow* Workbench::ladderRow(const Recipe& recipe) const {
    for (const LadderRow& row : m_ladder)
        if (row.level == recipe.name && row.recipe.rules == recipe.rules)
            return &row;
    return nullptr;
}

void Workbench::replaceRecipe(const Recipe& recipe) {
    m_recipe = recipe;
    m_edited = {};
    m_edited.hash = recipe.hash();
    m_edited.rules = rulesHash(recipe);
    m_edited.title = recipeTitle(recipe);
    if (!m_model)
        return;
    try {
        for (const TensorKey key : m_model->keys()) {
            TensorChoice choice = recipe.choose(*m_model, key);
            if (!choice.format)
                choice.format = m_model->get(key).format();
            if (!choice.format)
                choice.format = &getFormat("f16");
            m_edited.choices[key] = choice;
            if (key.expert == 0) // stands for all experts in the strip
                m_edited.choices[{key.role, key.layer}] = choice;
        }
        m_edited.size = recipeSize(*m_model, recipe);
        m_edited.calibrated = isCalibrated(recipe);
    } catch (const Error& error) { // a rule that names what is not known
        emit problem(Concern::Tune, QString::fromStdString(error.what()));
    }
}

void Workbench::setRunningRecipe(const Recipe& recipe) {
    if (recipe != m_runningRecipe || m_runningTitle.isEmpty())
        m_runningTitle = recipeTitle(recipe);
    m_runningRecipe = recipe;
}

void Workbench::setRecipe(const Recipe& recipe, const QString& stepName) {
    if (recipe == m_recipe)
        return;
    m_undo.push(new RecipeStep(*this, m_recipe, recipe,
                               stepName.isEmpty() ? tr("change recipe") : stepName));
}

void Workbench::setKv(KvFormat k, KvFormat v) {
    Recipe recipe = m_recipe;
    recipe.kFormat = k;
    recipe.vFormat = v;
    setRecipe(recipe, tr("KV cache format"));
    findBudgetRanges();
    keepMemoryBudget();
}

void Workbench::setOutlierThreshold(double threshold) {
    Recipe recipe = m_recipe;
    recipe.outlierThreshold = static_cast<float>(threshold);
    setRecipe(recipe, tr("outliers from %1").arg(threshold, 0, 'g', 3));
}

void Workbench::setContext(int tokens) {
    if (tokens < 16 || tokens == m_options.context)
        return;
    m_options.context = tokens;
    QSettings().setValue(QStringLiteral("context"), tokens);
    emit optionsChanged();
    keepMemoryBudget();
}

void Workbench::setActivations(const QString& format) {
    try {
        m_options.activations =
            format.isEmpty() ? std::nullopt : std::optional(activationFormat(format.toStdString()));
        emit optionsChanged();
    } catch (const Error& error) {
        emit problem(Concern::Tune, QString::fromStdString(error.what()));
    }
}

void Workbench::setSelection(TensorKey key) {
    if (m_selection == key)
        return;
    m_selection = key;
    emit selectionChanged();
}

void Workbench::clearSelection() {
    m_selection.reset();
    emit selectionChanged();
}

void Workbench::forgetMeasurements() {
    ++m_generation;
    forgetLosses();
    m_ladder.clear();
    m_levelsThatFit.clear();
    m_promptLoss.reset();
    m_lastRequest.reset();
    m_predicted.reset();
    m_used.reset();
    m_paths.clear();
    m_contextUsed = 0;
    m_tokensPerSecond = 0;
    m_selection.reset();
    m_locked.clear();
    m_baseline = Recipe{};
    m_baselineTitle = recipeTitle(m_baseline);
}

/// All that a calibration has to do with but the ladder; what is being measured is dropped.
void Workbench::forgetLosses() {
    ++m_measurements;
    for (const quint64 job : {m_ladderJob, m_tensorsJob, m_qualityJob, m_forecastJob})
        m_jobs.cancel(job);
    m_tensorErrors.clear();
    m_tensorErrorRecipe.clear();
    m_quality.clear();
    m_forecast.reset();
    m_predictions.clear();
    m_tensorLosses.clear();
    m_tensorLossRecipe = 0;
    m_layerLosses.clear();
    m_budgetRanges.clear();
    m_budget.reset();
    m_mixed.reset();
}

} // namespace nibble
