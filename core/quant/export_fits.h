#pragma once

#include "core/quant/export_targets.h"

#include <functional>
#include <string>

namespace nibble {

/// Throw what an export throws for a recipe that such a file cannot hold.
void checkGguf(const Model& model, const Recipe& recipe);
void checkFolder(const Model& model, const Recipe& recipe, const ExportTarget& target);

/// The same for any kind of file.
void checkFits(const Model& model, const Recipe& recipe, std::string_view container);
/// The same, with the levels that fit it.
void requireFits(const Model& model, const Recipe& recipe, std::string_view container);

/// A sentence on the levels that do fit, if need be in another kind of file; it tries them all.
std::string levelsThatFit(const Model& model, std::string_view container);

/// Runs `check`, and adds to a refusal which levels do fit that kind of file.
void namingLevels(const Model& model, std::string_view container,
                  const std::function<void()>& check);

} // namespace nibble
