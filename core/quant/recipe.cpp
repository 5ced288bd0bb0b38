#include "core/quant/recipe.h"

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/files/packings.h"
#include "core/model/names.h"
#include "core/quant/folder_groups.h"

#include <algorithm>

namespace nibble {
namespace {

/// Whether `name` is spelled by a pattern in which "*" stands for any run of characters.
bool matches(std::string_view pattern, std::string_view name) {
    size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
    while (n < name.size()) {
        if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            resume = n;
        } else if (p < pattern.size() && pattern[p] == name[n]) {
            ++p;
            ++n;
        } else if (star != std::string_view::npos) {
            p = star + 1;
            n = ++resume;
        } else {
            return false;
        }
    }
    return pattern.substr(p).find_first_not_of('*') == std::string_view::npos;
}

bool divides(const Format& format, int64_t cols) {
    return format.isFloat() || cols % format.rowUnit() == 0;
}

/// Formats that group by rows, or by `group` values in our own containers, can be cut finer; those
/// of a file type cannot, because that type would not load.
bool isFileType(const Format& format) {
    return blockTypeOf(format) != nullptr;
}

/// What takes the place of a format of large blocks where they do not divide the row: one of blocks
/// of 32 with as many bits or one more (as llama.cpp does), and NF4 with plain scales.
struct Fallback {
    std::string_view wanted, instead;
};
constexpr Fallback kFallbacks[] = {{"q6_k", "q8_0"},   {"q5_k", "q5_1"},   {"q4_k", "q5_0"},
                                   {"q3_k", "iq4_nl"}, {"q2_k", "iq4_nl"}, {"iq4_xs", "iq4_nl"},
                                   {"nf4_dq", "nf4"},  {"nf4", "iq4_nl"}};

/// The format that takes the place of one whose groups do not divide the row: that of the table,
/// else one of the same kind with the largest group that does, else 8 bits with one scale a row;
/// f16 for formats of files.
const Format& fitting(const Format& wanted, int64_t cols) {
    if (wanted.group == 0 || divides(wanted, cols))
        return wanted;
    for (const Fallback& fallback : kFallbacks)
        if (fallback.wanted == wanted.name)
            return fitting(getFormat(fallback.instead), cols);
    if (isFileType(wanted))
        return getFormat("f16");
    const Format* best = nullptr;
    for (const Format& format : formats())
        if (!isFileType(format) && format.code == wanted.code && format.table == wanted.table &&
            format.bits == wanted.bits && format.offset == wanted.offset &&
            format.scale == wanted.scale && format.group != 0 && divides(format, cols) &&
            (!best || format.group > best->group))
            best = &format;
    return best ? *best : getFormat("int8");
}

} // namespace

const RecipeRule* ruleFor(const Recipe& recipe, TensorKey key) {
    // All experts of a layer are one tensor in files, and so in recipes.
    const std::string tensor = tensorName({key.role, key.layer});
    const auto rule =
        std::find_if(recipe.rules.rbegin(), recipe.rules.rend(),
                     [&](const RecipeRule& candidate) { return matches(candidate.match, tensor); });
    return rule == recipe.rules.rend() ? nullptr : &*rule;
}

TensorChoice Recipe::choose(const Model& model, TensorKey key) const {
    static const Format& f32 = getFormat("f32");
    if (!isMatrix(key.role))
        return {.format = &f32};
    const RecipeRule* rule = ruleFor(*this, key);
    // What shares a stored tensor has one format: of the rules for its parts the last one wins.
    if (key.expert < 0)
        for (const TensorKey part : model.storedWith(key))
            if (const RecipeRule* other = ruleFor(*this, part); !rule || (other && other > rule))
                rule = other;
    TensorChoice choice;
    std::optional<ActivationFormat> own; // the 8 bits that a folder was made for
    if (const auto& packed = model.get(key).packed; packed && packed->tokenActivations)
        own =
            packed->staticActivations ? ActivationFormat::Int8Static : ActivationFormat::Int8Token;
    if (!rule) {
        choice.activations = own.value_or(ActivationFormat::Float);
        return choice;
    }
    choice.method = &getMethod(rule->method);
    choice.activations = activationFormat(rule->activations);
    if (rule->format.empty() && own && choice.activations == ActivationFormat::Int8Block32)
        choice.activations = *own;
    const TensorInfo& info = model.get(key);
    if (!rule->format.empty()) {
        const Format& wanted = getFormat(rule->format);
        choice.format = &fitting(wanted, info.cols());
        // What takes the place of a format need not be one that the method can make.
        if (choice.format != &wanted && choice.method->refuses(*choice.format))
            choice.method = &methods().front();
    }
    // Blocks of activations that do not divide the row would end in a partial block.
    if (const int block = activationBlock(choice.activations);
        block != 0 && info.cols() % block != 0)
        choice.activations = ActivationFormat::Int8Token;
    if (const Format* multiplied = choice.format ? choice.format : info.format();
        multiplied && multiplied->isFloat())
        choice.activations = ActivationFormat::Float;
    // What is only looked up in has no input that a scale could be found for.
    if (choice.activations == ActivationFormat::Int8Static && key.role == Role::TokenEmbedding &&
        model.headKey() != key)
        choice.activations = ActivationFormat::Int8Token;
    if (choice.activations == ActivationFormat::Int8Outliers || choice.method->keepsOutliers())
        choice.outlierThreshold = outlierThreshold;
    return choice;
}

void Recipe::set(TensorKey key, RecipeRule rule) {
    rule.match = tensorName({key.role, key.layer});
    std::erase_if(rules, [&](const RecipeRule& old) { return old.match == rule.match; });
    rules.push_back(std::move(rule));
}

std::vector<const Format*> choosableFormats(int64_t cols) {
    const auto made = [](const Format& format) {
        return format.isFloat() || std::any_of(methods().begin(), methods().end(),
                                               [&](const Method& m) { return !m.refuses(format); });
    };
    std::vector<const Format*> found;
    for (const Format& format : formats())
        if (format.offered && format.bits <= 16 && divides(format, cols) && made(format))
            found.push_back(&format);
    std::stable_sort(found.begin(), found.end(), [cols](const Format* a, const Format* b) {
        return a->bitsPerWeight(cols) < b->bitsPerWeight(cols);
    });
    return found;
}

uint64_t Recipe::hash() const {
    return hashText(toJson());
}

} // namespace nibble
