#pragma once

#include <cstddef>
#include <functional>

namespace nibble {

/// Number of worker threads that parallelFor uses (the calling thread included).
/// NIBBLE_THREADS in the environment overrides the number of cores.
int threadCount();

/// Calls body(begin, end) for disjoint ranges covering [0, count), each at least `grain` long
/// except the last, on a shared pool; returns when all are done. If some throw, the exception of
/// the first range in order is rethrown. May be called from inside a body (it then runs serially).
void parallelFor(size_t count, size_t grain,
                 const std::function<void(size_t begin, size_t end)>& body);

} // namespace nibble
