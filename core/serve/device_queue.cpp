#include "core/serve/device_queue.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <new>
#include <optional>
#include <thread>

namespace nibble {

namespace {

/// How often a paused job looks whether it goes on.
constexpr std::chrono::milliseconds kPausedLook{30};

struct Job {
    Priority priority{};
    std::string tag;
    std::function<void(const Progress&)> work;
    std::function<void(const Error*)> finished;
    std::function<void(double, double, std::string_view)> onReport;
    std::shared_ptr<std::atomic<bool>> cancel, pause;
    bool replaced = false; ///< a newer job with its tag was posted

    bool dropped() const { return replaced || cancel->load(); }
};

std::optional<Error> run(const std::function<void(const Progress&)>& work,
                         const Progress& progress) {
    try {
        work(progress);
    } catch (const Error& error) {
        return error;
    } catch (const std::bad_alloc&) {
        return Error(ErrorKind::OutOfMemory,
                     "There is not enough memory for this; close other programs, or choose a "
                     "smaller level or context.");
    } catch (const std::exception& error) {
        return Error(ErrorKind::Internal, std::string("Unexpected failure: ") + error.what());
    }
    return std::nullopt;
}

} // namespace

struct DeviceQueue::State {
    std::mutex mutex;
    std::condition_variable arrived, idle;
    std::list<Job> waiting;                                  ///< in order of arrival
    std::vector<std::shared_ptr<std::atomic<bool>>> running; ///< nested jobs, innermost last
    bool stopping = false, busy = false;
    std::thread thread;

    /// The next job to take: any dropped one, else the first of the most urgent priority that is
    /// more urgent than `limit`. The lock is held.
    std::list<Job>::iterator next(int limit) {
        auto best = waiting.end();
        for (auto job = waiting.begin(); job != waiting.end(); ++job) {
            if (stopping || job->dropped())
                return job;
            if (static_cast<int>(job->priority) < limit &&
                (best == waiting.end() || job->priority < best->priority))
                best = job;
        }
        return best;
    }

    /// Takes the job out and runs it; the lock is held on entry and on return.
    void perform(std::unique_lock<std::mutex>& lock, std::list<Job>::iterator where) {
        std::list<Job> taken; // destroyed without the lock: what it captured may post again
        taken.splice(taken.end(), waiting, where);
        const Job& job = taken.front();
        const bool drop = stopping || job.dropped();
        if (!drop)
            running.push_back(job.cancel);
        lock.unlock();

        std::optional<Error> error;
        if (drop) {
            error.emplace(ErrorKind::Cancelled, "Cancelled.");
        } else {
            Progress progress;
            progress.cancel = job.cancel;
            progress.onReport = job.onReport;
            progress.onCheck = [this, &job] { yield(job); };
            error = run(job.work, progress);
        }
        if (job.finished)
            job.finished(error ? &*error : nullptr);
        taken.clear();

        lock.lock();
        if (!drop)
            running.pop_back();
    }

    /// Runs waiting work that is more urgent than a running job, and holds the job while it is
    /// paused.
    void yield(const Job& held) {
        const int limit = static_cast<int>(held.priority);
        std::unique_lock lock(mutex);
        for (;;) {
            for (auto job = next(limit); job != waiting.end(); job = next(limit))
                perform(lock, job);
            if (!held.pause->load() || held.cancel->load() || stopping)
                return;
            arrived.wait_for(lock, kPausedLook);
        }
    }

    void loop() {
        constexpr int kAny = 1 + static_cast<int>(Priority::Calibrate);
        std::unique_lock lock(mutex);
        while (true) {
            arrived.wait(lock, [&] { return stopping || !waiting.empty(); });
            busy = true;
            for (auto job = next(kAny); job != waiting.end(); job = next(kAny))
                perform(lock, job);
            busy = false;
            idle.notify_all();
            if (stopping)
                return;
        }
    }
};

DeviceQueue::DeviceQueue() : m_state(std::make_unique<State>()) {
    m_state->thread = std::thread([state = m_state.get()] { state->loop(); });
}

DeviceQueue::~DeviceQueue() {
    {
        const std::lock_guard lock(m_state->mutex);
        m_state->stopping = true;
        for (const auto& cancel : m_state->running)
            cancel->store(true);
    }
    m_state->arrived.notify_all();
    m_state->thread.join();
}

DeviceQueue::Ticket
DeviceQueue::post(Priority priority, std::string tag, std::function<void(const Progress&)> work,
                  std::function<void(const Error*)> finished,
                  std::function<void(double done, double total, std::string_view what)> onReport) {
    Ticket ticket{std::make_shared<std::atomic<bool>>(false),
                  std::make_shared<std::atomic<bool>>(false)};
    {
        const std::lock_guard lock(m_state->mutex);
        if (!tag.empty())
            for (Job& job : m_state->waiting)
                if (job.tag == tag)
                    job.replaced = true;
        m_state->waiting.push_back({priority, std::move(tag), std::move(work), std::move(finished),
                                    std::move(onReport), ticket.cancel, ticket.pause});
    }
    m_state->arrived.notify_all();
    return ticket;
}

void DeviceQueue::drain() {
    std::unique_lock lock(m_state->mutex);
    m_state->idle.wait(lock, [&] { return m_state->waiting.empty() && !m_state->busy; });
}

} // namespace nibble
