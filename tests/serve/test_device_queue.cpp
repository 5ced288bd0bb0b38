#include "core/serve/device_queue.h"

#include <QTest>
#include <chrono>
#include <future>
#include <mutex>
#include <thread>

using namespace nibble;
using namespace std::chrono_literals;

namespace {

/// What happened, in order, written from the device thread and read after drain().
class Log {
public:
    void add(const std::string& what) {
        const std::lock_guard lock(m_mutex);
        m_text += what + " ";
    }
    std::string text() {
        const std::lock_guard lock(m_mutex);
        return m_text;
    }

private:
    std::mutex m_mutex;
    std::string m_text;
};

/// A job that holds the device until it is let go.
struct Gate {
    std::promise<void> entered, open;
    std::shared_future<void> opened = open.get_future().share();
    void operator()() {
        entered.set_value();
        opened.wait();
    }
};

int kindOf(const Error* error) {
    return error ? error->exitCode() : 0;
}

} // namespace

class TestDeviceQueue : public QObject {
    Q_OBJECT
private slots:
    /// A paused job stands still, lets more urgent work in, and goes on or ends when told.
    void aPausedJobStandsStill() {
        for (const bool cancels : {false, true}) {
            std::atomic<int> steps{0};
            std::promise<int> ended;
            DeviceQueue queue;
            const auto ticket = queue.post(
                Priority::Measure, "",
                [&](const Progress& progress) {
                    for (int i = 0; i < 50; ++i) {
                        progress.check();
                        ++steps;
                        std::this_thread::sleep_for(2ms);
                    }
                },
                [&](const Error* error) { ended.set_value(kindOf(error)); });
            while (steps < 3)
                std::this_thread::sleep_for(1ms);
            ticket.setPaused(true);
            std::this_thread::sleep_for(60ms);
            const int at = steps;
            std::promise<void> answered;
            queue.post(Priority::Chat, "", [&](const Progress&) { answered.set_value(); });
            QVERIFY(answered.get_future().wait_for(5s) == std::future_status::ready);
            std::this_thread::sleep_for(60ms);
            QCOMPARE(int(steps), at);
            QVERIFY(at < 50);
            if (cancels)
                ticket.requestCancel();
            else
                ticket.setPaused(false);
            QCOMPARE(ended.get_future().get(), cancels ? 7 : 0);
            QCOMPARE(int(steps), cancels ? at : 50);
        }
    }

