#include "tests/support/shared_data.h"

#include <QDirIterator>
#include <QFile>
#include <QRegularExpression>
#include <QTest>

namespace {

/// A folder of the project and the folders whose headers it may include beside its own.
struct Layer {
    const char* folder;
    QStringList allowed;
};

/// The arrows of the design, from the bottom up.
const std::vector<Layer>& layers() {
    static const QStringList below{"core/base",      "core/tensor", "core/files",
                                   "core/tokenizer", "core/model",  "core/template"};
    static const QStringList running = below + QStringList{"core/runtime"};
    static const QStringList measuring =
        running + QStringList{"core/quant", "core/calibrate", "core/evaluate"};
    static const QStringList serving = measuring + QStringList{"core/serve"};
    static const std::vector<Layer> table{
        {"core/base", {}},
        {"core/template", below.first(1)},
        {"core/tensor", below.first(1)},
        {"core/files", below.first(2)},
        {"core/tokenizer", below.first(3)},
        {"core/model", below.first(4) + QStringList{"core/template"}},
        {"core/runtime", below + QStringList{"vulkan_kernels"}},
        {"core/quant", running},
        {"core/calibrate", running + QStringList{"core/quant"}},
        {"core/evaluate", running + QStringList{"core/quant", "core/calibrate"}},
        {"core/serve", measuring},
        {"app/cli", serving},
        {"app/gui", serving},
        {"vulkan_kernels", {}},
    };
    return table;
}

struct Include {
    QString file, target;
    int line;
    QString where() const {
        return QStringLiteral("%1:%2 includes %3").arg(file).arg(line).arg(target);
    }
};

/// Every include line of a folder's C++ sources, with the file's path from the root.
std::vector<Include> includesIn(const QString& folder) {
    const QDir root(QString::fromStdString(nibble::test::sourcePath("").string()));
    std::vector<Include> found;
    QDirIterator files(root.filePath(folder), {"*.h", "*.cpp"}, QDir::Files,
                       QDirIterator::Subdirectories);
    while (files.hasNext()) {
        QFile file(files.next());
        if (!file.open(QIODevice::ReadOnly))
            continue;
        int line = 0;
        while (!file.atEnd()) {
            const QString text = QString::fromUtf8(file.readLine()).trimmed();
            ++line;
            if (!text.startsWith("#include "))
                continue;
            QString target = text.mid(9).trimmed();
            target = target.mid(1, target.indexOf(target.startsWith('<') ? '>' : '"', 1) - 1);
            found.push_back({root.relativeFilePath(file.fileName()), target, line});
        }
    }
    return found;
}

bool isProject(const QString& target) {
    return target.startsWith("core/") || target.startsWith("app/") ||
           target.startsWith("vulkan_kernels/") || target.startsWith("tests/");
}

bool isVulkan(const QString& target) {
    return target == "volk.h" || target.startsWith("vulkan/");
}

bool isSimd(const QString& target) {
    static const QRegularExpression simd("^(.*intrin|arm_neon|arm_sve)\\.h$");
    return simd.match(target).hasMatch();
}

bool isQt(const QString& target) {
    static const QRegularExpression qt("^(Qt[A-Z].*/)?(Q[A-Z][A-Za-z]*|qt?[a-z]+\\.h)$");
    return qt.match(target).hasMatch();
}

} // namespace

class TestLayering : public QObject {
    Q_OBJECT
private slots:
    void everyLayerIncludesOnlyLowerOnes_data() {
        QTest::addColumn<int>("index");
        for (size_t i = 0; i < layers().size(); ++i)
            QTest::newRow(layers()[i].folder) << static_cast<int>(i);
    }
    void everyLayerIncludesOnlyLowerOnes() {
        QFETCH(int, index);
        const Layer& layer = layers()[static_cast<size_t>(index)];
        QStringList wrong;
        for (const Include& include : includesIn(layer.folder)) {
            if (!isProject(include.target))
                continue;
            QStringList allowed = layer.allowed;
            allowed.append(layer.folder);
            const bool fine = std::any_of(allowed.begin(), allowed.end(), [&](const QString& one) {
                return include.target.startsWith(one + '/');
            });
            if (!fine)
                wrong << include.where();
        }
        QVERIFY2(wrong.isEmpty(), qPrintable(wrong.join("\n")));
    }
    void foreignHeadersStayInTheirPlace() {
        QStringList wrong;
        for (const char* folder : {"core", "app", "vulkan_kernels"})
            for (const Include& include : includesIn(folder)) {
                const bool misplaced =
                    (isVulkan(include.target) &&
                     !include.file.startsWith("core/runtime/vulkan/")) ||
                    (isSimd(include.target) && !include.file.startsWith("core/runtime/cpu/")) ||
                    (isQt(include.target) && !include.file.startsWith("app/gui/"));
                if (misplaced)
                    wrong << include.where();
            }
        QVERIFY2(wrong.isEmpty(), qPrintable(wrong.join("\n")));
    }
    void theRulesSeeWhatTheyAreFor() {
        QVERIFY(isQt("QString") && isQt("QtCore/QObject") && isQt("qglobal.h"));
        QVERIFY(!isQt("core/quant/recipe.h") && !isQt("queue") && !isQt("volk.h"));
        QVERIFY(isVulkan("volk.h") && isVulkan("vulkan/vulkan.h"));
        QVERIFY(!isVulkan("core/runtime/vulkan/vulkan_backend.h"));
        QVERIFY(isSimd("immintrin.h") && isSimd("x86intrin.h") && !isSimd("cstring"));
        QVERIFY(includesIn("core").size() > 100);
    }
};

QTEST_GUILESS_MAIN(TestLayering)
#include "test_layering.moc"
