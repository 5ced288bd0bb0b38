#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/files/json_text.h"
#include "core/quant/recipe.h"

#include <cmath>

namespace nibble {
namespace {

using Json = nlohmann::json;
constexpr size_t kMaxRules = 65'536;

/// One object of a recipe file, for messages: "my.json, rules[2]".
struct Place {
    std::string source, where;

    [[noreturn]] void refuse(std::string_view field, const std::string& problem) const {
        fail(ErrorKind::BadInput, "{}: {}{}{} {}.", printable(source), where,
             where.empty() || field.empty() ? "" : ".", field, problem);
    }
    void requireObject(const Json& json) const {
        if (!json.is_object())
            refuse("", fmt::format("{} where an object was expected", json.type_name()));
    }
    void allowOnly(const Json& json, std::initializer_list<std::string_view> known) const {
        for (const auto& [key, value] : json.items()) {
            if (std::find(known.begin(), known.end(), key) != known.end())
                continue;
            std::string list;
            for (const std::string_view name : known)
                list += (list.empty() ? "" : ", ") + std::string(name);
            refuse(printable(key), "is not a field of a recipe; known here: " + list);
        }
    }
    std::string text(const Json& json, const char* field, std::string fallback) const {
        if (!json.contains(field))
            return fallback;
        if (!json[field].is_string())
            refuse(field, fmt::format("is {}, but a text was expected", json[field].type_name()));
        return json[field].get<std::string>();
    }
    /// Runs a look-up by name; its refusal becomes one of this field.
    template <typename Lookup>
    auto known(const char* field, Lookup&& lookup) const {
        try {
            return lookup();
        } catch (const Error& error) {
            std::string reason = error.what();
            if (reason.ends_with('.'))
                reason.pop_back();
            refuse(field, "is unknown: " + reason);
        }
    }
};

RecipeRule readRule(const Json& json, const Place& at) {
    at.requireObject(json);
    at.allowOnly(json, {"match", "format", "method", "activations"});
    if (!json.contains("match"))
        at.refuse("match", "is missing; it names the tensors, as in \"blk.*.ffn_down\"");
    RecipeRule rule;
    rule.match = at.text(json, "match", "");
    rule.format = at.text(json, "format", "");
    rule.method = at.text(json, "method", rule.method);
    rule.activations = at.text(json, "activations", rule.activations);
    if (rule.match.empty() || rule.match.size() > limits::kNameBytes)
        at.refuse("match", "must have 1 to 255 characters");
    if (!rule.format.empty())
        at.known("format", [&] { return &getFormat(rule.format); });
    const Method* method = at.known("method", [&] { return &getMethod(rule.method); });
    at.known("activations", [&] { return activationFormat(rule.activations); });
    if (const Format* format = findFormat(rule.format); format && !format->isFloat())
        if (const char* reason = method->refuses(*format))
            at.refuse("format", fmt::format("{} cannot be made by {}: {}", format->name,
                                            method->name, reason));
    return rule;
}

float readThreshold(const Json& json, const Place& top) {
    const float value = json.is_number() ? json.get<float>() : 0;
    if (!(value > 0) || !std::isfinite(value))
        top.refuse("outlier_threshold",
                   fmt::format("is {}, but a number larger than 0 was expected", json.dump()));
    return value;
}

} // namespace

std::string Recipe::toJson() const {
    nlohmann::ordered_json json;
    json["name"] = name;
    json["rules"] = nlohmann::ordered_json::array();
    for (const RecipeRule& rule : rules)
        json["rules"].push_back({{"match", rule.match},
                                 {"format", rule.format},
                                 {"method", rule.method},
                                 {"activations", rule.activations}});
    // Recipes that say nothing of it keep the text, and so the hash, that they always had.
    if (outlierThreshold != kOutlierThreshold)
        json["outlier_threshold"] = outlierThreshold;
    json["k"] = nibble::name(kFormat);
    json["v"] = nibble::name(vFormat);
    // Names come from people: bytes that are no text must not make saving fail.
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Recipe Recipe::fromJson(std::string_view text, std::string_view source) {
    const Json json = parseJson(text, std::string(source), limits::kJsonDepth,
                                "Correct the recipe there, or write a new one.");
    Place top{std::string(source), ""};
    top.requireObject(json);
    top.allowOnly(json, {"name", "rules", "k", "v", "outlier_threshold"});
    Recipe recipe;
    recipe.name = top.text(json, "name", "");
    if (!json.contains("rules") || !json["rules"].is_array())
        top.refuse("rules", "is missing or no array; it lists which tensors get which format");
    if (json["rules"].size() > kMaxRules)
        top.refuse("rules", fmt::format("has {} entries; at most {} are read", json["rules"].size(),
                                        kMaxRules));
    for (size_t i = 0; i < json["rules"].size(); ++i)
        recipe.rules.push_back(
            readRule(json["rules"][i], {top.source, fmt::format("rules[{}]", i)}));
    const auto kv = [&](const char* field) {
        const std::string value = top.text(json, field, "f16");
        return top.known(field, [&] { return kvFormat(value); });
    };
    recipe.kFormat = kv("k");
    recipe.vFormat = kv("v");
    if (json.contains("outlier_threshold"))
        recipe.outlierThreshold = readThreshold(json["outlier_threshold"], top);
    return recipe;
}

} // namespace nibble
