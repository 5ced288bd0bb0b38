// ctest: TIMEOUT=600 ENVIRONMENT=NIBBLE_VULKAN_VALIDATION=1
#include "tests/runtime/family_models.h"

#include <QTemporaryDir>

#include <atomic>

using namespace nibble;
using namespace nibble::test;

namespace {

void checkStates(const Family& f, const PlainTensors& tensors,
                 const std::shared_ptr<const Model>& model,
                 const std::shared_ptr<Backend>& backend) {
    std::vector<TokenId> text, other;
    for (int i = 0; i < 75; ++i) { // more than two pages
        text.push_back((i * 29 + 7 * i * i + 3) % 80);
        other.push_back((i * 31 + 5 * i * i + 1) % 80);
    }
    const auto plain = [&](std::vector<TokenId> tokens) {
        const auto all = PlainDecoder(f.facts, f.shape, f.names, tensors)
                             .logits(std::vector<int>(tokens.begin(), tokens.end()));
        return std::vector<float>(all.end() - f.shape.vocabulary, all.end());
    };
    const auto joined = [](std::vector<TokenId> a, const std::vector<TokenId>& b, size_t from) {
        a.insert(a.end(), b.begin() + static_cast<int64_t>(from), b.end());
        return a;
    };
    const std::vector<float> expected = plain(text);
    const auto same = [&](const std::vector<float>& logits, const std::vector<float>& wanted) {
        return relativeError(logits, wanted) < kRounding;
    };
    const std::span<const TokenId> all(text);
    for (const int32_t rows : {64, 16, 1}) {
        const auto runner = makeRunner(model, placeAll(*model, backend), ActivationFormat::Float,
                                       rows, KvFormat::F32, 6);
        Session session = runner->newSession();
        QVERIFY(same(runner->append(session, text), expected));

        // In pieces that end in the middle of pages, beside another text in the same calls.
        Session a = runner->newSession(), b = runner->newSession();
        std::vector<float> logits;
        for (size_t at = 0, count = 1; at < text.size(); at += count, count = at % 7 + 1) {
            count = std::min(count, text.size() - at);
            std::vector<ForwardRow> call;
            for (size_t i = at; i < at + count; ++i)
                call.push_back({&a, text[i], -1, i + 1 == text.size()});
            for (size_t i = at; i < at + count; ++i)
                call.push_back({&b, other[i], -1, i + 1 == text.size()});
            ForwardIo io;
            io.logits = &logits;
            runner->forward(call, io);
        }
        const auto half = static_cast<int64_t>(logits.size() / 2);
        QVERIFY(same({logits.begin(), logits.begin() + half}, expected));
        QVERIFY(same({logits.begin() + half, logits.end()}, plain(other)));

        // Two that share their past up to the middle of a page.
        Session first = runner->newSession();
        runner->append(first, all.first(45));
        Session second = first.fork();
        runner->append(first, all.subspan(45, 3));
        const auto changed = runner->append(second, std::span(other).subspan(45));
        QVERIFY(same(changed, plain(joined({text.begin(), text.begin() + 45}, other, 45))));
        QVERIFY(same(runner->append(first, all.subspan(48)), expected));

        // Cut in the middle of a page it goes on from the page's start, at its end from there.
        first.truncate(50);
        QCOMPARE(first.length(), 32);
        QVERIFY(same(runner->append(first, all.subspan(32)), expected));
        first.truncate(75);
        QCOMPARE(first.length(), 75);
        first.truncate(64);
        QCOMPARE(first.length(), 64);
        QVERIFY(same(runner->append(first, all.subspan(64)), expected));

        // A call that was cancelled leaves what can go on.
        Session stopped = runner->newSession();
        runner->append(stopped, all.first(40));
        const std::atomic<bool> cancel = true;
        try { // what is recorded already on a GPU runs through
            runner->append(stopped, all.subspan(40, 8), false, nullptr, &cancel);
            QVERIFY(backend->info().kind != "cpu");
        } catch (const Error& error) {
            QCOMPARE(error.kind(), ErrorKind::Cancelled);
            QCOMPARE(stopped.length(), 32);
        }
        QVERIFY(same(runner->append(stopped, all.subspan(size_t(stopped.length()))), expected));
    }
    // Whole layers on another device.
    const auto split = makeRunner(model, {{{0, 1}, openCpu()}, {{1, 4}, backend}});
    Session session = split->newSession();
    QVERIFY(same(split->append(session, text), expected));
    QCOMPARE(split->memory().kv,
             predictMemory(*model, split->options(), [](TensorKey) { return 0; })[0].kv +
                 predictMemory(*model, split->options(), [](TensorKey) { return 0; })[1].kv);
}

} // namespace

/// The states of layers that are convolutions.
class TestConvolutions : public QObject {
    Q_OBJECT
    std::vector<Family> m_families = families();

private slots:

    /// However a text is cut into calls, sessions and forks, a hybrid's states follow.
    void anyCutGivesTheSame_data() {
        QTest::addColumn<bool>("vulkan");
        QTest::addRow("cpu") << false;
        QTest::addRow("vulkan") << true;
    }
    void anyCutGivesTheSame() {
        QFETCH(bool, vulkan);
        std::shared_ptr<Backend> backend = openCpu();
        if (vulkan) {
            NIBBLE_NEED_LAVAPIPE(lavapipe);
            backend = lavapipe;
        }
        const auto f = std::find_if(m_families.begin(), m_families.end(), [](const Family& each) {
            return each.huggingFaceClass == "Lfm2ForCausalLM";
        });
        const QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString();
        const PlainTensors tensors = randomTensors(*f);
        writeFolder(*f, tensors, path);
        const auto model = openModel(path);
        checkStates(*f, tensors, model, backend);
    }
};

QTEST_GUILESS_MAIN(TestConvolutions)
#include "test_convolutions.moc"
