#include "core/quant/export_fits.h"

#include "core/base/error.h"

#include <fmt/format.h>

namespace nibble {
namespace {

constexpr std::string_view kGguf = "gguf";

std::string titleOf(std::string_view container) {
    return container == kGguf ? "a GGUF file" : getExportTarget(container).folder;
}

/// "" where none fits.
std::string levelNames(const Model& model, std::string_view container) {
    std::string names;
    for (const Level* level : levelsFor(model, container))
        names += (names.empty() ? "" : ", ") + std::string(level->name);
    return names;
}

} // namespace

void checkFits(const Model& model, const Recipe& recipe, std::string_view container) {
    if (container == kGguf)
        checkGguf(model, recipe);
    else
        checkFolder(model, recipe, getExportTarget(container));
}

std::string levelsThatFit(const Model& model, std::string_view container) {
    if (const std::string names = levelNames(model, container); !names.empty())
        return fmt::format("Levels of this model that {} can hold: {}.", titleOf(container), names);
    std::string others;
    for (const std::string_view other : exportContainers())
        if (const std::string names = levelNames(model, other); !names.empty())
            others += fmt::format("{}{} (--export {}) can hold {}", others.empty() ? "" : "; ",
                                  titleOf(other), other, names);
    return fmt::format("No level of this model fits {}; {}.", titleOf(container), others);
}

std::vector<std::string_view> exportContainers() {
    std::vector<std::string_view> names{kGguf};
    for (const ExportTarget& target : exportTargets())
        names.emplace_back(target.name);
    return names;
}

std::vector<const Level*> levelsFor(const Model& model, std::string_view container) {
    const auto fits = [&](const Level& level) {
        try {
            const Recipe recipe = level.make(model);
            checkFits(model, container == kGguf ? recipe : folderRecipe(recipe), container);
            return true;
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::Usage)
                throw;
            return false;
        }
    };
    std::vector<const Level*> found;
    for (const Level& level : levels())
        if (fits(level))
            found.push_back(&level);
    return found;
}

void requireFits(const Model& model, const Recipe& recipe, std::string_view container) {
    namingLevels(model, container, [&] { checkFits(model, recipe, container); });
}

void namingLevels(const Model& model, std::string_view container,
                  const std::function<void()>& checks) {
    try {
        checks();
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::Usage)
            throw;
        throw Error(ErrorKind::Usage,
                    fmt::format("{} {}", error.what(), levelsThatFit(model, container)));
    }
}

} // namespace nibble
