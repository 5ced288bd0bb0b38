// ctest: TIMEOUT=900
#include "core/base/error.h"
#include "core/base/resources.h"
#include "core/calibrate/cache.h"
#include "core/calibrate/calibrate.h"

#include <QFile>
#include <QTemporaryDir>
#include <QTest>
#include <chrono>
#include <fstream>

using namespace nibble;
namespace fs = std::filesystem;

namespace {

std::shared_ptr<const Model> sample() {
    static const auto model = openModel(resourcePath("sample_model/nibble-sample-f16.gguf"));
    return model;
}

CalibrateOptions few() {
    CalibrateOptions options;
    options.context = 64;
    options.windows = 3;
    return options;
}

std::shared_ptr<const Calibration> make(const CalibrateOptions& options = few(),
                                        const Progress& progress = {}) {
    return calibrate(sample(), shippedCalibrationText(), options, progress);
}

/// Made in memory, without a cache.
const Calibration& reference() {
    static const auto made = [] {
        CalibrateOptions options = few();
        options.cached = false;
        return make(options);
    }();
    return *made;
}

/// Stops when `layer` is about to begin, and counts the layers begun.
struct Stop {
    explicit Stop(int layer) {
        progress.cancel = std::make_shared<std::atomic<bool>>(false);
        progress.onReport = [this, layer](double done, double, std::string_view) {
            if (int(done) == layer)
                *progress.cancel = true;
        };
    }
    Progress progress;
};

void compare(const Calibration& a, const Calibration& b, bool moments = true) {
    QCOMPARE(a.text, b.text);
    QCOMPARE(a.textHash, b.textHash);
    QCOMPARE(a.tokens, b.tokens);
    QCOMPARE(a.inputs.size(), b.inputs.size());
    for (const auto& [key, left] : a.inputs) {
        const InputStatistics& right = b.get(key);
        QCOMPARE(left.tokens, right.tokens);
        QVERIFY(!left.samples.empty() && !left.percentiles.empty());
        QVERIFY(left.meanSquare == right.meanSquare && left.meanAbs == right.meanAbs &&
                left.absMax == right.absMax && left.percentiles == right.percentiles &&
                left.samples == right.samples);
        if (!moments)
            continue;
        const auto m = a.moments(key, {}), n = b.moments(key, {});
        QVERIFY(m && n);
        QCOMPARE(m->size, n->size);
        QCOMPARE(m->tokens, n->tokens);
        QVERIFY(m->values == n->values);
    }
}

} // namespace

class TestCache : public QObject {
    Q_OBJECT
private slots:
    void init() {
        m_cache = std::make_unique<QTemporaryDir>();
        qputenv("XDG_CACHE_HOME", m_cache->path().toUtf8());
    }

    void whatIsKeptIsTheSameBitForBit() {
        const auto first = make();
        QVERIFY(!first->kept);
        compare(reference(), *first);
        const auto second = make();
        QVERIFY(second->kept);
        compare(reference(), *second);
        QVERIFY(!fs::exists(folder() / "hidden.gguf"));
        QVERIFY(second->moments({Role::Key, 99}, {}) == nullptr);
    }

    void otherTextsContextsAndSamplesAreOthers() {
        make();
        CalibrateOptions options = few();
        options.windows = 2;
        QVERIFY(!make(options)->kept);
        options = few();
        options.context = 32;
        QVERIFY(!make(options)->kept);
        options = few();
        options.sampleRows = 16;
        QVERIFY(!make(options)->kept);
        EvaluationText text = shippedCalibrationText();
        text.text.back() = '!';
        QVERIFY(!calibrate(sample(), text, few())->kept);
        QVERIFY(make()->kept);
    }

    /// Statistics alone serve who wants no moments, and not who does.
    void momentsAreAddedWhenWanted() {
        CalibrateOptions without = few();
        without.moments = false;
        QVERIFY(!make(without)->kept);
        QVERIFY(make(without)->kept);
        const auto with = make();
        QVERIFY(!with->kept);
        compare(reference(), *with);
        QVERIFY(make(without)->kept);
    }

    void momentsThatDoNotFitAreComputedWhenAsked() {
        CalibrateOptions tight = few();
        tight.momentBytes = 1000;
        make(tight);
        const auto kept = make(tight);
        QVERIFY(kept->kept);
        compare(reference(), *kept);
    }

    /// Stopped after any number of layers it goes on there.
    void aCancelledPassGoesOn_data() {
        QTest::addColumn<int>("layer");
        for (int layer = 1; layer <= sample()->config.layers; layer += 2)
            QTest::newRow(QByteArray::number(layer)) << layer;
    }
    void aCancelledPassGoesOn() {
        QFETCH(int, layer);
        Stop stop(layer);
        QVERIFY_EXCEPTION_THROWN(make(few(), stop.progress), Error);
        QVERIFY(fs::exists(layerFile(layer - 1)));
        QVERIFY(!fs::exists(layerFile(layer)));
        const auto hidden = CalibrationCache(folder().parent_path(), "another").findHidden(1);
        QVERIFY(!hidden);
        const auto before = fs::last_write_time(layerFile(layer - 1));
        compare(reference(), *make());
        QVERIFY(fs::last_write_time(layerFile(layer - 1)) == before);
        QVERIFY(make()->kept);
    }

