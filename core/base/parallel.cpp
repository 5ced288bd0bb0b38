#include "core/base/parallel.h"

#include <algorithm>
#include <atomic>
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
    size_t count, chunk;
    std::atomic<size_t> next{0};
    std::atomic<int> running{0};
    std::exception_ptr error;
    std::mutex errorMutex;

    void work() {
        for (;;) {
            const size_t begin = next.fetch_add(chunk);
            if (begin >= count)
                return;
            try {
                (*body)(begin, std::min(begin + chunk, count));
            } catch (...) {
                const std::scoped_lock lock(errorMutex);
                if (!error)
                    error = std::current_exception();
                next.store(count);
            }
        }
    }
};

thread_local bool insideBody = false;

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
        std::unique_lock lock(m_mutex);
        m_job = nullptr;
        m_done.wait(lock, [&] { return job.running == 0; });
        return true;
    }

private:
    void loop() {
        insideBody = true;
        uint64_t seen = 0;
        std::unique_lock lock(m_mutex);
        for (;;) {
            m_wake.wait(lock, [&] { return m_stop || (m_job && m_generation != seen); });
            if (m_stop)
                return;
            seen = m_generation;
            Job* job = m_job;
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
    uint64_t m_generation = 0;
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
    // About four chunks a thread even out unequal rows without much hand-out cost.
    job.chunk = std::max(grain, (count + threads * 4 - 1) / (threads * 4));
    static Pool pool(threadCount());
    if (!pool.run(job))
        job.work();
    if (job.error)
        std::rethrow_exception(job.error);
}

} // namespace nibble
