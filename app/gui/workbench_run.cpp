#include "app/gui/workbench.h"

#include "core/quant/apply.h"
#include "core/runtime/probe.h"

#include <QDir>
#include <QFileInfo>
#include <QSettings>

#include <algorithm>

/// The part of the document that drives the engine: opening, applying, answering.
namespace nibble {

struct Workbench::Snapshot {
    bool open = false;
    Recipe recipe;
    EngineOptions options;
    DeviceInfo device;
    LoadPlan plan;
    Ledger used;
    std::vector<PathReport> paths;
    int contextUsed = 0;
};

Workbench::Snapshot Workbench::snapshot(const Engine& engine) {
    Snapshot s;
    s.open = engine.isOpen();
    if (!s.open)
        return s;
    s.recipe = engine.recipe();
    s.options = engine.options();
    s.device = engine.device();
    s.plan = engine.plan();
    for (PlanPart& part : s.plan.parts)
        part.readBandwidth = foundBandwidth(part.device).value_or(0);
    s.used = engine.usedMemory();
    s.paths = engine.paths();
    s.contextUsed = engine.contextUsed();
    return s;
}

void Workbench::take(const Snapshot& s) {
    m_running = s.open;
    setRunningRecipe(s.recipe);
    m_runningOptions = s.options;
    m_deviceInUse = QString::fromStdString(s.device.id);
    m_used = s.open ? std::optional(s.used) : std::nullopt;
    m_plan = s.open ? std::optional(s.plan) : std::nullopt;
    m_paths = s.paths;
    m_contextUsed = s.contextUsed;
    emit runningChanged();
    emit ledgerChanged();
}

void Workbench::openModel(const QString& path) {
    m_opening = true;
    emit openingChanged();
    m_jobs.onPool<std::shared_ptr<const Model>>(
        QStringLiteral("open"), tr("Opening %1").arg(QFileInfo(path).fileName()), this,
        [file = path.toStdString()](const Progress&) { return openForInspection(file); },
        [this, path](std::shared_ptr<const Model> model) { adopt(std::move(model), path); },
        [this](const Failure& failure) {
            m_opening = false;
            emit openingChanged();
            if (!failure.cancelled())
                emit problem(Concern::Models, failure.sentence);
        });
}

void Workbench::adopt(std::shared_ptr<const Model> model, const QString& path) {
    stopAnswer();
    forgetMeasurements();
    m_model = std::move(model);
    m_path = QFileInfo(path).absoluteFilePath();
    m_opening = m_running = false;
    m_plan.reset();
    m_diagnosis = diagnose(*m_model);
    replaceRecipe({});
    setRunningRecipe({});
    m_undo.clear();
    const int wanted = QSettings().value(QStringLiteral("context"), 2048).toInt();
    const int longest = m_model->config.contextLength;
    m_options.context = longest > 0 ? std::min(wanted, longest) : wanted;
    for (const TensorKey key : m_model->keys())
        if (isMatrix(key.role) && key.layer >= 0) {
            m_selection = key;
            break;
        }
    emit openingChanged();
    emit modelChanged();
    emit optionsChanged();
    emit runningChanged();
    emit recipeChanged();
    emit ladderChanged();
    emit qualityChanged();
    emit predictionsChanged();
    emit selectionChanged();
    if (!m_model->unsupported.empty()) {
        emit problem(Concern::Models, QString::fromStdString(m_model->unsupported));
        return;
    }
    if (const std::string note = m_model->checkpoint->conversionNote(); !note.empty())
        emit notice(QString::fromStdString(note));
    sizeLevels();
    load(m_model);
    m_options.calibration.clear();
    m_calibration = {};
    emit calibrationChanged();
    // Another model may not have enough of it, so that it is looked at again.
    if (const QString own = QSettings().value(QStringLiteral("calibration")).toString();
        !own.isEmpty())
        setCalibration(own);
}

void Workbench::load(const std::shared_ptr<const Model>& model) {
    const auto post = m_jobs.poster(this);
    m_applyJob = m_jobs.onDevice<Snapshot>(
        Priority::Chat, QStringLiteral("load"), tr("Loading %1").arg(modelName()), this,
        [this, engine = m_engine, model, recipe = m_recipe, options = m_options, post,
         generation = m_generation](const Progress& p) {
            // What runs now gives way if it must.
            const uint64_t releasable = engine->isOpen() ? engine->usedMemory().use.total() : 0;
            const LoadPlan plan =
                planLoad(*model, recipe, options, openDevice(options.device), releasable);
            post([this, plan, generation] {
                if (generation != m_generation)
                    return;
                m_plan = plan;
                emit ledgerChanged();
            });
            engine->open(model, recipe, options, p);
            return snapshot(*engine);
        },
        [this, generation = m_generation](Snapshot s) {
            m_applyJob = 0;
            if (generation == m_generation)
                take(s);
        },
        [this](const Failure& failure) {
            m_applyJob = 0;
            emit runningChanged();
            if (!failure.cancelled())
                emit problem(Concern::Models, failure.sentence);
        });
}

void Workbench::closeModel() {
    if (!m_model)
        return;
    stopAnswer();
    forgetMeasurements();
    m_model.reset();
    m_plan.reset();
    m_diagnosis = {};
    m_path.clear();
    m_running = false;
    m_undo.clear();
    replaceRecipe({});
    setRunningRecipe({});
    m_jobs.onDevice<int>(Priority::Chat, QStringLiteral("load"), {}, this,
                         [engine = m_engine](const Progress&) {
                             engine->close();
                             return 0;
                         },
                         {});
    emit modelChanged();
    emit runningChanged();
    emit ladderChanged();
    emit ledgerChanged();
}

void Workbench::apply() {
    if (!m_model)
        return;
    if (!m_running)
        return load(m_model);
    m_applyJob = m_jobs.onDevice<Snapshot>(
        Priority::Chat, QStringLiteral("load"), tr("Applying %1").arg(title()), this,
        [engine = m_engine, recipe = m_recipe, options = m_options](const Progress& p) {
            engine->apply(recipe, options, p);
            return snapshot(*engine);
        },
        [this, generation = m_generation](Snapshot s) {
            m_applyJob = 0;
            if (generation != m_generation)
                return;
            take(s);
            emit notice(tr("%1 is running").arg(runningTitle()));
            m_promptLoss.reset();
            if (m_live)
                measurePrompt();
            m_live = false;
        },
        [this](const Failure& failure) {
            m_applyJob = 0;
            emit runningChanged();
            if (!failure.cancelled())
                emit problem(Concern::Tune, failure.sentence);
        });
    emit runningChanged();
}

void Workbench::applyLive() {
    m_live = true;
    apply();
}

void Workbench::applyRecipe(const Recipe& recipe) {
    setRecipe(recipe, tr("use %1").arg(recipeTitle(recipe)));
    apply();
}

void Workbench::applyLevel(const QString& levelName) {
    setLevel(levelName);
    apply();
}

void Workbench::setDevice(const QString& spec) {
    if (spec.toStdString() == m_options.device)
        return;
    m_options.device = spec.toStdString();
    m_deviceInUse.clear();
    QSettings().setValue(QStringLiteral("device"), spec);
    emit optionsChanged();
    emit devicesChanged();
    if (m_model && m_model->unsupported.empty())
        load(m_model);
}

void Workbench::refreshDevices() {
    m_jobs.onDevice<std::vector<DeviceInfo>>(
        Priority::Chat, QStringLiteral("devices"), {}, this,
        [](const Progress&) { return listDevices(); },
        [this](std::vector<DeviceInfo> devices) {
            m_devices = std::move(devices);
            emit devicesChanged();
            predictLedger();
        },
        [this](const Failure& failure) { emit problem(Concern::Models, failure.sentence); });
}

void Workbench::runDoctor(const QString& deviceId) {
    const auto present = device();
    const QString id = !deviceId.isEmpty() ? deviceId
                       : present           ? QString::fromStdString(present->id)
                                           : QStringLiteral("cpu");
    m_jobs.onDevice<DoctorReport>(
        Priority::Measure, QStringLiteral("doctor ") + id, tr("Checking the device"), this,
        [spec = id.toStdString()](const Progress& p) {
            const auto backend = openDevice(spec);
            return nibble::runDoctor(*backend, p);
        },
        [this, id](DoctorReport report) {
            m_doctor[id] = std::move(report);
            emit doctorChanged();
        },
        [this](const Failure& failure) {
            if (!failure.cancelled())
                emit problem(Concern::Models, failure.sentence);
        });
}

void Workbench::measureKernels() {
    const auto present = device();
    if (!present || isMeasuringKernels())
        return;
    const QString id = QString::fromStdString(present->id);
    m_kernelsJob = m_jobs.onDevice<DeviceKernels>(
        Priority::Measure, QStringLiteral("kernels ") + id, tr("Measuring the device"), this,
        [spec = present->id](const Progress& p) {
            const auto backend = openDevice(spec);
            KernelBenchOptions options;
            options.shapes = {{4096, 4096}};
            options.rows = {1, 8, 16, 128};
            DeviceKernels found;
            if (const auto choice = kernelChoice(*backend))
                found.choice = QString::fromStdString(choice->text());
            found.report = benchKernels(*backend, options, p);
            return found;
        },
        [this, id](DeviceKernels found) {
            m_kernels[id] = std::move(found);
            emit kernelsChanged();
        },
        [this](const Failure& failure) {
            if (!failure.cancelled())
                emit problem(Concern::Models, failure.sentence);
            emit kernelsChanged();
        });
    emit kernelsChanged();
}

quint64 Workbench::chat(const ChatRequest& request) {
    if (!m_model)
        return 0;
    stopAnswer();
    const quint64 number = ++m_chatRequest;
    const auto post = m_jobs.poster(this);
    struct Answer {
        GenerateResult result;
        Snapshot after;
    };
    m_chatJob = m_jobs.onDevice<Answer>(
        Priority::Chat, {}, {}, this,
        [this, engine = m_engine, request, number, post](const Progress& p) {
            Answer answer;
            answer.result =
                engine->chat(request, p, [this, number, post](std::string_view text, TokenId) {
                    const QString piece = QString::fromUtf8(text.data(), qsizetype(text.size()));
                    post([this, number, piece] { emit chatText({number, piece}); });
                });
            answer.after = snapshot(*engine);
            return answer;
        },
        [this, number, generation = m_generation, request](Answer answer) {
            if (number == m_chatRequest)
                m_chatJob = 0;
            if (generation == m_generation) {
                m_lastRequest = request;
                m_lastRequest->messages.push_back({"assistant", answer.result.text});
                m_promptLoss.reset();
                emit qualityChanged();
            }
            m_tokensPerSecond = answer.result.generateTps;
            if (generation == m_generation)
                take(answer.after);
            emit chatFinished(number, answer.result);
        },
        [this, number](const Failure& failure) {
            if (number == m_chatRequest)
                m_chatJob = 0;
            emit chatFailed(number, failure);
            emit runningChanged();
        });
    emit runningChanged();
    return number;
}

void Workbench::stopAnswer() {
    if (m_chatJob)
        m_jobs.cancel(m_chatJob);
}

} // namespace nibble