    /// The kept rows are really gone on from: with other rows the next layer sees other inputs.
    void hiddenRowsAreGoneOnFrom() {
        Stop stop(3);
        QVERIFY_EXCEPTION_THROWN(make(few(), stop.progress), Error);
        const auto file = openCheckpoint(folder() / "hidden.gguf");
        const std::string identity = file->metadata.stringOr("calibration.identity", {});
        const CalibrationCache cache(folder().parent_path(), identity);
        QCOMPARE(cache.folder(), folder());
        auto hidden = cache.findHidden(size_t(3 * 64 * sample()->config.width));
        QVERIFY(hidden);
        QCOMPARE(hidden->next, 3);
        for (float& value : hidden->rows)
            value *= -2;
        cache.storeHidden(3, hidden->rows, 3, {});
        const auto made = make();
        QVERIFY(made->get({Role::Gate, 2}).absMax == reference().get({Role::Gate, 2}).absMax);
        QVERIFY(made->get({Role::Gate, 3}).absMax != reference().get({Role::Gate, 3}).absMax);
    }

    void withoutHiddenRowsTheLayersRunAgain() {
        Stop stop(3);
        QVERIFY_EXCEPTION_THROWN(make(few(), stop.progress), Error);
        fs::remove(folder() / "hidden.gguf");
        compare(reference(), *make());
    }

    /// Any byte changed or missing in a layer's file: made again, and right.
    void damagedFilesAreMadeAgain_data() {
        QTest::addColumn<double>("place"); // as a share of the file
        QTest::addColumn<bool>("cut");
        for (const double place : {0.0, 0.001, 0.01, 0.2, 0.4, 0.9, 0.999}) {
            QTest::addRow("changed at %g", place) << place << false;
            QTest::addRow("cut at %g", place) << place << true;
        }
    }
    void damagedFilesAreMadeAgain() {
        QFETCH(double, place);
        QFETCH(bool, cut);
        make();
        QFile file(QString::fromStdString(layerFile(2).string()));
        QVERIFY(file.open(QIODevice::ReadWrite));
        const auto at = qint64(place * double(file.size()));
        if (cut) {
            QVERIFY(file.resize(at));
        } else {
            file.seek(at);
            char byte = 0;
            QVERIFY(file.getChar(&byte));
            file.seek(at);
            QVERIFY(file.putChar(char(byte ^ 0x55)));
        }
        file.close();
        compare(reference(), *make());
    }
    void aForeignFileIsIgnored() {
        make();
        // The same identity, but the head's, which names no layer.
        fs::copy_file(layerFile(sample()->config.layers), layerFile(2),
                      fs::copy_options::overwrite_existing);
        const auto made = make();
        QVERIFY(!made->kept);
        compare(reference(), *made);
        std::ofstream(layerFile(0)) << "not a file of ours";
        compare(reference(), *make());
    }

    void withoutAPlaceItWorksAllTheSame() {
        qputenv("XDG_CACHE_HOME", "/dev/null");
        const auto made = make();
        QVERIFY(!made->kept);
        compare(reference(), *made);
        qputenv("XDG_CACHE_HOME", m_cache->path().toUtf8());
        CalibrateOptions options = few();
        options.cached = false;
        make(options);
        QVERIFY(!fs::exists(root()));
    }

    void theOldestGoFirst() {
        const auto now = fs::file_time_type::clock::now();
        for (int i = 0; i < 5; ++i) {
            const fs::path each = root() / std::to_string(i);
            fs::create_directories(each);
            std::ofstream(each / "layer").write(std::string(1000, 'x').data(), 1000);
            fs::last_write_time(each, now - std::chrono::hours(i));
        }
        keepWithin(root(), 3500, root() / "4"); // the oldest, but in use
        QVERIFY(fs::exists(root() / "0") && fs::exists(root() / "1") && fs::exists(root() / "4"));
        QVERIFY(!fs::exists(root() / "2") && !fs::exists(root() / "3"));
        keepWithin(root(), 0, root() / "4");
        QVERIFY(!fs::exists(root() / "0") && fs::exists(root() / "4"));
    }

    /// Closing a model lets go of the calibration that was shared for it.
    void aClosedModelTakesItsCalibrationAlong() {
        auto model = openModel(resourcePath("sample_model/nibble-sample-f16.gguf"));
        std::weak_ptr<const Model> watched = model;
        const fs::path text = m_cache->path().toStdString() + "/text.txt";
        std::ofstream(text) << shippedCalibrationText().text.substr(0, 5000);
        std::weak_ptr<const Calibration> calibration = sharedCalibration(model, {}, text);
        QVERIFY(!calibration.expired());
        auto held = sharedCalibration(model, {}, text);
        QVERIFY(held == calibration.lock());
        model.reset();
        QVERIFY(watched.expired());
        held.reset();
        QVERIFY(calibration.expired());
    }

private:
    fs::path root() const { return m_cache->path().toStdString() + "/nibble/calibrations"; }
    fs::path folder() const {
        for (const auto& entry : fs::directory_iterator(root()))
            return entry.path();
        return {};
    }
    fs::path layerFile(int layer) const {
        return folder() / QString::asprintf("layer-%04d.gguf", layer).toStdString();
    }
    std::unique_ptr<QTemporaryDir> m_cache;
};

QTEST_APPLESS_MAIN(TestCache)
#include "test_cache.moc"
