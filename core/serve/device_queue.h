#pragma once

#include "core/base/progress.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>

namespace nibble {

enum class Priority { Chat = 0, Measure = 1, Calibrate = 2 };

/// The one thread that uses Backends, Runners and Sessions. Jobs run one after the other, the more
/// urgent first; a running measurement yields to a chat at its next Progress::check(), on the same
/// thread. Of waiting jobs with the same non-empty tag the newest wins, the older is dropped.
class DeviceQueue {
public:
    DeviceQueue();
    /// Cancels what runs, drops what waits, joins.
    ~DeviceQueue();

    struct Ticket {
        std::shared_ptr<std::atomic<bool>> cancel, pause;
        void requestCancel() const {
            if (cancel)
                cancel->store(true);
        }
        /// A paused job stands still at its next Progress::check(), where more urgent work may
        /// still run; cancelling ends it all the same.
        void setPaused(bool paused) const {
            if (pause)
                pause->store(paused);
        }
    };
    /// `finished` (may be empty, must not throw) is called on the device thread with what `work`
    /// threw as an Error, or null. The `finished` of a job that was dropped, or cancelled before it
    /// began, gets Error{Cancelled}. May be called from any thread, from jobs as well.
    Ticket
    post(Priority priority, std::string tag, std::function<void(const Progress&)> work,
         std::function<void(const Error*)> finished = {},
         std::function<void(double done, double total, std::string_view what)> onReport = {});
    /// Waits until nothing is queued or running; not from a job, which would wait for itself.
    void drain();

private:
    struct State;
    std::unique_ptr<State> m_state;
};

} // namespace nibble
