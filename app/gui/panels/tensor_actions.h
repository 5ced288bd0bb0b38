#pragma once

#include "core/model/config.h"

#include <vector>

class QMenu;

namespace nibble {

class Workbench;

/// The formats that all of these tensors can take, from small to large, and the way back to the
/// base.
void addFormatActions(QMenu* menu, Workbench& workbench, const std::vector<TensorKey>& keys);
/// Everything that can be done with these tensors: format, lock, restore, measure.
void addTensorActions(QMenu* menu, Workbench& workbench, const std::vector<TensorKey>& keys);

} // namespace nibble
