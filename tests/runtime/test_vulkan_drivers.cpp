// ctest: LABELS=full TIMEOUT=900 COST=900
#include "core/runtime/doctor.h"
#include "core/runtime/vulkan/vulkan_backend.h"
#include "tests/runtime/run_support.h"
#include "tests/support/patience.h"

#include <QProcess>
#include <QStandardPaths>
#include <QTest>

#include <filesystem>

using namespace nibble;

/// The doctor on every driver and vector width, each in a process of its own: drivers read their
/// settings once.
class TestVulkanDrivers : public QObject {
    Q_OBJECT

    static QString swiftshader() {
        const QString set = qEnvironmentVariable("NIBBLE_SWIFTSHADER_ICD");
        return set.isEmpty()
                   ? QStandardPaths::writableLocation(QStandardPaths::GenericCacheLocation) +
                         "/nibble/swiftshader/icd.json"
                   : set;
    }

private slots:
    void theDoctorPasses_data() {
        QTest::addColumn<QString>("icd");
        QTest::addColumn<QStringList>("settings");
        const QString lavapipe = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
        // 256 bits, with nothing else changed, is runtime.vulkan_doctor.
        QTest::addRow("lavapipe 128 bits, specialized beforehand, without dot, in pieces")
            << lavapipe
            << QStringList{"LP_NATIVE_VECTOR_WIDTH=128", "NIBBLE_VULKAN_DISABLE=dot,specialization",
                           "NIBBLE_VULKAN_PIECE=1000"};
        // Where a processor has no vectors of 512 bits, compiling for them takes minutes.
        QTest::addRow("lavapipe 512 bits") << lavapipe << QStringList{"LP_NATIVE_VECTOR_WIDTH=512"};
        QTest::addRow("swiftshader") << swiftshader() << QStringList{};
    }
    void theDoctorPasses() {
        QFETCH(QString, icd);
        QFETCH(QStringList, settings);
        if (!std::filesystem::exists(icd.toStdString()))
            QSKIP(qPrintable("no driver at " + icd));
        QProcessEnvironment environment = QProcessEnvironment::systemEnvironment();
        environment.insert("VK_ICD_FILENAMES", icd);
        environment.insert("NIBBLE_VULKAN_VALIDATION", "1");
        environment.insert("NIBBLE_DOCTOR_CHILD", "1");
        for (const QString& setting : settings)
            environment.insert(setting.section('=', 0, 0), setting.section('=', 1));
        QProcess child;
        child.setProcessEnvironment(environment);
        child.start(QCoreApplication::applicationFilePath(), {});
        QVERIFY(child.waitForFinished(test::seconds(600)));
        const QByteArray said = child.readAllStandardOutput() + child.readAllStandardError();
        QVERIFY2(child.exitStatus() == QProcess::NormalExit && child.exitCode() == 0, said);
        QCOMPARE(said.contains(", dot"),
                 !settings.contains("NIBBLE_VULKAN_DISABLE=dot,specialization"));
    }
};

/// Whether a tiny model gives the same logits as on the CPU; two backends round differently: 2
/// layers of 7 products over at most 160 terms, condition number below 100.
bool tinyModelIsRight() {
    const auto model = makeSyntheticModel("tiny");
    std::vector<std::vector<float>> logits;
    for (const auto& backend : {openCpu(CpuMode::Scalar), openVulkan(0)}) {
        const auto runner = test::makeRunner(model, placeAll(*model, backend));
        Session session = runner->newSession();
        std::vector<float>& all = logits.emplace_back();
        all = runner->append(session, std::vector<TokenId>{1, 50, 100, 150, 7}, true);
        for (const TokenId token : {9, 200}) {
            const auto next = runner->append(session, std::vector<TokenId>{token});
            all.insert(all.end(), next.begin(), next.end());
        }
    }
    return test::relativeError(logits[1], logits[0]) < 100.0 * 2 * 7 * 160 * 0x1p-24;
}

int main(int count, char** arguments) {
    if (qEnvironmentVariableIsSet("NIBBLE_DOCTOR_CHILD")) {
        const auto backend = openVulkan(0);
        const DoctorReport report = runDoctor(*backend);
        for (const DoctorCheck& check : report.checks)
            qInfo("%s: %g of %g %s", check.path.c_str(), check.error, check.bound,
                  check.passed ? "" : "WRONG");
        const bool right = tinyModelIsRight();
        qInfo("tiny model: %s", right ? "right" : "WRONG");
        return report.failed() + (right ? 0 : 1);
    }
    qputenv("QTEST_FUNCTION_TIMEOUT", "3600000"); // all rows together; ctest has its own limit
    QCoreApplication application(count, arguments);
    TestVulkanDrivers test;
    return QTest::qExec(&test, count, arguments);
}

#include "test_vulkan_drivers.moc"
