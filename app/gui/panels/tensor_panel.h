#pragma once

#include "app/gui/widgets/parts.h"
#include "core/evaluate/tensor_detail.h"

#include <optional>

class QComboBox;
class QGridLayout;
class QScrollArea;

namespace nibble {

class Workbench;

/// Facts of the selected tensor, and its format and method to change.
class TensorPanel : public Panel {
    Q_OBJECT
public:
    explicit TensorPanel(Workbench& workbench, QWidget* parent = nullptr);

private:
    void refresh();
    void addFact(const QString& name, Label*& value, const QString& about = {});

    Workbench& m_workbench;
    std::optional<TensorDetail> m_detail;
    ElidedLabel* m_name;
    QComboBox *m_format, *m_activations;
    QGridLayout* m_facts;
    QScrollArea* m_scroll;
    Label *m_method, *m_shape, *m_stored, *m_bits, *m_size, *m_error, *m_sqnr, *m_cosine, *m_beyond,
        *m_spread;
    QPushButton *m_apply, *m_undo, *m_sameForRole;
};

} // namespace nibble
