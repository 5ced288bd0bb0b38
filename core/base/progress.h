#pragma once

#include "core/base/error.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string_view>

namespace nibble {

/// Told to every long job: where to report, and whether to stop. Cheap to copy; the default
/// reports nowhere and never stops.
struct Progress {
    /// done of total in the job's own unit (tensors, windows, tokens); called from the job's
    /// thread.
    std::function<void(double done, double total, std::string_view what)> onReport;
    std::shared_ptr<std::atomic<bool>> cancel;
    /// Called by check(): a device queue runs more urgent work here, between two forwards.
    std::function<void()> onCheck;

    bool cancelled() const { return cancel && cancel->load(std::memory_order_relaxed); }

    /// Throws Error{Cancelled} when the user has asked to stop. Call it at least every 100 ms.
    void check() const {
        stopIfCancelled();
        if (!onCheck)
            return;
        onCheck();
        stopIfCancelled(); // meanwhile
    }
    void stopIfCancelled() const {
        if (cancelled())
            throw Error(ErrorKind::Cancelled, "Cancelled.");
    }
    void report(double done, double total, std::string_view what) const {
        if (onReport)
            onReport(done, total, what);
    }
};

} // namespace nibble
