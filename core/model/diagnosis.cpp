#include "core/model/diagnosis.h"

#include "core/model/architectures.h"
#include "core/model/chat_format.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>

namespace nibble {

namespace {

bool isKnown(const std::string& architecture) {
    return std::ranges::any_of(architectures(), [&](const Architecture* known) {
        return architecture == known->name || architecture == known->gguf ||
               architecture == known->huggingFaceClass;
    });
}

std::string quantizationOf(const Checkpoint& checkpoint) {
    std::map<std::string, int64_t> values;
    int64_t all = 0;
    for (const TensorInfo& info : checkpoint.tensors) {
        if (!info.owner.empty())
            continue;
        const Format* runs = info.format();
        values[info.packed && runs ? info.storedText() : info.type->name] += info.values();
        all += info.values();
    }
    std::vector<std::pair<std::string, int64_t>> order(values.begin(), values.end());
    std::ranges::stable_sort(order, std::greater(), &std::pair<std::string, int64_t>::second);
    std::string text;
    for (const auto& [type, count] : order)
        text += text.empty() && order.size() > 1
                    ? fmt::format("{} ({:.3g} % of the values)", type,
                                  100 * double(count) / double(std::max<int64_t>(all, 1)))
                    : (text.empty() ? "" : ", ") + type;
    return text;
}

void addTokenizer(const Model& model, Diagnosis& out) {
    const Checkpoint& file = *model.checkpoint;
    std::shared_ptr<const Tokenizer> tokenizer = model.tokenizer;
    std::string problem = model.tokenizerProblem;
    if (!tokenizer && problem.empty())
        try { // of an unknown architecture it was not opened
            tokenizer = openTokenizer(file);
        } catch (const Error& error) {
            problem = error.what();
        }
    out.tokenizer = file.metadata.stringOr("tokenizer.ggml.model", "");
    out.preTokenizer = file.metadata.stringOr("tokenizer.ggml.pre", "");
    if (tokenizer) {
        const Tokenizer::Info& info = tokenizer->info();
        out.tokenizer = info.model == "llama"  ? "SPM"
                        : info.model == "gpt2" ? "byte-level BPE"
                                               : info.model;
        out.preTokenizer = info.preTokenizer;
        out.tokenizerKnown = info.warnings.empty();
        out.warnings.insert(out.warnings.end(), info.warnings.begin(), info.warnings.end());
    } else if (!problem.empty()) {
        out.warnings.push_back(problem);
    } else if (out.kind == FileKind::Model) {
        out.warnings.emplace_back("The model has no tokenizer, so that it can neither read nor "
                                  "write text. Use a file with a vocabulary.");
    }
}

} // namespace

std::string templateWarning(const Model& model) {
    try {
        return chatFormat(model).note;
    } catch (const Error& error) {
        return error.what();
    }
}

Diagnosis diagnose(const Model& model) {
    const Checkpoint& file = *model.checkpoint;
    Diagnosis out;
    out.kind = fileKind(file);
    out.architecture = model.config.architecture;
    out.architectureKnown = isKnown(out.architecture);
    out.problem = model.unsupported;
    out.quantization = quantizationOf(file);
    addTokenizer(model, out);
    out.hasTemplate = !model.chatTemplate.empty();
    const bool talks = out.kind == FileKind::Model && !out.tokenizer.empty();
    if (const std::string warning = talks ? templateWarning(model) : ""; !warning.empty())
        out.warnings.push_back(warning);
    std::map<std::pair<std::string, std::string>, int> runAs;
    size_t unreadable = 0;
    for (const TensorInfo& info : file.tensors) {
        if (const Format* runs = info.format(); !runs)
            ++unreadable;
        else if (!info.packed && info.storedText() != runs->name)
            ++runAs[{info.type->name, runs->name}];
        if (out.problem.empty() && info.owner.empty() && model.keysOf(info.name).empty())
            out.unused.push_back(info.name);
    }
    for (const auto& [types, count] : runAs)
        out.decoded.push_back(fmt::format("{} of {} run as {}", count, types.first, types.second));
    if (unreadable)
        out.warnings.push_back(
            fmt::format("{} of {} tensors are of types whose values cannot be read here.",
                        unreadable, file.tensors.size()));
    return out;
}

} // namespace nibble
