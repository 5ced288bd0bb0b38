#pragma once

#include "app/cli/output.h"
#include "core/evaluate/probes.h"

namespace nibble::cli {

/// {"sums": {"correct", "count"}, …}, or null when no questions were asked.
Json categoriesOf(const std::optional<ProbeReport>& report);
/// The fraction of right answers and its error, or null.
Json accuracyOf(const std::optional<ProbeReport>& report);
Json accuracyErrorOf(const std::optional<ProbeReport>& report);

} // namespace nibble::cli
