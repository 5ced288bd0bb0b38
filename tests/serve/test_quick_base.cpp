#include "core/base/resources.h"
#include "core/serve/engine.h"
#include "core/serve/plan.h"

#include <QTemporaryDir>
#include <QTest>

using namespace nibble;

/// Quantized files that run as they are: with int8 activations where that was asked for, and
/// nothing else changes.
class TestQuickBase : public QObject {
    Q_OBJECT
    QTemporaryDir m_folder;
    std::shared_ptr<const Model> m_floats = openModel(sampleModelPath()), m_quantized;

    static ActivationFormat seen(const Model& model, const Recipe& recipe,
                                 const EngineOptions& options, TensorKey key) {
        return effectiveRecipe(recipe, options).choose(model, key).activations;
    }

private slots:
    void initTestCase() {
        const auto path = m_folder.filePath("q4_0.gguf").toStdString();
        exportGguf(*m_floats, levelRecipe("q4_0", *m_floats), path);
        m_quantized = openModel(path);
        QCOMPARE(std::string(m_quantized->get({Role::Up, 3}).format()->name), std::string("q4_0"));
    }

    void whatNoRuleSpeaksOf() {
        const TensorKey up{Role::Up, 3}, down{Role::Down, 3};
        EngineOptions exact, quick;
        exact.device = quick.device = "cpu";
        quick.quickBase = true;
        QCOMPARE(seen(*m_quantized, {}, exact, up), ActivationFormat::Float);
        QCOMPARE(seen(*m_quantized, {}, quick, up), ActivationFormat::Int8Block32);
        QCOMPARE(seen(*m_floats, {}, quick, up), ActivationFormat::Float);
        // One edited tensor leaves the others as quick as they were.
        Recipe edited;
        edited.set(down, {.match = "", .format = "int8_g32", .activations = "float"});
        QCOMPARE(seen(*m_quantized, edited, quick, down), ActivationFormat::Float);
        QCOMPARE(seen(*m_quantized, edited, quick, up), ActivationFormat::Int8Block32);
        // A level speaks of every tensor, and what the user asks for goes before both.
        const Recipe level = levelRecipe("int8", *m_quantized);
        QCOMPARE(seen(*m_quantized, level, quick, up), ActivationFormat::Int8Token);
        quick.activations = ActivationFormat::Float;
        QCOMPARE(seen(*m_quantized, {}, quick, up), ActivationFormat::Float);
        QCOMPARE(seen(*m_quantized, level, quick, up), ActivationFormat::Float);
    }

    void kernelsTakeThem() {
        for (const bool quick : {false, true}) {
            EngineOptions options;
            options.device = "cpu";
            options.context = 64;
            options.quickBase = quick;
            const auto runner = loadRunner(m_quantized, {}, options);
            for (const PathReport& path : runner->paths())
                if (isMatrix(path.key.role))
                    QVERIFY2((path.path.find("× int8") != std::string::npos) == quick,
                             path.path.c_str());
        }
    }

    /// What is measured of it is measured against floats.
    void lossIsAgainstFloats() {
        EvaluationText text;
        for (int i = 0; i < 8; ++i)
            text.text += "The capital of France is Paris. The capital of Spain is Madrid. ";
        EvaluateOptions evaluate;
        evaluate.context = 16;
        evaluate.chunks = 1;
        for (const bool quick : {false, true}) {
            EngineOptions options;
            options.device = "cpu";
            options.context = 64;
            options.quickBase = quick;
            Engine engine;
            engine.open(m_quantized, {}, options);
            const QualityReport report = engine.measure({}, text, evaluate, {});
            QVERIFY2((report.kldMean > 0) == quick, qPrintable(QString::number(report.kldMean)));
        }
    }
};

QTEST_GUILESS_MAIN(TestQuickBase)
#include "test_quick_base.moc"
