#include "core/runtime/input_form.h"

#include "core/base/error.h"

#include <fmt/format.h>

namespace nibble {

bool operator==(const InputForm& a, const InputForm& b) {
    if (a.format != b.format || a.threshold != b.threshold || a.scale != b.scale)
        return false;
    return a.columns == b.columns || (a.columns && b.columns && *a.columns == *b.columns);
}

std::string InputForm::text() const {
    std::string out(name(format));
    if (threshold > 0)
        out += fmt::format(" from {}", threshold);
    if (columns)
        out +=
            fmt::format(", {} outlier column{}", columns->size(), columns->size() == 1 ? "" : "s");
    return out;
}

InputForm inputForm(const Tensor& tensor, const Activations& activations) {
    InputForm form;
    if (tensor.format->isFloat())
        return form;
    form.format = activations.format;
    form.columns = tensor.outlierColumns;
    if (form.format == ActivationFormat::Int8Outliers)
        form.threshold = activations.outlierThreshold;
    if (form.format == ActivationFormat::Int8Static) {
        form.scale = tensor.inputScale;
        if (!(form.scale > 0))
            fail(ErrorKind::Usage,
                 "Tensor \"{}\" has no scale for its input, which int8_static needs; calibrate the "
                 "model with a text, or choose int8_token.",
                 printable(tensor.name));
    }
    return form;
}

} // namespace nibble
