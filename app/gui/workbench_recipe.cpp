#include "app/gui/recipe_step.h"
#include "app/gui/workbench.h"

#include "core/model/names.h"
#include "core/quant/quantizer.h"

#include <QSettings>

#include <algorithm>

/// The part of the document that edits the recipe: levels, single tensors, locks, the baseline.
namespace nibble {

void Workbench::setLevel(const QString& levelName) {
    if (!m_model)
        return;
    try {
        if (levelName == QLatin1String(kMixedLevel) && !m_mixed) {
            predictLosses();
            emit notice(tr("Mixed can be chosen when it is known what each tensor costs"));
            return;
        }
        Recipe recipe = levelName.isEmpty() ? Recipe{}
                        : levelName == QLatin1String(kMixedLevel)
                            ? *m_mixed
                            : levelRecipe(levelName.toStdString(), *m_model);
        recipe.kFormat = m_recipe.kFormat;
        recipe.vFormat = m_recipe.vFormat;
        for (const TensorKey key : m_locked)
            if (const auto now = choice(key))
                recipe.set(key, ruleFor(key, QString::fromUtf8(now->format->name), {}));
        setRecipe(recipe, tr("level %1").arg(recipeTitle(recipe)));
    } catch (const Error& error) {
        emit problem(Concern::Tune, QString::fromStdString(error.what()));
    }
}

/// Format empty = the base's own, multiplied with float activations.
RecipeRule Workbench::ruleFor(TensorKey key, const QString& format, const QString& method) const {
    RecipeRule rule;
    rule.match = tensorName(key);
    rule.method = method.toStdString();
    if (method.isEmpty()) { // as it is made now, where that can make the format, too
        const TensorChoice now = m_recipe.choose(*m_model, key);
        const Format* wanted = findFormat(format.toStdString());
        const bool goesOn =
            now.method && !now.method->inputScales && wanted && !now.method->refuses(*wanted);
        rule.method = goesOn ? now.method->name : "rtn";
    }
    rule.activations = std::string(name(m_recipe.choose(*m_model, key).activations));
    rule.format = format.toStdString();
    if (format.isEmpty()) {
        const Format* own = m_model->get(key).format();
        rule.format = own ? own->name : "f16";
        rule.activations = "float";
    }
    return rule;
}

void Workbench::setTensorFormat(TensorKey key, const QString& format, const QString& method) {
    setTensorFormats({key}, format, method);
}

void Workbench::setTensorFormats(const std::vector<TensorKey>& keys, const QString& format,
                                 const QString& method) {
    if (!m_model)
        return;
    try {
        Recipe recipe = m_recipe;
        int changed = 0;
        for (const TensorKey key : keys) {
            if (isLocked(key))
                continue;
            recipe.set(key, ruleFor(key, format, method));
            ++changed;
        }
        if (changed < int(keys.size()))
            emit notice(tr("Locked tensors stay as they are"));
        if (changed == 0)
            return;
        const QString what = changed == 1 ? QString::fromStdString(tensorName(keys.front()))
                                          : tr("%n tensors", nullptr, changed);
        // Where the edited recipe is what runs, one tensor's change is heard at once.
        const bool live = isRunning() && !hasPendingChange();
        if (recipe != m_recipe)
            m_undo.push(new RecipeStep(*this, m_recipe, recipe,
                                       format.isEmpty() ? tr("%1 to the base").arg(what)
                                                        : tr("%1 to %2").arg(what, format),
                                       0, live));
    } catch (const Error& error) {
        emit problem(Concern::Inspect, QString::fromStdString(error.what()));
    }
}

void Workbench::setLocked(const std::vector<TensorKey>& keys, bool locked) {
    for (const TensorKey key : keys) {
        if (locked)
            m_locked.insert(key);
        else
            m_locked.erase(key);
    }
    emit locksChanged();
}

void Workbench::setBaseline(const Recipe& recipe) {
    m_baseline = recipe;
    m_baselineTitle = recipeTitle(recipe);
    emit baselineChanged();
    emit notice(tr("Numbers are shown beside those of %1").arg(m_baselineTitle));
}

void Workbench::setCalibration(const QString& path) {
    if (!m_model || path == calibration())
        return;
    m_jobs.onPool<CalibrationChoice>(
        QStringLiteral("calibration"), {}, this,
        [model = m_model, file = path.toStdString()](const Progress&) {
            return file.empty() ? CalibrationChoice{} : lookAtCalibration(model, file);
        },
        [this, path, generation = m_generation](const CalibrationChoice& choice) {
            if (generation == m_generation)
                useCalibration(path, choice);
        },
        [this](const Failure& failure) {
            emit calibrationChanged();
            if (!failure.cancelled())
                emit problem(Concern::Tune, failure.sentence);
        });
}

bool Workbench::isCalibrated(const Recipe& recipe) const {
    return m_model && neededCalibration(*m_model, recipe) != Needs::Nothing;
}

/// What was measured with another one is no longer true; what needs none still is.
void Workbench::useCalibration(const QString& path, const CalibrationChoice& choice) {
    m_options.calibration = path.toStdString();
    m_calibration = choice;
    QSettings().setValue(QStringLiteral("calibration"), path);
    forgetLosses();
    std::erase_if(m_ladder, [this](const LadderRow& row) {
        return row.level == kMixedLevel || isCalibrated(row.recipe);
    });
    for (const LadderRow& row : m_ladder)
        if (row.measured)
            m_quality[row.recipe.hash()] = row.quality;
    sizeLevels();
    emit optionsChanged();
    emit ladderChanged();
    emit qualityChanged();
    emit tensorErrorsChanged();
    emit predictionsChanged();
    emit calibrationChanged();
}

} // namespace nibble
