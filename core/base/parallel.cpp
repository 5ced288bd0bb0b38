#include "core/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace nibble {
namespace {

/// One parallelFor call: ranges are handed out from a counter.
struct Job {
    const std::function<void(size_t, size_t)>* body;
    size_t count, grain, share;
    std::atomic<size_t> next{0};
    std::atomic<int> running{0};
    std::exception_ptr error; ///< of the first range that failed: the same on every run
    size_t errorAt = 0;
    std::mutex errorMutex;

    void work() {
        size_t begin = next.load();
        for (;;) {
            if (begin >= count)
                return;
            const size_t end = std::min(count, begin + std::max(grain, (count - begin) / share));
            if (!next.compare_exchange_weak(begin, end))
                continue;
            try {
                (*body)(begin, end);
            } catch (...) {
                const std::scoped_lock lock(errorMutex);
                if (!error || begin < errorAt) {
                    error = std::current_exception();
                    errorAt = begin;
                }
                next.store(count);
            }
            begin = next.load();
        }
    }
};

thread_local bool insideBody = false;

/// How long a thread that waits looks again and again before it sleeps. Waking one takes some 50 µs
/// on a virtual machine, as long as the steps of a small model's layer; between the steps of a
/// token there is always less than this.
constexpr std::chrono::microseconds kPatience(100);

/// Whether `done` came true while looking. Other threads that want this core get it.
template <typename Done>
bool comesSoon(const Done& done) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    do {
        for (int i = 0; i < 64; ++i) {
            if (done())
                return true;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
        std::this_thread::yield();
    } while (std::chrono::steady_clock::now() < end);
    return done();
}

/// Threads that sleep until a job comes. One job runs at a time; a second caller works alone.
class Pool {
public:
    explicit Pool(int threads) {
        for (int i = 1; i < threads; ++i)
            m_threads.emplace_back([this] { loop(); });
    }
    ~Pool() {
        {
            const std::scoped_lock lock(m_mutex);
            m_stop = true;
        }
        m_wake.notify_all();
        for (auto& thread : m_threads)
            thread.join();
    }

    bool run(Job& job) {
        const std::unique_lock turn(m_turn, std::try_to_lock);
        if (!turn.owns_lock())
            return false;
        {
            const std::scoped_lock lock(m_mutex);
            m_job = &job;
            ++m_generation;
        }
        m_wake.notify_all();
        insideBody = true;
        job.work();
        insideBody = false;
        {
            const std::scoped_lock lock(m_mutex);
            m_job = nullptr; // whoever did not join by now need not
        }
        const auto finished = [&] { return job.running == 0; };
        if (!comesSoon(finished)) {
            std::unique_lock lock(m_mutex);
            m_done.wait(lock, finished);
        }
        return true;
    }

private:
    void loop() {
        insideBody = true;
        uint64_t seen = 0;
        for (;;) {
            const bool came = comesSoon([&] { return m_generation != seen; });
            std::unique_lock lock(m_mutex);
            if (!came)
                m_wake.wait(lock, [&] { return m_stop || (m_job && m_generation != seen); });
            if (m_stop)
                return;
            seen = m_generation;
            Job* job = m_job;
            if (!job)
                continue; // done without this thread
            ++job->running;
            lock.unlock();
            job->work();
            lock.lock();
            if (--job->running == 0)
                m_done.notify_all();
        }
    }

    std::vector<std::thread> m_threads;
    std::mutex m_turn, m_mutex;
    std::condition_variable m_wake, m_done;
    Job* m_job = nullptr;
    std::atomic<uint64_t> m_generation{0}; ///< counts jobs
    bool m_stop = false;
};

} // namespace

int threadCount() {
    static const int count = [] {
        if (const char* text = std::getenv("NIBBLE_THREADS"))
            if (const int n = std::atoi(text); n > 0)
                return std::min(n, 256);
        return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    }();
    return count;
}

void parallelFor(size_t count, size_t grain,
                 const std::function<void(size_t begin, size_t end)>& body) {
    if (count == 0)
        return;
    const size_t threads = static_cast<size_t>(threadCount());
    grain = std::max<size_t>(grain, 1);
    if (threads == 1 || insideBody || count <= grain) {
        body(0, count);
        return;
    }
    Job job;
    job.body = &body;
    job.count = count;
    job.grain = grain;
    // Of what is left, half of a thread's share: few pieces, and the last ones are small, so that
    // no thread waits long for another.
    job.share = 2 * threads;
    static Pool pool(threadCount());
    if (!pool.run(job))
        job.work();
    if (job.error)
        std::rethrow_exception(job.error);
}

} // namespace nibble
