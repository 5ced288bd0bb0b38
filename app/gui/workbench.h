#pragma once

#include "app/gui/jobs.h"
#include "core/evaluate/tensor_detail.h"

#include "core/calibrate/calibrate.h"
#include "core/evaluate/ladder.h"
#include "core/model/diagnosis.h"
#include "core/quant/recipe.h"
#include "core/runtime/doctor.h"
#include "core/runtime/kernel_bench.h"
#include "core/serve/engine.h"

#include <QObject>
#include <QString>
#include <QUndoStack>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace nibble {

/// Where a problem is shown: as a banner inside the mode that it concerns.
enum class Concern { Models, Tune, Chat, Inspect };

/// What was measured of a device: its limits with its kernels, and which of those it was given.
struct DeviceKernels {
    KernelReport report;
    QString choice;
};

/// The document that every panel shows: one model, its running variant, the recipe being edited,
/// one selection, and all measurements. Lives on the GUI thread and does no arithmetic: everything
/// is asked from the core through Jobs, and arrives by signal. Results of another recipe or model
/// than the present one are dropped.
class Workbench : public QObject {
    Q_OBJECT
public:
    explicit Workbench(QObject* parent = nullptr);
    ~Workbench() override;

    Jobs& jobs() { return m_jobs; }

    // The model. Null until one is opened. Signal: modelChanged.
    std::shared_ptr<const Model> model() const { return m_model; }
    QString modelName() const;
    QString modelPath() const { return m_path; }
    bool isOpening() const { return m_opening; }
    /// Whether the model is loaded on the device and can answer.
    bool isRunning() const { return m_running; }

    // The running variant, and the recipe being edited. Signals: runningChanged, recipeChanged.
    const Recipe& runningRecipe() const { return m_runningRecipe; }
    const Recipe& recipe() const { return m_recipe; }
    /// The variant that numbers are shown beside; the base until another is pinned. Signal:
    /// baselineChanged.
    const Recipe& baseline() const { return m_baseline; }
    /// A locked tensor keeps its format when a level is chosen. Signal: locksChanged.
    bool isLocked(TensorKey key) const { return m_locked.contains(key); }
    uint64_t recipeHash() const { return m_edited.hash; }
    /// Recipe or options differ from what runs: Apply has something to do.
    bool hasPendingChange() const;
    bool isApplying() const { return m_applyJob != 0; }
    QUndoStack* undoStack() { return &m_undo; }
    /// What the edited recipe says of a tensor (its format is never null); nothing without a model.
    std::optional<TensorChoice> choice(TensorKey key) const;
    /// Glyph of that choice for the strip: "I4", "K6", "16".
    QString glyph(TensorKey key) const;
    /// "INT4 g128", "Base", "INT4 g128, 3 changes".
    QString recipeTitle(const Recipe& recipe) const;
    QString title() const { return m_edited.title; } ///< of the edited recipe
    QString runningTitle() const { return m_runningTitle; }
    QString baselineTitle() const { return m_baselineTitle; }
    /// Of the edited recipe.
    const RecipeSize& size() const { return m_edited.size; }

    // Options and device. Signals: optionsChanged, devicesChanged, doctorChanged.
    const EngineOptions& options() const { return m_options; } ///< asked for
    const std::vector<DeviceInfo>& devices() const { return m_devices; }
    /// The device in use (or that the next load will use); nothing until devices are known.
    std::optional<DeviceInfo> device() const;
    /// Result of the self-test of a device, if it ran.
    const DoctorReport* doctor(const QString& deviceId) const;
    /// How near its limits a device's kernels come, if that was measured. Signal: kernelsChanged.
    const DeviceKernels* kernels(const QString& deviceId) const;
    bool isMeasuringKernels() const { return m_jobs.isRunning(m_kernelsJob); }

    // What methods that look at data are calibrated with, as in EngineOptions. Signal:
    // calibrationChanged.
    QString calibration() const { return QString::fromStdString(m_options.calibration.string()); }
    const CalibrationChoice& calibrationChoice() const { return m_calibration; }

    // One selection for all panels. Signal: selectionChanged.
    std::optional<TensorKey> selection() const { return m_selection; }

