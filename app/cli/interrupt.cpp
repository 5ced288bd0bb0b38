#include "app/cli/interrupt.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <string>
#include <unistd.h>

namespace nibble::cli {

namespace {

static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only set such a flag");

const std::shared_ptr<std::atomic<bool>>& flag() {
    static const auto shared = std::make_shared<std::atomic<bool>>(false);
    return shared;
}

std::atomic<bool>* g_interrupted = nullptr;
bool g_lineShown = false;

/// When the flag was set, in seconds of the monotonic clock.
volatile sig_atomic_t g_since = 0;

/// The first signal asks; one that comes while the first was not heeded for two seconds ends the
/// process, whatever a driver does that does not come back.
void onSignal(int) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (g_interrupted->exchange(true)) {
        if (now.tv_sec - g_since >= 2)
            _exit(7);
        return;
    }
    g_since = static_cast<sig_atomic_t>(now.tv_sec);
}

void showLine(double done, double total, std::string_view what) {
    using Clock = std::chrono::steady_clock;
    static Clock::time_point last{};
    const auto now = Clock::now();
    if (now - last < std::chrono::milliseconds(100))
        return;
    last = now;
    const int percent = total > 0 ? static_cast<int>(100 * done / total) : 0;
    std::fprintf(stderr, "\r\033[K%.*s  %d %%", static_cast<int>(what.size()), what.data(),
                 percent);
    std::fflush(stderr);
    g_lineShown = true;
}

} // namespace

void catchInterrupts() {
    g_interrupted = flag().get();
    struct sigaction action {};
    action.sa_handler = onSignal; // without SA_RESTART: a read from the terminal returns
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    // A file that may not grow further is a write that fails, not the end.
    action.sa_handler = SIG_IGN;
    sigaction(SIGXFSZ, &action, nullptr);
}

std::shared_ptr<std::atomic<bool>> interruptFlag() {
    return flag();
}

Progress terminalProgress() {
    Progress progress;
    progress.cancel = flag();
    if (isatty(STDERR_FILENO))
        progress.onReport = showLine;
    return progress;
}

void clearProgressLine() {
    if (g_lineShown)
        std::fputs("\r\033[K", stderr);
    g_lineShown = false;
}

} // namespace nibble::cli
