#include "core/calibrate/text.h"

#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/base/resources.h"

namespace nibble {

EvaluationText shippedEvaluationText() {
    const auto path = resourcePath("text/evaluation.txt.z");
    return {"shipped text", inflateText(mapFile(path).view(), limits::kTextBytes), true};
}

EvaluationText shippedCalibrationText() {
    const auto path = resourcePath("text/calibration.txt.z");
    return {"shipped calibration text", inflateText(mapFile(path).view(), limits::kTextBytes),
            true};
}

EvaluationText evaluationTextFile(const std::filesystem::path& path) {
    return {path.filename().string(), readTextFile(path, limits::kTextBytes), false};
}

EvaluationTokens tokenize(const Tokenizer& tokenizer, const EvaluationText& text) {
    EvaluationTokens out;
    out.label = text.label;
    out.hash = hashText(text.text);
    const Tokenizer::Info& info = tokenizer.info();
    out.tokens = tokenizer.encode(text.text, text.special);
    if (info.addBos && info.bos >= 0) {
        out.bos = info.bos;
        out.tokens.insert(out.tokens.begin(), info.bos);
    }
    return out;
}

} // namespace nibble