    // Measurements. Signals: ladderChanged, tensorErrorsChanged, qualityChanged, ledgerChanged.
    const std::vector<LadderRow>& ladder() const { return m_ladder; }
    /// The row of the level that this recipe is, unchanged; null when it is none.
    const LadderRow* ladderRow(const Recipe& recipe) const;
    bool isMeasuringLadder() const { return m_jobs.isRunning(m_ladderJob); }
    /// Error of a tensor under the edited recipe; null = not measured.
    const TensorError* tensorError(TensorKey key) const;
    bool isMeasuringTensors() const { return m_jobs.isRunning(m_tensorsJob); }
    /// Per-layer error of the last measurement of the edited recipe; empty = not measured.
    std::vector<LayerError> layerErrors() const;
    /// Quality of a recipe (by its hash); null = not measured.
    const QualityReport* quality(uint64_t recipeHash) const;
    const QualityReport* quality() const { return quality(recipeHash()); }
    // Predictions. Signal: predictionsChanged.
    /// Whether it is known what each tensor costs, so that budgets and predictions can be had.
    bool canPredict() const { return m_forecast != nullptr; }
    bool isPredicting() const { return m_jobs.isRunning(m_forecastJob); }
    /// KLD that a recipe is predicted to have; nothing while that is not known.
    std::optional<Prediction> prediction(const Recipe& recipe) const;
    std::optional<Prediction> prediction() const { return predictionOf(m_edited.rules); }
    /// The level "mixed" with its usual budget; nothing while that is not known.
    std::optional<Recipe> mixedRecipe() const { return m_mixed; }
    /// What one tensor of the edited recipe is predicted to add to it.
    std::optional<Prediction> tensorLoss(TensorKey key) const;
    /// What each block loses by some levels of like size, by the level's name; predicted.
    const std::map<std::string, std::vector<double>>& layerLosses() const { return m_layerLosses; }
    /// Loss of the running variant over the last prompt and its answer; nothing until a tensor's
    /// format was changed after it. Signal: qualityChanged.
    const std::optional<PromptLoss>& promptLoss() const { return m_promptLoss; }
    /// The budgets of the smallest and of the best recipe; equal while they are not known. Memory
    /// is all that the variant takes of the device.
    std::pair<double, double> budgetRange(Budget::Of of) const;
    /// The budget that the edited recipe was found for.
    std::optional<Budget> heldBudget() const;

    /// Memory that the edited recipe and options would take; nothing until computed.
    const std::optional<Ledger>& predictedLedger() const { return m_predicted; }
    /// What of the open model lies where, from before it is loaded on. Signal: ledgerChanged.
    const std::optional<LoadPlan>& plan() const { return m_plan; }
    /// What is known of the open model and what is not.
    const Diagnosis& diagnosis() const { return m_diagnosis; }
    /// Memory in use now; nothing while no model runs.
    const std::optional<Ledger>& usedLedger() const { return m_used; }
    int contextUsed() const { return m_contextUsed; }
    double lastTokensPerSecond() const { return m_tokensPerSecond; }
    std::vector<PathReport> paths() const { return m_paths; }

    /// Jobs that the status bar shows have these ids; cancel(id) or cancel() for all.
    void cancel(quint64 id) { m_jobs.cancel(id); }

    /// Where chatText and chatFinished of one answer belong.
    struct ChatUpdate {
        quint64 request = 0;
        QString text; ///< what came since the last update
    };
    /// Asks for an answer; returns the request's number, 0 when no model runs.
    quint64 chat(const ChatRequest& request);
    bool isAnswering() const { return m_chatJob != 0; }

public slots:
    /// Opens a GGUF file or a safetensors folder and loads its base on the device.
    void openModel(const QString& path);
    void closeModel();

