#pragma once

#include "app/cli/output.h"
#include "core/model/diagnosis.h"
#include "core/serve/plan.h"

namespace nibble::cli {

/// A plan as it stands in the JSON of commands.
Json describe(const LoadPlan& plan);
/// The plan as a table, a device a line, with what it says below.
std::string planTable(const LoadPlan& plan);
/// The same, on stderr, before a model is loaded that the command line runs.
void sayPlan(const Model& model, const Recipe& recipe, const EngineOptions& options);

Json describe(const Diagnosis& diagnosis);
/// What is known and what is not, a fact a line, warnings last.
std::string diagnosisText(const Diagnosis& diagnosis);

} // namespace nibble::cli
