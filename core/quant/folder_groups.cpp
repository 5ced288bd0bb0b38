#include "core/quant/folder_groups.h"

#include "core/base/error.h"
#include "core/model/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace nibble {
namespace {

constexpr int kGroups[] = {128, 64, 32}; ///< what kernels are written for

/// The format that all linear layers are to have which are not floats; null where they are to have
/// several, or one is to stay as the base stores it.
const Format* commonFormat(const Model& model, const Recipe& recipe) {
    const Format* common = nullptr;
    for (const TensorKey key : model.keys()) {
        if (!isLinearLayer(key))
            continue;
        const RecipeRule* rule = ruleFor(recipe, key);
        if (!rule || rule->format.empty())
            return nullptr;
        const Format& format = getFormat(rule->format);
        if (format.isFloat())
            continue;
        if (common && common != &format)
            return nullptr;
        common = &format;
    }
    return common;
}

/// The first linear layer to be quantized whose columns do not divide into groups of that size.
std::optional<TensorKey> undivided(const Model& model, const Recipe& recipe, int group) {
    for (const TensorKey key : model.keys())
        if (isLinearLayer(key) && model.get(key).cols() % group != 0 &&
            !getFormat(ruleFor(recipe, key)->format).isFloat())
            return key;
    return {};
}

/// The format that differs from another only by its groups; null when there is none.
const Format* grouped(const Format& like, int group) {
    const auto at = std::ranges::find_if(formats(), [&](const Format& f) {
        return f.group == group && f.code == like.code && f.bits == like.bits &&
               f.zero == like.zero && f.table == like.table && f.unit == like.unit &&
               f.scale == like.scale && f.offset == like.offset && f.super == like.super &&
               !blockTypeOf(f);
    });
    return at == formats().end() ? nullptr : &*at;
}

[[noreturn]] void refuseColumns(const Model& model, TensorKey key, const Format& wanted,
                                const ExportTarget& target) {
    std::string groups;
    for (const int group : kGroups)
        if (group <= wanted.group)
            groups += fmt::format("{}{}", groups.empty() ? "" : group == 32 ? " or " : ", ", group);
    fail(ErrorKind::Usage,
         "{} has {} columns, which do not divide into groups of {}; {} needs groups of one size in "
         "all linear layers.",
         tensorName(key), model.get(key).cols(), groups, target.folder);
}

} // namespace

bool isLinearLayer(TensorKey key) {
    return isMatrix(key.role) && key.role != Role::TokenEmbedding && key.role != Role::Output;
}

FolderGroups withOneGroup(const Model& model, Recipe recipe, const ExportTarget& target) {
    const Format* wanted = commonFormat(model, recipe);
    if (!wanted || wanted->group == 0 || blockTypeOf(*wanted))
        return {std::move(recipe), ""};
    const auto first = undivided(model, recipe, wanted->group);
    // What the folder cannot hold at all is refused for that reason, not for the columns.
    if (!first || !target.writerOf({.format = wanted})
                       .refuses(*wanted, model.get(*first).rows(), wanted->group, false)
                       .empty())
        return {std::move(recipe), ""};
    for (const int group : kGroups) {
        const Format* finer = group < wanted->group && !undivided(model, recipe, group)
                                  ? grouped(*wanted, group)
                                  : nullptr;
        if (!finer)
            continue;
        for (RecipeRule& rule : recipe.rules)
            if (rule.format == wanted->name)
                rule.format = finer->name;
        return {std::move(recipe),
                fmt::format("{} has {} columns, which groups of {} do not divide, and {} needs "
                            "groups of one size in all linear layers: all take groups of {} ({}).",
                            tensorName(*first), model.get(*first).cols(), int(wanted->group),
                            target.folder, group, finer->name)};
    }
    refuseColumns(model, undivided(model, recipe, kGroups[2]).value_or(*first), *wanted, target);
}

} // namespace nibble