    /// Edits the recipe as one undoable step.
    void setRecipe(const nibble::Recipe& recipe, const QString& stepName = {});
    void setLevel(const QString& levelName);
    /// Adds the rule for exactly this tensor. Method empty = its present one, or "rtn" where that
    /// cannot make the format; format empty = the base's own. Applied at once where nothing else is
    /// pending, and undone as well.
    void setTensorFormat(nibble::TensorKey key, const QString& format, const QString& method = {});
    /// The same for several, as one step; locked ones are left as they are.
    void setTensorFormats(const std::vector<nibble::TensorKey>& keys, const QString& format,
                          const QString& method = {});
    void setLocked(const std::vector<nibble::TensorKey>& keys, bool locked);
    void setBaseline(const nibble::Recipe& recipe);
    void setKv(nibble::KvFormat k, nibble::KvFormat v);
    /// From which magnitude on LLM.int8() keeps inputs out of its codes.
    void setOutlierThreshold(double threshold);
    void setContext(int tokens);
    /// A text, a folder of chats, an importance matrix; empty = the text that ships. Looks at it
    /// first: calibrationChanged() or problem() follows.
    void setCalibration(const QString& path);
    /// "float", "int8", …; empty = as the recipe says.
    void setActivations(const QString& format);
    /// Moves the running variant to another device at once.
    void setDevice(const QString& spec);

    /// Makes the edited recipe and options the running ones.
    void apply();
    /// The same, and measures the last prompt again.
    void applyLive();
    /// Sets a recipe and applies it: "use this level".
    void applyRecipe(const nibble::Recipe& recipe);
    void applyLevel(const QString& levelName);

    void setSelection(nibble::TensorKey key);
    void clearSelection();

    /// Sizes of all levels, then their quality and speed as they are measured. `chunks` windows of
    /// the shipped text; 0 = all.
    /// Measures every level; where `questions` names a file of probes, also its right answers.
    void measureLadder(int chunks = kLadderWindows, const QString& questions = {});
    /// Finds what each tensor costs, then predicts every level; the first time for a model, it
    /// takes a pass over some text for each tensor.
    void predictLosses(int windows = SensitivityOptions{}.windows);
    /// Makes the best recipe for a budget the edited one, when canPredict(). Of a slider's requests
    /// the newest wins, and together they are one undoable step until endBudget(). One of memory is
    /// kept to when the context or the KV cache changes.
    void setBudget(const nibble::Budget& budget);
    void endBudget() { ++m_budgetStep; }
    /// Quality of the edited recipe with per-layer errors.
    void measureQuality(int chunks = kLadderWindows);
    /// Error of these matrices under the edited recipe; of every one when there are none.
    void measureTensors(std::vector<nibble::TensorKey> keys = {});
    /// Answers with tensorDetailReady; the newest request wins. With `inputs` it says what flows
    /// into the tensor, too, for which the model is calibrated once.
    void requestTensorDetail(nibble::TensorKey key, bool inputs = false);
    /// The same for a tensor of a model that is not understood, by its place in the file.
    void requestStoredDetail(size_t index);

    void refreshDevices();
    void runDoctor(const QString& deviceId = {});
    /// Of the device in use.
    void measureKernels();
    void stopAnswer();
    void cancelAll() { m_jobs.cancelAll(); }
    /// Writes the edited recipe's variant as a GGUF file or one of the folders of exportTargets();
    /// exported() or problem() follows.
    void exportVariant(const QString& path, const char* container);
    /// Why such a file cannot hold the edited recipe, in a sentence; empty where it can.
    QString whyNotExported(const char* container) const;

signals:
    void modelChanged();
    void openingChanged();
    void runningChanged();
    void recipeChanged();
    void baselineChanged();
    void locksChanged();
    void optionsChanged();
    void calibrationChanged();
    void devicesChanged();
    void doctorChanged();
    void kernelsChanged();
    void selectionChanged();
    void ladderChanged();
    void tensorErrorsChanged();
    void qualityChanged();
    void predictionsChanged();
    void ledgerChanged();
    void tensorDetailReady(const nibble::TensorDetail& detail);
    void chatText(const nibble::Workbench::ChatUpdate& update);
    void chatFinished(quint64 request, const nibble::GenerateResult& result);
    void chatFailed(quint64 request, const nibble::Failure& failure);
    void exported(const QString& path);
    /// One sentence for a banner.
    void problem(nibble::Concern concern, const QString& sentence);
    /// Good news for the status bar.
    void notice(const QString& text);

private:
    struct Forecast; ///< what is known of the tensors' losses, for jobs
    struct Forecasts;
    void take(Forecasts forecasts);
    struct Snapshot; ///< what a device job brings back about the engine
    static uint64_t rulesHash(const Recipe& recipe);
    static Snapshot snapshot(const Engine& engine);
    void take(const Snapshot& snapshot);
    void load(const std::shared_ptr<const Model>& model);
    void forgetMeasurements();
    void forgetLosses();
    void useCalibration(const QString& path, const CalibrationChoice& choice);
    bool isCalibrated(const Recipe& recipe) const;
    void replaceRecipe(const Recipe& recipe);
    void setRunningRecipe(const Recipe& recipe);
    std::optional<Prediction> predictionOf(uint64_t rules) const;
    void findBudgetRanges();
    void keepMemoryBudget();
    RecipeRule ruleFor(TensorKey key, const QString& format, const QString& method) const;
    void predictLedger();
    void sizeLevels();
    void predictRecipe();
    void measurePrompt();
    void adopt(std::shared_ptr<const Model> model, const QString& path);
    friend class RecipeStep;

