#pragma once

#include "core/base/error.h"
#include "core/serve/device_queue.h"

#include <QElapsedTimer>
#include <QObject>
#include <QPointer>
#include <QString>
#include <QThreadPool>
#include <QTimer>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace nibble {

/// What a job threw, for people: one sentence that says what happened and what to do.
struct Failure {
    ErrorKind kind = ErrorKind::Internal;
    QString sentence;
    bool cancelled() const { return kind == ErrorKind::Cancelled; }
};

/// Work off the GUI thread: the device queue (everything that touches a Backend) and a pool for
/// analysis (reads immutable data). Called from the GUI thread only; results arrive there by queued
/// invocation, and only when their receiver still lives.
class Jobs : public QObject {
    Q_OBJECT
public:
    explicit Jobs(QObject* parent = nullptr);
    /// Cancels and waits for everything.
    ~Jobs() override;

    struct Info {
        quint64 id = 0;
        QString title; ///< "Measuring levels"; empty for work that is not shown
        QString stage; ///< what the job itself says it is at
        double done = 0, total = 0;
        qint64 elapsedMs = 0; ///< without the time that it was paused
        bool paused = false;
        /// Estimated from what is done so far; negative while unknown.
        double secondsLeft() const;
    };

    /// Runs `work` on the device thread, then `done` with its result or `failed` on the GUI thread.
    /// Of waiting jobs with the same tag the newest wins.
    template <typename T>
    quint64 onDevice(Priority priority, const QString& tag, const QString& title, QObject* receiver,
                     std::function<T(const Progress&)> work, std::function<void(T)> done,
                     std::function<void(const Failure&)> failed = {}) {
        return startOnDevice(priority, tag, title, receiver,
                             erase(std::move(work), std::move(done)), std::move(failed));
    }
    /// The same on the analysis pool; a running job with the same non-empty tag is cancelled.
    template <typename T>
    quint64 onPool(const QString& tag, const QString& title, QObject* receiver,
                   std::function<T(const Progress&)> work, std::function<void(T)> done,
                   std::function<void(const Failure&)> failed = {}) {
        return startOnPool(tag, title, receiver, erase(std::move(work), std::move(done)),
                           std::move(failed));
    }

    /// A function that any thread may call to run something on the GUI thread while `receiver`
    /// lives: for partial results.
    std::function<void(std::function<void()>)> poster(QObject* receiver);

    /// Holds a job where it next looks for being cancelled, or lets it go on.
    void setPaused(quint64 id, bool paused);
    void cancel(quint64 id);
    void cancelAll();
    bool isRunning(quint64 id) const;
    /// Jobs under way or waiting, oldest first.
    std::vector<Info> list() const;
    bool idle() const { return m_jobs.empty(); }

signals:
    /// A job began, ended or moved on (at most ten times a second).
    void changed();

private:
    using Deliver = std::function<void()>;
    using Work = std::function<Deliver(const Progress&)>;
    struct Shared; ///< what the job's thread writes and the GUI thread reads
    struct Job;

    template <typename T>
    static Work erase(std::function<T(const Progress&)> work, std::function<void(T)> done) {
        return [work = std::move(work), done = std::move(done)](const Progress& p) -> Deliver {
            auto result = std::make_shared<T>(work(p));
            return [result, done] {
                if (done)
                    done(std::move(*result));
            };
        };
    }
    quint64 startOnDevice(Priority priority, const QString& tag, const QString& title,
                          QObject* receiver, Work work, std::function<void(const Failure&)> failed);
    quint64 startOnPool(const QString& tag, const QString& title, QObject* receiver, Work work,
                        std::function<void(const Failure&)> failed);
    std::shared_ptr<Job> add(const QString& tag, const QString& title, QObject* receiver,
                             std::function<void(const Failure&)> failed);
    void finish(quint64 id, const Deliver& deliver, const Failure* failure);

    std::vector<std::shared_ptr<Job>> m_jobs;
    quint64 m_next = 1;
    QTimer m_tick;
    QThreadPool m_pool;
    std::unique_ptr<DeviceQueue> m_queue;
};

} // namespace nibble
