// ctest: FIXTURES_REQUIRED=calibration TIMEOUT=900 COST=100
#include "tests/app/gui/gui_test.h"
#include "tests/support/kept_calibration.h"

#include "app/gui/chat/chat_store.h"
#include "app/gui/models/column_model.h"
#include "app/gui/modes/mode.h"
#include "app/gui/panels/distribution_plot.h"
#include "app/gui/panels/layers_panel.h"
#include "app/gui/panels/ledger_panel.h"
#include "app/gui/panels/levels_panel.h"
#include "app/gui/panels/method_loss_plot.h"
#include "app/gui/widgets/parts.h"
#include "app/gui/workbench.h"

#include "core/base/resources.h"

#include <QComboBox>
#include <QDoubleSpinBox>
#include <QSignalSpy>
#include <QSlider>

#include <memory>

using namespace nibble;

/// What the window does with predictions: the budget, hollow points, one tensor's change heard at
/// once, the outliers' threshold; on the sample model.
class TestForecast : public QObject {
    Q_OBJECT
private slots:
    void initTestCase() {
        m_bench = std::make_unique<Workbench>();
        m_bench->setDevice(QStringLiteral("cpu"));
        m_bench->refreshDevices();
        m_bench->openModel(QString::fromStdString(sampleModelPath().string()));
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->isRunning(), seconds(60));
        QVERIFY(!m_bench->canPredict());
        m_bench->predictLosses(1);
        QVERIFY(m_bench->isPredicting());
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->canPredict(), seconds(500));
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->jobs().idle(), seconds(60));
    }
    void cleanupTestCase() { m_bench.reset(); }

    void levelsArePredicted() {
        LedgerPanel ledger(*m_bench);
        LevelsPanel panel(*m_bench, &ledger);
        auto* table = panel.findChild<ColumnTable*>();
        const int rows = table->model()->rowCount();
        QCOMPARE(rows, static_cast<int>(ladderLevels().size()));
        for (int row = 0; row < rows; ++row) {
            const LadderRow& level = m_bench->ladder()[static_cast<size_t>(row)];
            QVERIFY2(m_bench->prediction(level.recipe), level.level.c_str());
            QVERIFY(!level.measured);
        }
        int guessed = 0;
        for (int row = 0; row < rows; ++row)
            guessed += table->model()->index(row, 3).data().toString().startsWith(u'≈') ? 1 : 0;
        QCOMPARE(guessed, rows);
    }

    void theSliderFindsRecipes() {
        const std::unique_ptr<Mode> tune(makeTuneMode(*m_bench, nullptr));
        auto* slider = tune->findChild<QSlider*>(QStringLiteral("budget"));
        QVERIFY(slider && slider->isEnabled());
        const int steps = m_bench->undoStack()->count();
        const auto [least, most] = m_bench->budgetRange(Budget::Of::Bytes);
        slider->setSliderDown(true);
        uint64_t before = 0;
        for (const int position : {200, 400, 500}) {
            slider->setValue(position);
            QTRY_VERIFY_WITH_TIMEOUT(m_bench->recipe().name == kMixedLevel &&
                                         recipeSize(*m_bench->model(), m_bench->recipe()).bytes >
                                             before,
                                     seconds(5));
            before = recipeSize(*m_bench->model(), m_bench->recipe()).bytes;
            const double wanted = double(least) + double(most - least) * position / 1000;
            QVERIFY(double(before) <= wanted + 200000 && double(before) > 0.97 * wanted);
        }
        slider->setSliderDown(false);
        // The whole movement is one step, and the strip knows what each tensor adds.
        QCOMPARE(m_bench->undoStack()->count(), steps + 1);
        QVERIFY(m_bench->tensorLoss({Role::Down, 0}));
        QVERIFY(m_bench->prediction(m_bench->recipe()));
        LayersPanel layers(*m_bench);
        layers.resize(900, 300);
        m_bench->undoStack()->undo();
        QVERIFY(m_bench->recipe().name != kMixedLevel);
        m_bench->undoStack()->redo();
        QCOMPARE(m_bench->recipe().name, std::string(kMixedLevel));
    }

    /// Bits, a file's size, memory and a loss are one budget; each is kept to when it is typed.
    void aBudgetIsGivenInAnyUnit_data() {
        QTest::addColumn<int>("row");
        QTest::addColumn<int>("of");
        QTest::addColumn<double>("unit");
        QTest::newRow("bits") << 0 << int(Budget::Of::Bits) << 1.0;
        QTest::newRow("file") << 1 << int(Budget::Of::Bytes) << 1e6;
        QTest::newRow("memory") << 2 << int(Budget::Of::Memory) << 1e6;
        QTest::newRow("loss") << 3 << int(Budget::Of::Loss) << 1e-3;
    }
    void aBudgetIsGivenInAnyUnit() {
        QFETCH(int, row);
        QFETCH(int, of);
        QFETCH(double, unit);
        const auto kind = static_cast<Budget::Of>(of);
        const std::unique_ptr<Mode> tune(makeTuneMode(*m_bench, nullptr));
        tune->resize(1300, 800);
        tune->show();
        auto* units = tune->findChild<QComboBox*>(QStringLiteral("budget-of"));
        auto* value = tune->findChild<QDoubleSpinBox*>(QStringLiteral("budget-value"));
        auto* slider = tune->findChild<QSlider*>(QStringLiteral("budget"));
        for (int i = 0; i < row; ++i)
            QTest::keyClick(units, Qt::Key_Down);
        QCOMPARE(units->currentIndex(), row);
        const auto taken = [&] {
            const auto& ledger = m_bench->predictedLedger();
            return kind == Budget::Of::Bits     ? m_bench->size().bitsPerWeight
                   : kind == Budget::Of::Bytes  ? double(m_bench->size().bytes)
                   : kind == Budget::Of::Memory ? double(ledger->use.total())
                                                : m_bench->prediction()->kld;
        };
        const auto held = [&](double wanted) {
            const auto budget = m_bench->heldBudget();
            return budget && budget->of == kind &&
                   std::abs(budget->value - wanted) < 1e-6 * wanted && m_bench->jobs().idle();
        };
        const auto [first, last] = m_bench->budgetRange(kind);
        QVERIFY(kind == Budget::Of::Loss ? first > last && last > 0 : first < last);
        for (const double part : {0.3, 0.6}) {
            const double wanted = kind == Budget::Of::Loss ? first * std::pow(last / first, part)
                                                           : first + (last - first) * part;
            const QString typed = QString::number(wanted / unit, 'f', value->decimals());
            value->selectAll();
            QTest::keyClicks(value, typed);
            QTest::keyClick(value, Qt::Key_Return);
            const double asked = typed.toDouble() * unit;
            QTRY_VERIFY_WITH_TIMEOUT(held(asked), seconds(5));
            QCOMPARE(m_bench->recipe().name, std::string(kMixedLevel));
            QVERIFY2(taken() <= asked * 1.0001 && taken() > asked * (row == 3 ? 0.7 : 0.95),
                     qPrintable(QStringLiteral("%1 of %2").arg(taken()).arg(asked)));
            QCOMPARE(value->text().startsWith(typed), true);
            QVERIFY(std::abs(slider->value() / 1000.0 - part) < 0.02);
        }
        // The slider moves in the same unit.
        QTest::keyClick(slider, Qt::Key_PageUp);
        QTRY_VERIFY_WITH_TIMEOUT(
            m_bench->jobs().idle() && m_bench->heldBudget() && slider->value() == 650, seconds(5));
        QVERIFY(taken() < m_bench->heldBudget()->value * 1.0001);
        // All of them stand below it.
        const auto labels = tune->findChildren<ElidedLabel*>();
        QVERIFY(std::any_of(labels.begin(), labels.end(), [](const ElidedLabel* label) {
            return label->fullText().contains(QStringLiteral("bits per weight")) &&
                   label->fullText().contains(QStringLiteral("in a file")) &&
                   label->fullText().contains(QStringLiteral("of memory with")) &&
                   label->fullText().contains(QStringLiteral("KLD ×10⁻³ ≈"));
        }));
        if (kind != Budget::Of::Memory)
            return;
        // With more context less is left for the weights.
        const uint64_t before = m_bench->size().bytes;
        m_bench->setContext(1024);
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->jobs().idle(), seconds(5));
        const uint64_t less = m_bench->size().bytes;
        m_bench->setContext(512);
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->jobs().idle() && m_bench->size().bytes > less,
                                 seconds(5));
        QVERIFY(taken() < m_bench->heldBudget()->value * 1.0001);
        m_bench->setContext(2048);
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->jobs().idle(), seconds(5));
        QVERIFY(m_bench->size().bytes <= before);
    }

    /// What panels ask at every turn is worked out once, and follows the recipe.
    void theDocumentKnowsItsRecipe() {
        for (const char* level : {"q4_k_m", "nf4", ""}) {
            m_bench->setLevel(QString::fromLatin1(level));
            const Recipe& recipe = m_bench->recipe();
            QCOMPARE(m_bench->recipeHash(), recipe.hash());
            QCOMPARE(m_bench->title(), m_bench->recipeTitle(recipe));
            const RecipeSize size = recipeSize(*m_bench->model(), recipe);
            QCOMPARE(m_bench->size().bytes, size.bytes);
            QCOMPARE(m_bench->size().bitsPerWeight, size.bitsPerWeight);
            const TensorKey key{Role::Value, 1};
            const TensorChoice chosen = recipe.choose(*m_bench->model(), key);
            if (chosen.format)
                QCOMPARE(*m_bench->choice(key), chosen);
            else
                QCOMPARE(m_bench->choice(key)->format, m_bench->model()->get(key).format());
            QTRY_VERIFY_WITH_TIMEOUT(m_bench->prediction(), seconds(5));
            QCOMPARE(m_bench->prediction()->kld, m_bench->prediction(recipe)->kld);
        }
        m_bench->setTensorFormat({Role::Value, 1}, QStringLiteral("q8_0"));
        QVERIFY(m_bench->size().bytes != recipeSize(*m_bench->model(), Recipe{}).bytes);
        QCOMPARE(m_bench->title(), QStringLiteral("Own recipe"));
        m_bench->undoStack()->undo();
        QCOMPARE(m_bench->title(), QStringLiteral("Base"));
    }

    void oneTensorIsHeardAtOnce() {
        m_bench->applyLevel(QStringLiteral("int4"));
        QTRY_VERIFY_WITH_TIMEOUT(!m_bench->isApplying() && !m_bench->hasPendingChange(),
                                 seconds(60));
        ChatRequest request;
        request.messages = {{"user", "What is the capital of France?"}};
        request.options.maxTokens = 12;
        QSignalSpy answered(m_bench.get(), &Workbench::chatFinished);
        QVERIFY(m_bench->chat(request) != 0);
        QTRY_COMPARE_WITH_TIMEOUT(answered.count(), 1, seconds(60));
        QVERIFY(!m_bench->promptLoss());

        const Recipe before = m_bench->runningRecipe();
        for (int layer = 0; layer < 3; ++layer) {
            m_bench->setTensorFormat({Role::Down, layer}, QStringLiteral("int2_g32"));
            QTRY_VERIFY_WITH_TIMEOUT(m_bench->runningRecipe() == m_bench->recipe(), seconds(60));
        }
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->promptLoss(), seconds(60));
        const double worse = m_bench->promptLoss()->kld;
        QVERIFY(worse > 0 && m_bench->promptLoss()->tokens > 5);
        for (int i = 0; i < 3; ++i) {
            m_bench->undoStack()->undo();
            QTRY_VERIFY_WITH_TIMEOUT(m_bench->runningRecipe() == m_bench->recipe(), seconds(60));
        }
        QCOMPARE(m_bench->runningRecipe(), before);
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->promptLoss() && m_bench->promptLoss()->kld < worse,
                                 seconds(60));
    }

    void anEditBesideOthersWaitsForApply() {
        m_bench->setLevel(QStringLiteral("q6_k"));
        QVERIFY(m_bench->hasPendingChange());
        const Recipe running = m_bench->runningRecipe();
        m_bench->setTensorFormat({Role::Up, 1}, QStringLiteral("q8_0"));
        QTest::qWait(300);
        QVERIFY(m_bench->runningRecipe() == running);
        QVERIFY(m_bench->hasPendingChange());
    }

    void theThresholdIsDragged() {
        m_bench->setLevel(QStringLiteral("llm_int8"));
        QSignalSpy details(m_bench.get(), &Workbench::tensorDetailReady);
        m_bench->requestTensorDetail({Role::Down, 2}, true);
        QTRY_VERIFY_WITH_TIMEOUT(details.count() > 0, seconds(120));
        const auto detail = details.last()[0].value<TensorDetail>();
        QCOMPARE(detail.inputMaxima.size(), size_t(m_bench->model()->config.feedForward));
        OutlierPlot plot;
        plot.resize(500, 300);
        plot.setDetail(detail);
        plot.show(OutlierPlot::Of::Inputs);
        static_cast<QWidget&>(plot).show();
        QVERIFY(QTest::qWaitForWindowExposed(&plot));
        plot.replot(QCustomPlot::rpImmediateRefresh);
        QSignalSpy moved(&plot, &OutlierPlot::thresholdMoved);
        const int x = plot.axisRect()->center().x();
        const auto y = [&](double value) {
            return static_cast<int>(plot.yAxis->coordToPixel(value));
        };
        const double wanted = plot.yAxis->range().upper * 0.75;
        QTest::mousePress(&plot, Qt::LeftButton, {}, QPoint(x, y(6)));
        QTest::mouseMove(&plot, QPoint(x, y(wanted)));
        QTest::mouseRelease(&plot, Qt::LeftButton, {}, QPoint(x, y(wanted)));
        QVERIFY(moved.count() >= 2);
        QVERIFY(moved.last()[1].toBool());
        QVERIFY(std::abs(moved.last()[0].toDouble() - wanted) < 0.02 * wanted);
        m_bench->setOutlierThreshold(moved.last()[0].toDouble());
        QVERIFY(std::abs(double(m_bench->recipe().outlierThreshold) - wanted) < 0.02 * wanted);
        m_bench->undoStack()->undo();
        QCOMPARE(m_bench->recipe().outlierThreshold, kOutlierThreshold);
    }

    void methodsAreComparedByBlock() {
        const auto& losses = m_bench->layerLosses();
        QCOMPARE(losses.size(), size_t(5));
        double plain = 0, fed = 0;
        for (const double loss : losses.at("int4_g128"))
            plain += loss;
        for (const double loss : losses.at("gptq"))
            fed += loss;
        QVERIFY(fed > 0 && fed < plain);
    }

    void jobsPauseAndGoOn() {
        std::atomic<int> steps{0};
        bool done = false;
        const quint64 id = m_bench->jobs().onPool<int>(
            {}, QStringLiteral("counting"), this,
            [&](const Progress& progress) {
                for (int i = 0; i < 40; ++i) {
                    progress.check();
                    ++steps;
                    QThread::msleep(5);
                }
                return 0;
            },
            [&](int) { done = true; });
        QTRY_VERIFY_WITH_TIMEOUT(steps > 2, seconds(5));
        m_bench->jobs().setPaused(id, true);
        QTest::qWait(100);
        const int at = steps;
        QVERIFY(at < 40);
        QTest::qWait(150);
        QCOMPARE(int(steps), at);
        QVERIFY(m_bench->jobs().list().front().paused);
        m_bench->jobs().setPaused(id, false);
        QTRY_VERIFY_WITH_TIMEOUT(done, seconds(5));
        QCOMPARE(int(steps), 40);
    }

    /// Nothing reads chats until they are chosen; what they are used for is said then.
    void chatsCalibrateWhenChosen() {
        const std::unique_ptr<Mode> tune(makeTuneMode(*m_bench, nullptr));
        tune->resize(1300, 800);
        tune->show();
        auto* box = tune->findChild<QComboBox*>(QStringLiteral("calibration"));
        auto* banner = tune->findChild<Banner*>();
        QVERIFY(box && box->isEnabled() && box->currentIndex() == 0);
        QSignalSpy problems(m_bench.get(), &Workbench::problem);
        QSignalSpy changes(m_bench.get(), &Workbench::calibrationChanged);
        const auto chooseChats = [&] {
            changes.clear();
            problems.clear();
            QTest::keyClick(box, Qt::Key_Down);
            QTRY_VERIFY_WITH_TIMEOUT(changes.count() > 0, seconds(5));
        };
        chooseChats(); // there are none
        QTRY_COMPARE_WITH_TIMEOUT(problems.count(), 1, seconds(5));
        QVERIFY(problems[0][1].toString().contains(QStringLiteral("no chat in it yet")));
        QCOMPARE(box->currentIndex(), 0);

        ChatStore store;
        ChatRecord chat;
        chat.id = QStringLiteral("one");
        ChatTurn& turn = chat.turns.emplace_back();
        turn.role = QStringLiteral("user");
        turn.text = QStringLiteral("Hello.");
        store.save(chat);
        store.flush();
        chooseChats();
        QTRY_COMPARE_WITH_TIMEOUT(problems.count(), 1, seconds(5));
        QVERIFY(problems[0][1].toString().contains(QStringLiteral("at least one window of")));
        QVERIFY(m_bench->calibration().isEmpty() && m_bench->canPredict());

        for (int i = 0; i < 300; ++i)
            turn.text += QStringLiteral(" There were %1 boats.").arg(i);
        store.save(chat);
        store.flush();
        chooseChats();
        QCOMPARE(m_bench->calibration(), store.folder());
        QCOMPARE(problems.count(), 0);
        QCOMPARE(box->currentIndex(), 1);
        QVERIFY(banner->sentence().contains(QStringLiteral("own chats (1 conversation)")));
        QVERIFY(banner->sentence().contains(QStringLiteral("never leave")));
        QVERIFY(!m_bench->canPredict()); // what was predicted was for another text
        QCOMPARE(QSettings().value(QStringLiteral("calibration")).toString(), store.folder());

        // Levels that look at nothing have nothing to apply; GPTQ is made from the chats.
        m_bench->applyLevel(QStringLiteral("int4"));
        QTRY_VERIFY_WITH_TIMEOUT(!m_bench->isApplying(), seconds(60));
        QVERIFY(!m_bench->hasPendingChange());
        m_bench->applyLevel(QStringLiteral("gptq"));
        QTRY_VERIFY_WITH_TIMEOUT(!m_bench->isApplying(), seconds(120));
        QCOMPARE(m_bench->runningRecipe().name, std::string("gptq"));
        m_bench->setCalibration({});
        QTRY_VERIFY_WITH_TIMEOUT(m_bench->calibration().isEmpty(), seconds(5));
        QVERIFY(m_bench->hasPendingChange());
        QCOMPARE(box->currentIndex(), 0);
    }

private:
    const test::KeptCalibration m_kept;
    std::unique_ptr<Workbench> m_bench;
};

NIBBLE_GUI_TEST(TestForecast)
#include "test_forecast.moc"
