#pragma once

#include "core/model/config.h"

#include <optional>
#include <string>
#include <string_view>

namespace nibble {

/// The name of a tensor in recipes, tables and reports, in GGUF's words: "blk.27.ffn_down",
/// "token_embd", "output". Independent of the container.
std::string tensorName(TensorKey key);
/// The inverse; nothing for a name that no role has.
std::optional<TensorKey> tensorKey(std::string_view name);

} // namespace nibble
