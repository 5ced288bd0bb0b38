#pragma once

namespace nibble {

/// Gives freed heap pages back to the system, where the C library can. After loading: the parts
/// that tensors passed through would else stay with the process, and the memory shown would be
/// less than what is used.
void returnFreedMemory();

} // namespace nibble
