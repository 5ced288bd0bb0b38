#pragma once

#include "core/files/file_kind.h"
#include "core/model/model.h"

#include <string>
#include <vector>

namespace nibble {

/// What is known of an opened model and what is not, for people: the command line and the window
/// say the same.
struct Diagnosis {
    FileKind kind = FileKind::Model;
    std::string architecture; ///< as the file calls it; empty where it does not say
    bool architectureKnown = false;
    std::string problem; ///< why it cannot be run; empty when it can

    std::string tokenizer;    ///< "byte-level BPE", "SPM", or the file's word for one unknown here
    std::string preTokenizer; ///< the name of its rules; empty for SPM and folders
    bool tokenizerKnown = false; ///< and all of its rules are
    bool hasTemplate = false;    ///< a chat template of its own

    /// The type of most values and its part of them: "q4_k (92 % of the values), q6_k, f32".
    std::string quantization;
    std::vector<std::string> unused; ///< stored tensors that the forward pass does not read
    /// Types that run as something else than they are stored as: "8 of iq3_s run as f16".
    std::vector<std::string> decoded;
    /// Sentences: what may make answers worse, or is not as it seems. Not the problem.
    std::vector<std::string> warnings;
};

Diagnosis diagnose(const Model& model);
/// What a missing or broken chat template means for answers; empty where the model has its own.
std::string templateWarning(const Model& model);

} // namespace nibble
