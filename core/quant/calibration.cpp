#include "core/quant/calibration.h"

#include "core/base/error.h"
#include "core/model/names.h"

namespace nibble {

TensorKey inputKey(TensorKey key) {
    switch (key.role) {
    case Role::Key:
    case Role::Value:
        return {Role::Query, key.layer};
    case Role::Up:
        return {Role::Gate, key.layer, key.expert};
    case Role::SharedUp:
        return {Role::SharedGate, key.layer};
    case Role::TokenEmbedding: // a tied head
        return {Role::Output, -1};
    default:
        return key;
    }
}

const InputStatistics* Calibration::find(TensorKey key) const {
    const auto at = inputs.find(inputKey(key));
    return at == inputs.end() ? nullptr : &at->second;
}

const InputStatistics& Calibration::get(TensorKey key) const {
    if (const InputStatistics* found = find(key))
        return *found;
    fail(ErrorKind::Usage,
         "The calibration says nothing of \"{}\"; calibrate this model itself, or choose a method "
         "that needs no data for this tensor (rtn, hqq).",
         tensorName(key));
}

} // namespace nibble
