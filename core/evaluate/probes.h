#pragma once

#include "core/base/progress.h"
#include "core/runtime/runner.h"
#include "core/template/chat_template.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace nibble {

/// A question with one right answer.
struct Probe {
    std::string category;
    std::vector<ChatMessage> messages;
    std::string answer;
};

/// Probes from text of one JSON object a line: {"category": "sums", "messages": [{"role",
/// "content"} …], "answer": "34"}; empty lines are skipped. Error{BadInput} that names `source`,
/// the line and the field.
std::vector<Probe> parseProbes(std::string_view text, std::string_view source);
std::vector<Probe> readProbes(const std::filesystem::path& path);

/// Whether the answer's words stand in the reply, in order and together. Case and punctuation do
/// not count.
bool isRightAnswer(std::string_view reply, std::string_view answer);

struct ProbeReport {
    struct Category {
        std::string category;
        int64_t correct = 0, count = 0;
    };
    double accuracy = 0; ///< fraction of all probes
    double error = 0;    ///< standard error of it (binomial)
    int64_t count = 0;
    std::vector<Category> categories; ///< in the order in which the file names them first
};

/// Greedy replies of at most `maxTokens` tokens, through the model's usual template, one
/// conversation after the other. `onReply` sees each. Error{BadInput} when the model has no
/// tokenizer, a template that refuses a question, or too short a context for one.
ProbeReport measureProbes(
    Runner& runner, std::span<const Probe> probes, const Progress& progress = {},
    const std::function<void(const Probe&, std::string_view reply, bool right)>& onReply = {},
    int32_t maxTokens = 48);

} // namespace nibble
