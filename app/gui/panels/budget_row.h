#pragma once

#include "app/gui/widgets/parts.h"

#include "core/evaluate/mixed.h"

class QComboBox;
class QDoubleSpinBox;
class QSlider;

namespace nibble {

class Workbench;

/// What a mixed recipe must keep to: bits per weight, a file's size, memory, or a loss. The slider
/// and the number beside it are one budget; right is more and better. Below stands what the edited
/// recipe takes and loses in all of these at once.
class BudgetRow : public QWidget {
    Q_OBJECT
public:
    explicit BudgetRow(Workbench& workbench, QWidget* parent = nullptr);

    void refresh();

private:
    Budget::Of of() const;
    void refreshUnits();
    void refreshFacts();
    double unit() const;
    double valueAt(int step) const;
    int stepOf(double value) const;
    std::optional<double> shownValue() const;

    Workbench& m_workbench;
    QComboBox* m_of;
    QDoubleSpinBox* m_value;
    QSlider* m_slider;
    ElidedLabel* m_facts;
    std::pair<double, double> m_range; ///< that the number has now
};

} // namespace nibble
