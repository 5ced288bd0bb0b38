#include "app/gui/workbench.h"

#include "core/calibrate/calibrate.h"
#include "core/evaluate/measured.h"
#include "core/evaluate/mixed.h"
#include "core/quant/export_fits.h"
#include "core/quant/folder_groups.h"

#include <QFileInfo>

#include <fmt/format.h>

#include <algorithm>

/// The part of the document that asks for measurements and keeps what they found.
namespace nibble {

void Workbench::predictLedger() {
    const auto on = device();
    if (!m_model || !on || !m_model->unsupported.empty())
        return;
    m_jobs.onPool<Ledger>(
        QStringLiteral("predict"), {}, this,
        [model = m_model, recipe = m_recipe, options = m_options, info = *on](const Progress&) {
            return Engine::predictedMemory(*model, recipe, options, info);
        },
        [this, measurements = m_measurements, hash = recipeHash()](Ledger ledger) {
            if (measurements != m_measurements || hash != recipeHash())
                return;
            m_predicted = ledger;
            emit ledgerChanged();
        });
}

void Workbench::sizeLevels() {
    const auto on = device().value_or(DeviceInfo{});
    struct Sized {
        std::vector<LadderRow> rows;
        std::map<std::string, std::string> levelsThatFit;
    };
    m_jobs.onPool<Sized>(
        QStringLiteral("size"), {}, this,
        [model = m_model, options = m_options, on, mixed = mixedRecipe()](const Progress& p) {
            Sized sized;
            std::vector<LadderRow>& rows = sized.rows;
            const auto add = [&](const char* name, const std::function<Recipe()>& make) {
                p.check();
                LadderRow& row = rows.emplace_back();
                row.level = name;
                try {
                    row.recipe = make();
                    row.size = recipeSize(*model, row.recipe);
                    const Ledger ledger = Engine::predictedMemory(*model, row.recipe, options, on);
                    row.memory = ledger.use;
                    row.fits = ledger.fits();
                } catch (const Error& error) {
                    row.problem = error.what();
                }
            };
            for (const Level& level : levels())
                add(level.name, [&] { return level.make(*model); });
            if (mixed)
                add(kMixedLevel, [&] { return *mixed; });
            for (const std::string_view container : exportContainers()) {
                p.check();
                if (model->unsupported.empty())
                    sized.levelsThatFit.emplace(container, levelsThatFit(*model, container));
            }
            return sized;
        },
        [this, measurements = m_measurements](Sized sized) {
            if (measurements != m_measurements)
                return;
            m_levelsThatFit = std::move(sized.levelsThatFit);
            for (LadderRow& row : sized.rows) {
                const auto known =
                    std::find_if(m_ladder.begin(), m_ladder.end(),
                                 [&](const auto& r) { return r.level == row.level && r.measured; });
                if (known != m_ladder.end())
                    row = *known;
            }
            m_ladder = std::move(sized.rows);
            emit ladderChanged();
        });
}

void Workbench::measureLadder(int chunks, const QString& questions) {
    if (!m_model)
        return;
    LadderOptions options;
    const auto on = device();
    options.device = on ? on->id : m_options.device;
    options.context = m_options.context;
    options.calibration = m_options.calibration;
    options.evaluate.chunks = chunks;
    options.evaluate.context = std::min(512, std::max(16, m_model->config.contextLength));
    const auto post = m_jobs.poster(this);
    const auto land = [this, measurements = m_measurements](const LadderRow& row) {
        if (measurements != m_measurements)
            return;
        const auto at = std::find_if(m_ladder.begin(), m_ladder.end(),
                                     [&](const auto& r) { return r.level == row.level; });
        if (at == m_ladder.end())
            m_ladder.push_back(row);
        else
            *at = row;
        if (row.measured)
            m_quality[row.recipe.hash()] = row.quality;
        emit ladderChanged();
    };
    m_ladderJob = m_jobs.onDevice<int>(
        Priority::Measure, QStringLiteral("ladder"), tr("Measuring levels"), this,
        [model = m_model, options, questions, post, land](const Progress& p) {
            LadderOptions all = options;
            if (!questions.isEmpty())
                all.probes = readProbes(questions.toStdString());
            nibble::measureLadder(
                model, shippedEvaluationText(), all, p,
                [post, land](const LadderRow& row) { post([land, row] { land(row); }); });
            return 0;
        },
        [this, windows = options.sensitivityWindows()](int) {
            m_ladderJob = 0;
            emit ladderChanged();
            emit notice(tr("All levels are measured"));
            if (!canPredict()) // what the mixed level needed is kept, so that this is quick
                predictLosses(windows);
        },
        [this](const Failure& failure) {
            m_ladderJob = 0;
            emit ladderChanged();
            if (!failure.cancelled())
                emit problem(Concern::Tune, failure.sentence);
        });
    emit ladderChanged();
}

void Workbench::measureQuality(int chunks) {
    if (!m_model)
        return;
    EvaluateOptions options;
    options.chunks = chunks;
    options.spread = true; // as the ladder does
    options.layers = true;
    options.context = std::min(512, std::max(16, m_model->config.contextLength));
    const auto keep = [this, measurements = m_measurements,
                       hash = recipeHash()](const QualityReport& report) {
        if (measurements != m_measurements)
            return;
        m_quality[hash] = report;
        emit qualityChanged();
    };
    m_qualityJob = m_jobs.onDevice<QualityReport>(
        Priority::Measure, QStringLiteral("quality"), tr("Measuring %1").arg(title()), this,
        [engine = m_engine, recipe = m_recipe, options,
         calibration = m_options.calibration](const Progress& p) {
            return engine->measure(recipe, shippedEvaluationText(), options, calibration, p);
        },
        [this, keep](QualityReport report) {
            m_qualityJob = 0;
            keep(report);
        },
        [this](const Failure& failure) {
            m_qualityJob = 0;
            emit qualityChanged();
            if (!failure.cancelled())
                emit problem(Concern::Inspect, failure.sentence);
        });
    emit qualityChanged();
}

void Workbench::measureTensors(std::vector<TensorKey> keys) {
    if (!m_model)
        return;
    if (keys.empty())
        keys.assign(m_model->keys().begin(), m_model->keys().end());
    std::erase_if(keys, [](TensorKey key) { return !isMatrix(key.role); });
    const auto post = m_jobs.poster(this);
    const auto land = [this, measurements = m_measurements,
                       hash = recipeHash()](const TensorError& error) {
        if (measurements != m_measurements || hash != recipeHash())
            return;
        m_tensorErrors[error.key] = error;
        m_tensorErrorRecipe[error.key] = hash;
        emit tensorErrorsChanged();
    };
    m_tensorsJob = m_jobs.onPool<int>(
        QStringLiteral("tensors"), tr("Measuring tensors"), this,
        [model = m_model, recipe = m_recipe, calibration = m_options.calibration, keys, post,
         land](const Progress& p) {
            nibble::measureTensors(
                *model, recipe, keys, p,
                [&](const TensorError& error) { post([land, error] { land(error); }); },
                calibrationFor(model, recipe, p, calibration));
            return 0;
        },
        [this](int) {
            m_tensorsJob = 0;
            emit tensorErrorsChanged();
        },
        [this](const Failure& failure) {
            m_tensorsJob = 0;
            emit tensorErrorsChanged();
            if (!failure.cancelled())
                emit problem(Concern::Inspect, failure.sentence);
        });
    emit tensorErrorsChanged();
}

void Workbench::requestTensorDetail(TensorKey key, bool inputs) {
    if (!m_model || !m_model->find(key))
        return;
    m_jobs.onPool<TensorDetail>(
        QStringLiteral("detail"), inputs ? tr("Looking at inputs") : QString(), this,
        [model = m_model, recipe = m_recipe, calibration = m_options.calibration, key,
         inputs](const Progress& p) {
            return tensorDetail(*model, recipe, key, p,
                                inputs ? sharedCalibration(model, p, calibration)
                                       : calibrationFor(model, recipe, p, calibration));
        },
        [this, measurements = m_measurements](TensorDetail detail) {
            if (measurements != m_measurements || detail.recipeHash != recipeHash())
                return;
            if (detail.quantized) {
                m_tensorErrors[detail.key] = detail.error;
                m_tensorErrorRecipe[detail.key] = detail.recipeHash;
                emit tensorErrorsChanged();
            }
            emit tensorDetailReady(detail);
        },
        [this](const Failure& failure) {
            if (!failure.cancelled())
                emit problem(Concern::Inspect, failure.sentence);
        });
}

void Workbench::requestStoredDetail(size_t index) {
    if (!m_model || index >= m_model->checkpoint->tensors.size())
        return;
    m_jobs.onPool<TensorDetail>(
        QStringLiteral("detail"), {}, this,
        [model = m_model, index](const Progress& p) {
            return storedDetail(model->checkpoint->tensors[index], p);
        },
        [this, measurements = m_measurements](TensorDetail detail) {
            if (measurements == m_measurements)
                emit tensorDetailReady(detail);
        },
        [this](const Failure& failure) {
            if (!failure.cancelled())
                emit problem(Concern::Inspect, failure.sentence);
        });
}

namespace {

bool isFile(std::string_view container) {
    return container == "gguf";
}

/// As this kind of file can hold it: folders keep embedding and head in f16.
Recipe fitted(const Model& model, const Recipe& recipe, std::string_view container) {
    return isFile(container)
               ? recipe
               : withOneGroup(model, folderRecipe(recipe), getExportTarget(container)).recipe;
}

} // namespace

QString Workbench::whyNotExported(const char* container) const {
    if (!m_model)
        return tr("Open a model first.");
    try {
        checkFits(*m_model, fitted(*m_model, m_recipe, container), container);
    } catch (const Error& error) {
        const auto levels = m_levelsThatFit.find(container);
        return levels == m_levelsThatFit.end()
                   ? QString::fromUtf8(error.what())
                   : QString::fromStdString(fmt::format("{} {}", error.what(), levels->second));
    }
    return {};
}

void Workbench::exportVariant(const QString& path, const char* container) {
    if (!m_model)
        return;
    m_jobs.onPool<int>(
        QStringLiteral("export"), tr("Exporting %1").arg(QFileInfo(path).fileName()), this,
        [model = m_model, edited = m_recipe, calibration = m_options.calibration,
         file = path.toStdString(), container](const Progress& p) {
            const Recipe recipe = fitted(*model, edited, container);
            requireFits(*model, recipe, container); // before anything is calibrated
            const auto used = calibrationFor(model, recipe, p, calibration);
            const ExportNotes notes = keptNotes(*model, recipe, used.get());
            if (isFile(container))
                exportGguf(*model, recipe, file, p, used, notes);
            else
                exportFolder(*model, recipe, container, file, p, used, notes);
            return 0;
        },
        [this, path](int) {
            emit exported(path);
            emit notice(tr("Exported to %1").arg(path));
        },
        [this](const Failure& failure) {
            if (!failure.cancelled())
                emit problem(Concern::Tune, failure.sentence);
        });
}

} // namespace nibble
