#include "app/gui/jobs.h"

#include <QThread>

#include <algorithm>
#include <new>

namespace nibble {

struct Jobs::Shared {
    std::mutex mutex;
    double done = 0, total = 0;
    std::string stage;
};

struct Jobs::Job {
    quint64 id = 0;
    QString tag, title;
    QPointer<QObject> receiver;
    bool hadReceiver = false;
    std::function<void(const Failure&)> failed;
    std::shared_ptr<Shared> shared = std::make_shared<Shared>();
    std::shared_ptr<std::atomic<bool>> cancel = std::make_shared<std::atomic<bool>>(false);
    std::shared_ptr<std::atomic<bool>> pause = std::make_shared<std::atomic<bool>>(false);
    DeviceQueue::Ticket ticket;
    QElapsedTimer clock, pausedClock;
    qint64 pausedMs = 0; ///< before the present pause

    qint64 elapsedMs() const {
        return clock.elapsed() - pausedMs - (pause->load() ? pausedClock.elapsed() : 0);
    }
};

namespace {

Failure asFailure(const Error& error) {
    return {error.kind(), QString::fromStdString(error.what())};
}

/// Runs work and turns whatever it throws into an Error, the only exception that jobs know.
template <typename F>
void withErrors(F&& work) {
    try {
        work();
    } catch (const Error&) {
        throw;
    } catch (const std::bad_alloc&) {
        fail(ErrorKind::OutOfMemory,
             "This computer ran out of memory. Close other programs or choose a smaller level.");
    } catch (const std::exception& problem) {
        fail(ErrorKind::Internal, "Something went wrong inside Nibble: {}", problem.what());
    }
}

} // namespace

double Jobs::Info::secondsLeft() const {
    if (total <= 0 || done <= 0 || elapsedMs < 300)
        return -1;
    return double(elapsedMs) / 1000.0 * (total - done) / done;
}

Jobs::Jobs(QObject* parent) : QObject(parent), m_queue(std::make_unique<DeviceQueue>()) {
    m_tick.setInterval(100);
    connect(&m_tick, &QTimer::timeout, this, &Jobs::changed);
}

Jobs::~Jobs() {
    cancelAll();
    m_pool.waitForDone();
    m_queue.reset();
}

std::shared_ptr<Jobs::Job> Jobs::add(const QString& tag, const QString& title, QObject* receiver,
                                     std::function<void(const Failure&)> failed) {
    auto job = std::make_shared<Job>();
    job->id = m_next++;
    job->tag = tag;
    job->title = title;
    job->receiver = receiver;
    job->hadReceiver = receiver != nullptr;
    job->failed = std::move(failed);
    job->clock.start();
    m_jobs.push_back(job);
    if (!m_tick.isActive())
        m_tick.start();
    return job;
}

quint64 Jobs::startOnDevice(Priority priority, const QString& tag, const QString& title,
                            QObject* receiver, Work work,
                            std::function<void(const Failure&)> failed) {
    auto job = add(tag, title, receiver, std::move(failed));
    auto deliver = std::make_shared<Deliver>();
    const quint64 id = job->id;
    job->ticket = m_queue->post(
        priority, tag.toStdString(),
        [job, deliver, work = std::move(work)](const Progress& progress) {
            job->clock.restart();
            withErrors([&] { *deliver = work(progress); });
        },
        [this, id, deliver](const Error* error) {
            const auto failure = error ? std::make_shared<Failure>(asFailure(*error)) : nullptr;
            QMetaObject::invokeMethod(
                this, [this, id, deliver, failure] { finish(id, *deliver, failure.get()); },
                Qt::QueuedConnection);
        },
        [shared = job->shared](double done, double total, std::string_view what) {
            const std::scoped_lock lock(shared->mutex);
            shared->done = done;
            shared->total = total;
            shared->stage = what;
        });
    emit changed();
    return id;
}

quint64 Jobs::startOnPool(const QString& tag, const QString& title, QObject* receiver, Work work,
                          std::function<void(const Failure&)> failed) {
    if (!tag.isEmpty())
        for (const auto& other : m_jobs)
            if (other->tag == tag)
                other->cancel->store(true);
    auto job = add(tag, title, receiver, std::move(failed));
    Progress progress;
    progress.cancel = job->cancel;
    progress.onCheck = [this, cancel = job->cancel, pause = job->pause] {
        if (!pause->load())
            return;
        m_pool.releaseThread(); // others may use it meanwhile
        while (pause->load() && !cancel->load())
            QThread::msleep(30);
        m_pool.reserveThread();
    };
    progress.onReport = [shared = job->shared](double done, double total, std::string_view what) {
        const std::scoped_lock lock(shared->mutex);
        shared->done = done;
        shared->total = total;
        shared->stage = what;
    };
    m_pool.start([this, id = job->id, progress, work = std::move(work)] {
        Deliver deliver;
        std::shared_ptr<Failure> failure;
        try {
            withErrors([&] {
                progress.check();
                deliver = work(progress);
            });
        } catch (const Error& error) {
            failure = std::make_shared<Failure>(asFailure(error));
        }
        QMetaObject::invokeMethod(
            this, [this, id, deliver, failure] { finish(id, deliver, failure.get()); },
            Qt::QueuedConnection);
    });
    emit changed();
    return job->id;
}

void Jobs::finish(quint64 id, const Deliver& deliver, const Failure* failure) {
    const auto at =
        std::find_if(m_jobs.begin(), m_jobs.end(), [id](const auto& job) { return job->id == id; });
    if (at == m_jobs.end())
        return;
    const auto job = *at;
    m_jobs.erase(at);
    if (m_jobs.empty())
        m_tick.stop();
    if (!job->hadReceiver || job->receiver) {
        if (failure && job->failed)
            job->failed(*failure);
        else if (!failure && deliver)
            deliver();
    }
    emit changed();
}

std::function<void(std::function<void()>)> Jobs::poster(QObject* receiver) {
    return [this, alive = QPointer<QObject>(receiver)](std::function<void()> call) {
        QMetaObject::invokeMethod(
            this,
            [alive, call = std::move(call)] {
                if (alive)
                    call();
            },
            Qt::QueuedConnection);
    };
}

void Jobs::setPaused(quint64 id, bool paused) {
    for (const auto& job : m_jobs)
        if (job->id == id && job->pause->load() != paused) {
            if (paused)
                job->pausedClock.start();
            else
                job->pausedMs += job->pausedClock.elapsed();
            job->pause->store(paused);
            job->ticket.setPaused(paused);
            emit changed();
        }
}

void Jobs::cancel(quint64 id) {
    for (const auto& job : m_jobs)
        if (job->id == id) {
            job->cancel->store(true);
            job->ticket.requestCancel();
        }
}

void Jobs::cancelAll() {
    for (const auto& job : m_jobs) {
        job->cancel->store(true);
        job->ticket.requestCancel();
    }
}

bool Jobs::isRunning(quint64 id) const {
    return std::any_of(m_jobs.begin(), m_jobs.end(),
                       [id](const auto& job) { return job->id == id; });
}

std::vector<Jobs::Info> Jobs::list() const {
    std::vector<Info> result;
    for (const auto& job : m_jobs) {
        const std::scoped_lock lock(job->shared->mutex);
        result.push_back({job->id, job->title, QString::fromStdString(job->shared->stage),
                          job->shared->done, job->shared->total, job->elapsedMs(),
                          job->pause->load()});
    }
    return result;
}

} // namespace nibble
