#include "app/gui/modes/mode.h"

#include "app/gui/widgets/parts.h"

#include <QVBoxLayout>

namespace nibble {

namespace {

class TuneMode final : public Mode {
public:
    TuneMode(Workbench&, QWidget* parent) : Mode(parent), m_banner(new Banner(this)) {
        auto* layout = new QVBoxLayout(this);
        layout->addWidget(m_banner);
        layout->addStretch();
    }
    void showProblem(const QString& sentence) override {
        m_banner->show(Banner::Kind::Bad, sentence);
    }

private:
    Banner* m_banner;
};

} // namespace

Mode* makeTuneMode(Workbench& workbench, QWidget* parent) {
    return new TuneMode(workbench, parent);
}

} // namespace nibble
