#include "core/calibrate/text.h"

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/base/resources.h"
#include "core/tokenizer/utf8.h"

namespace nibble {

void requireText(const EvaluationText& text) {
    size_t valid = 0;
    while (valid < text.text.size()) {
        const Utf8Step step = firstCharacter(std::string_view(text.text).substr(valid));
        if (step.kind != Utf8::Character || text.text[valid] == '\0')
            break;
        valid += step.length;
    }
    if (valid != text.text.size())
        fail(ErrorKind::BadInput,
             "{} is not UTF-8 text (byte {} of {}); save it as UTF-8, or give another file.",
             printable(text.label), valid, text.text.size());
}

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
    EvaluationText text{path.filename().string(), readTextFile(path, limits::kTextBytes), false};
    requireText(text);
    return text;
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