    void urgentFirstThenInOrder() {
        Log log;
        DeviceQueue queue;
        Gate gate;
        queue.post(Priority::Chat, "", [&](const Progress&) { gate(); });
        gate.entered.get_future().wait();
        const auto note = [&](const char* what) {
            return [&log, what](const Progress&) { log.add(what); };
        };
        queue.post(Priority::Calibrate, "", note("calibrate"));
        queue.post(Priority::Measure, "", note("measure1"));
        queue.post(Priority::Measure, "", note("measure2"));
        queue.post(Priority::Chat, "", note("chat"));
        gate.open.set_value();
        queue.drain();
        QCOMPARE(log.text(), std::string("chat measure1 measure2 calibrate "));
    }
    void newestOfATagWins() {
        Log log;
        DeviceQueue queue;
        Gate gate;
        queue.post(Priority::Chat, "", [&](const Progress&) { gate(); });
        gate.entered.get_future().wait();
        for (const char* name : {"a", "b", "c"})
            queue.post(
                Priority::Measure, "slider", [&log, name](const Progress&) { log.add(name); },
                [&log, name](const Error* error) {
                    log.add(name + std::to_string(kindOf(error)));
                });
        queue.post(Priority::Measure, "other", [&](const Progress&) { log.add("other"); });
        gate.open.set_value();
        queue.drain();
        QCOMPARE(log.text(), std::string("a7 b7 c c0 other "));
    }
    void measurementYieldsToChatOnTheSameThread() {
        Log log;
        DeviceQueue queue;
        std::promise<void> started;
        std::atomic<bool> posted = false;
        std::thread::id outer, inner;
        queue.post(
            Priority::Measure, "",
            [&](const Progress& progress) {
                outer = std::this_thread::get_id();
                log.add("begin");
                started.set_value();
                while (!posted)
                    std::this_thread::sleep_for(1ms);
                progress.check();
                log.add("end");
            },
            [&](const Error*) { log.add("measured"); });
        started.get_future().wait();
        queue.post(Priority::Calibrate, "", [&](const Progress&) { log.add("calibrate"); });
        queue.post(Priority::Chat, "", [&](const Progress& progress) {
            inner = std::this_thread::get_id();
            progress.check(); // nothing is more urgent than a chat
            log.add("chat");
        });
        posted = true;
        queue.drain();
        QCOMPARE(log.text(), std::string("begin chat end measured calibrate "));
        QVERIFY(outer == inner);
    }
    void failureInsideAYieldStaysThere() {
        Log log;
        DeviceQueue queue;
        std::promise<void> started;
        std::atomic<bool> posted = false;
        queue.post(
            Priority::Measure, "",
            [&](const Progress& progress) {
                started.set_value();
                while (!posted)
                    std::this_thread::sleep_for(1ms);
                progress.check();
            },
            [&](const Error* error) { log.add("measure" + std::to_string(kindOf(error))); });
        started.get_future().wait();
        queue.post(
            Priority::Chat, "", [](const Progress&) { fail(ErrorKind::BadInput, "planted"); },
            [&](const Error* error) { log.add("chat" + std::to_string(kindOf(error))); });
        queue.post(
            Priority::Chat, "", [](const Progress&) { throw std::bad_alloc(); },
            [&](const Error* error) { log.add("memory" + std::to_string(kindOf(error))); });
        posted = true;
        queue.drain();
        QCOMPARE(log.text(), std::string("chat3 memory5 measure0 "));
    }
    void cancelEndsWithin250Milliseconds() {
        DeviceQueue queue;
        std::promise<void> started;
        int kind = -1;
        const auto ticket = queue.post(
            Priority::Measure, "",
            [&](const Progress& progress) {
                started.set_value();
                while (true) {
                    progress.check();
                    std::this_thread::sleep_for(5ms);
                }
            },
            [&](const Error* error) { kind = kindOf(error); });
        started.get_future().wait();
        const auto start = std::chrono::steady_clock::now();
        ticket.requestCancel();
        queue.drain();
        QVERIFY(std::chrono::steady_clock::now() - start < 250ms);
        QCOMPARE(kind, 7);
    }
    void destructionCancelsAndDropsEverything() {
        Log log;
        {
            DeviceQueue queue;
            std::promise<void> started;
            queue.post(
                Priority::Measure, "",
                [&](const Progress& progress) {
                    started.set_value();
                    while (true) {
                        progress.check();
                        std::this_thread::sleep_for(1ms);
                    }
                },
                [&](const Error* error) { log.add("running" + std::to_string(kindOf(error))); });
            started.get_future().wait();
            queue.post(
                Priority::Measure, "", [&](const Progress&) { log.add("never"); },
                [&](const Error* error) { log.add("waiting" + std::to_string(kindOf(error))); });
        }
        const std::string text = log.text();
        QVERIFY(text.find("running7") != std::string::npos);
        QVERIFY(text.find("waiting7") != std::string::npos);
        QVERIFY(text.find("never") == std::string::npos);
    }
    void manyThreadsMayPost() {
        constexpr int kThreads = 4, kJobs = 200;
        DeviceQueue queue;
        int sum = 0; // only the device thread touches it
        std::atomic<int> finished = 0;
        std::vector<std::thread> threads;
        for (int t = 0; t < kThreads; ++t)
            threads.emplace_back([&, t] {
                for (int i = 0; i < kJobs; ++i)
                    queue.post(
                        static_cast<Priority>(i % 3), i % 5 == 0 ? "t" + std::to_string(t) : "",
                        [&](const Progress& progress) {
                            ++sum;
                            progress.check();
                        },
                        [&](const Error*) { ++finished; });
            });
        for (std::thread& thread : threads)
            thread.join();
        queue.drain();
        QCOMPARE(finished.load(), kThreads * kJobs);
        QVERIFY(sum >= kThreads * kJobs * 4 / 5);
    }
};

QTEST_GUILESS_MAIN(TestDeviceQueue)
#include "test_device_queue.moc"