    Jobs m_jobs;
    std::shared_ptr<Engine> m_engine; ///< touched by the device thread only
    std::shared_ptr<const Model> m_model;
    QString m_path;
    uint64_t m_generation = 0;   ///< counts models, so that results of a closed one are dropped
    uint64_t m_measurements = 0; ///< the same for measurements, which a calibration outdates, too
    bool m_opening = false, m_running = false;
    Recipe m_recipe, m_runningRecipe, m_baseline;
    /// What panels ask of the edited recipe at every turn, worked out when it changes.
    struct Edited {
        uint64_t hash = 0, rules = 0; ///< of all of it, and of its rules alone
        QString title;
        RecipeSize size;
        std::map<TensorKey, TensorChoice> choices;
        bool calibrated = false;
    } m_edited;
    QString m_runningTitle, m_baselineTitle;
    std::set<TensorKey> m_locked;
    EngineOptions m_options, m_runningOptions;
    CalibrationChoice m_calibration;
    QUndoStack m_undo;
    std::vector<DeviceInfo> m_devices;
    QString m_deviceInUse;
    std::map<QString, DoctorReport> m_doctor;
    std::map<QString, DeviceKernels> m_kernels;
    std::optional<TensorKey> m_selection;
    std::vector<LadderRow> m_ladder;
    std::map<std::string, std::string> m_levelsThatFit; ///< a sentence a kind of export
    std::map<TensorKey, TensorError> m_tensorErrors;
    std::map<TensorKey, uint64_t> m_tensorErrorRecipe;
    std::map<uint64_t, QualityReport> m_quality;
    std::shared_ptr<Forecast> m_forecast;
    std::map<uint64_t, Prediction> m_predictions;   ///< by the hash of the recipe's rules
    std::map<TensorKey, Prediction> m_tensorLosses; ///< of the recipe with this hash
    uint64_t m_tensorLossRecipe = 0;
    std::map<std::string, std::vector<double>> m_layerLosses;
    std::map<Budget::Of, std::pair<double, double>> m_budgetRanges;
    std::optional<Budget> m_budget;
    uint64_t m_budgetRules = 0; ///< of the recipe that was found for it
    std::optional<Recipe> m_mixed;
    std::optional<PromptLoss> m_promptLoss;
    bool m_live = false;                      ///< the next apply is followed by measurePrompt()
    std::optional<ChatRequest> m_lastRequest; ///< with its answer
    int m_budgetStep = 1;
    std::optional<Ledger> m_predicted, m_used;
    std::optional<LoadPlan> m_plan;
    Diagnosis m_diagnosis;
    std::vector<PathReport> m_paths;
    int m_contextUsed = 0;
    double m_tokensPerSecond = 0;
    quint64 m_applyJob = 0, m_ladderJob = 0, m_kernelsJob = 0, m_tensorsJob = 0, m_qualityJob = 0;
    quint64 m_forecastJob = 0;
    quint64 m_chatJob = 0, m_chatRequest = 0;
};

} // namespace nibble
