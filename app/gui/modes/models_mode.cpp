#include "app/gui/modes/mode.h"
#include "app/gui/main_window.h"
#include "app/gui/models/fit_delegate.h"
#include "app/gui/models/model_table.h"
#include "app/gui/modes/first_run.h"
#include "app/gui/modes/model_detail.h"
#include "app/gui/panels/metadata_panel.h"
#include "app/gui/units.h"
#include "app/gui/widgets/drop_zone.h"
#include "app/gui/workbench.h"

#include "core/base/resources.h"

#include <QComboBox>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLineEdit>
#include <QSettings>
#include <QSplitter>
#include <QStackedWidget>
#include <QTreeView>
#include <QVBoxLayout>

#include <algorithm>

namespace nibble {

namespace {

constexpr int kNarrow = 1080;

QDateTime lastUsed(const QString& path) {
    return QSettings()
        .value(QStringLiteral("lastUsed/") + QString::fromLatin1(path.toUtf8().toHex()))
        .toDateTime();
}

class ModelsMode final : public Mode {
public:
    ModelsMode(Workbench& workbench, QWidget* parent);
    void focusStart() override {
        if (m_stack->currentIndex() == 0)
            m_firstRun->setFocus();
        else
            m_tree->setFocus();
    }
    void find() override {
        if (m_metadata->isVisible())
            m_metadata->focusFilter();
        else
            m_filter->setFocus();
    }
    void resetLayout() override { m_splitter->setSizes({3 * width() / 4, width() / 4}); }
    void showProblem(const QString& sentence) override;

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    QWidget* makeDropRow();
    QWidget* makeTable();
    void refreshList();
    void openSample();
    void choosePage();
    void openCurrent();
    void refreshMeasured();
    void fitColumns();
    /// The open model's metadata in place of the list, or the list again.
    void showMetadata(bool shown);
    /// 0 the table, 1 the details, −1 both side by side.
    void showTab(int tab);

    Workbench& m_workbench;
    QStackedWidget* m_stack;
    FirstRun* m_firstRun;
    Banner* m_banner;
    ModelTable* m_table;
    ModelFilter* m_proxy;
    QTreeView* m_tree;
    QLineEdit* m_filter;
    Segments *m_scope, *m_tabs;
    QWidget *m_left, *m_list = nullptr;
    MetadataPanel* m_metadata;
    ModelDetail* m_detail;
    QSplitter* m_splitter;
    Label* m_foot;
    bool m_search = false;
};

ModelsMode::ModelsMode(Workbench& workbench, QWidget* parent)
    : Mode(parent), m_workbench(workbench), m_stack(new QStackedWidget),
      m_firstRun(new FirstRun(workbench)), m_banner(new Banner), m_table(new ModelTable(this)),
      m_proxy(new ModelFilter(this)), m_tree(new QTreeView), m_filter(new QLineEdit),
      m_scope(new Segments(tr("Which models"))), m_tabs(new Segments(tr("What is shown"))),
      m_left(new QWidget), m_metadata(new MetadataPanel(workbench)),
      m_detail(new ModelDetail(workbench)), m_splitter(new QSplitter),
      m_foot(new Label({}, Type::Footnote, Ink::SecondaryText)) {
    auto* outer = new QVBoxLayout(this);
    outer->setContentsMargins(0, 0, 0, 0);
    outer->addWidget(m_stack);
    m_tabs->setChoices({tr("Models"), tr("Details")});
    connect(m_tabs, &Segments::chosen, this, &ModelsMode::showTab);
    auto* page = new QWidget;
    auto* rows = new QVBoxLayout(page);
    rows->setContentsMargins(0, 0, 0, 0);
    rows->setSpacing(space::s());
    rows->addWidget(m_tabs, 0, Qt::AlignLeft);
    rows->addWidget(m_splitter, 1);
    auto* column = new QVBoxLayout(m_left);
    column->setContentsMargins(0, 0, 0, 0);
    column->setSpacing(space::m());
    column->addWidget(m_banner);
    m_list = new QWidget;
    auto* list = new QVBoxLayout(m_list);
    list->setContentsMargins(0, 0, 0, 0);
    list->setSpacing(space::m());
    list->addWidget(makeDropRow());
    list->addWidget(makeTable(), 1);
    column->addWidget(m_list, 1);
    column->addWidget(m_metadata, 1);
    m_metadata->hide();
    m_splitter->addWidget(m_left);
    m_splitter->addWidget(m_detail);
    m_splitter->setStretchFactor(0, 1);
    m_splitter->setChildrenCollapsible(false);
    m_detail->setMinimumWidth(Theme::get().px(260));
    m_stack->addWidget(m_firstRun);
    m_stack->addWidget(page);

    const auto openPath = [this](const QString& path) { m_workbench.openModel(path); };
    connect(m_detail, &ModelDetail::wantsMode, this, &Mode::wantsMode);
    connect(m_detail, &ModelDetail::wantsOpen, this, openPath);
    connect(m_detail, &ModelDetail::wantsMetadata, this, [this] { showMetadata(true); });
    connect(m_metadata, &MetadataPanel::closed, this, [this] { showMetadata(false); });
    connect(m_firstRun, &FirstRun::dropped, this, openPath);
    connect(m_firstRun, &FirstRun::wantsFile, this,
            [this] { static_cast<MainWindow*>(window())->openFile(); });
    connect(m_firstRun, &FirstRun::wantsSample, this, &ModelsMode::openSample);
    connect(m_firstRun, &FirstRun::wantsSearch, this, [this] {
        m_search = true;
        choosePage();
        refreshList();
    });
    connect(&workbench, &Workbench::modelChanged, this, [this] {
        showMetadata(false);
        m_banner->hide();
        m_firstRun->banner()->hide();
        choosePage();
        // The window notes the path as recent in answer to the same signal.
        QMetaObject::invokeMethod(this, &ModelsMode::refreshList, Qt::QueuedConnection);
    });
    connect(&workbench, &Workbench::devicesChanged, this, &ModelsMode::refreshList);
    connect(&workbench, &Workbench::optionsChanged, this, &ModelsMode::refreshList);
    connect(&workbench, &Workbench::qualityChanged, this, &ModelsMode::refreshMeasured);
    connect(&workbench, &Workbench::ladderChanged, this, &ModelsMode::refreshMeasured);
    connect(&workbench, &Workbench::runningChanged, this, &ModelsMode::refreshMeasured);
    connect(&Theme::get(), &Theme::changed, m_tree, [this] {
        m_tree->doItemsLayout();
        fitColumns();
    });
    choosePage();
}

QWidget* ModelsMode::makeDropRow() {
    auto* zone = new DropZone;
    auto* row = new QHBoxLayout;
    row->setSpacing(space::m());
    auto* icon = new QLabel;
    const auto paint = [icon] {
        icon->setPixmap(Theme::get().pixmap(QStringLiteral("drop"), Ink::Accent,
                                            Theme::get().px(28), icon->devicePixelRatioF()));
    };
    connect(&Theme::get(), &Theme::changed, icon, paint);
    paint();
    row->addWidget(icon);
    auto* texts = new QVBoxLayout;
    texts->setSpacing(space::xs());
    texts->addWidget(new Label(tr("Drop a model here"), Type::Title));
    auto* what = new Label(tr("A GGUF file, or a folder with safetensors. It stays where it is; "
                              "nothing is copied or sent anywhere."),
                           Type::Body, Ink::SecondaryText);
    what->setWordWrap(true);
    texts->addWidget(what);
    row->addLayout(texts, 1);
    auto* file = makeButton(tr("Open file…"), ButtonKind::Primary, QStringLiteral("open"));
    auto* folder = makeButton(tr("Open folder…"), ButtonKind::Plain, QStringLiteral("folder"));
    connect(file, &QPushButton::clicked, this,
            [this] { static_cast<MainWindow*>(window())->openFile(); });
    connect(folder, &QPushButton::clicked, this,
            [this] { static_cast<MainWindow*>(window())->openFolder(); });
    connect(zone, &DropZone::dropped, this,
            [this](const QString& path) { m_workbench.openModel(path); });
    row->addWidget(file);
    row->addWidget(folder);
    zone->body()->addLayout(row);
    return zone;
}

QWidget* ModelsMode::makeTable() {
    auto* panel = new Panel(tr("Models"));
    m_scope->setChoices({tr("All"), tr("Fits")});
    connect(m_scope, &Segments::chosen, this,
            [this](int index) { m_proxy->setOnlyFitting(index == 1); });
    panel->header()->addWidget(m_scope);
    m_filter->setPlaceholderText(tr("Filter by name or format"));
    m_filter->setAccessibleName(tr("Filter by name or format"));
    m_filter->setClearButtonEnabled(true);
    m_filter->setMaximumWidth(Theme::get().px(240));
    m_filter->addAction(Theme::get().icon(QStringLiteral("search"), Ink::SecondaryText),
                        QLineEdit::LeadingPosition);
    connect(m_filter, &QLineEdit::textChanged, this, [this](const QString& text) {
        m_proxy->setWords(text);
        m_tree->expandAll();
    });
    panel->header()->addWidget(m_filter, 1);
    panel->header()->addStretch();
    auto* search =
        makeButton(tr("Find on this computer"), ButtonKind::Plain, QStringLiteral("search"));
    connect(search, &QPushButton::clicked, this, [this] {
        m_search = true;
        refreshList();
    });
    panel->header()->addWidget(search);

    m_proxy->setSourceModel(m_table);
    m_tree->setModel(m_proxy);
    m_tree->setItemDelegate(new FitDelegate(m_tree));
    m_tree->setAccessibleName(tr("Models on this computer"));
    m_tree->setFrameShape(QFrame::NoFrame);
    m_tree->setRootIsDecorated(false);
    m_tree->setIndentation(0);
    m_tree->setAllColumnsShowFocus(true);
    m_tree->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_tree->setHorizontalScrollMode(QAbstractItemView::ScrollPerPixel);
    m_tree->setSortingEnabled(true);
    m_tree->sortByColumn(-1, Qt::AscendingOrder);
    m_tree->header()->setStretchLastSection(false);
    m_tree->header()->setMinimumSectionSize(Theme::get().px(60));
    connect(m_tree->selectionModel(), &QItemSelectionModel::currentChanged, this,
            [this](const QModelIndex& index) {
                m_detail->show(m_table->at(m_proxy->mapToSource(index)),
                               index.siblingAtColumn(0).data(ModelTable::VariantRole).toString());
            });
    connect(m_tree, &QTreeView::activated, this, &ModelsMode::openCurrent);
    connect(m_tree, &QTreeView::clicked, this, [this](const QModelIndex& index) {
        const QModelIndex row = index.siblingAtColumn(0);
        const int x = m_tree->viewport()->mapFromGlobal(QCursor::pos()).x();
        const bool group = row.data(ModelTable::GroupRole).toBool();
        if (m_proxy->hasChildren(row) && (group || x < Theme::get().px(22)))
            m_tree->setExpanded(row, !m_tree->isExpanded(row));
    });
    panel->body()->setContentsMargins(1, Theme::get().px(10), 1, Theme::get().px(8));
    panel->header()->setContentsMargins(Theme::get().px(13), 0, Theme::get().px(13), 0);
    panel->body()->addWidget(m_tree, 1);
    m_foot->setContentsMargins(Theme::get().px(13), 0, Theme::get().px(13), 0);
    m_foot->setWordWrap(true);
    panel->body()->addWidget(m_foot);
    return panel;
}

void ModelsMode::openCurrent() {
    const QModelIndex index = m_tree->currentIndex().siblingAtColumn(0);
    const QString level = index.data(ModelTable::VariantRole).toString();
    if (!level.isEmpty())
        m_workbench.applyLevel(level);
    else if (const FoundModel* row = m_table->at(m_proxy->mapToSource(index)))
        m_workbench.openModel(row->path);
}

void ModelsMode::openSample() {
    static_cast<MainWindow*>(window())->openSample();
}

void ModelsMode::choosePage() {
    const bool first = !m_workbench.model() && recentModels().isEmpty() && !m_search;
    m_stack->setCurrentIndex(first ? 0 : 1);
}

void ModelsMode::showProblem(const QString& sentence) {
    Banner* banner = m_stack->currentIndex() == 0 ? m_firstRun->banner() : m_banner;
    banner->show(Banner::Kind::Bad, sentence);
}

void ModelsMode::refreshList() {
    struct Wanted {
        QString path, group;
    };
    std::vector<Wanted> wanted;
    QString sample;
    try {
        sample = QString::fromStdString(sampleModelPath().string());
    } catch (const Error&) {
        sample.clear();
    }
    if (!sample.isEmpty() && QFileInfo::exists(sample))
        wanted.push_back({QFileInfo(sample).absoluteFilePath(), tr("Ships with Nibble")});
    for (const QString& path : recentModels())
        if (QFileInfo::exists(path) && QFileInfo(path) != QFileInfo(sample))
            wanted.push_back({path, tr("Recent")});
    const bool search = m_search;
    const auto& used = m_workbench.usedLedger();
    const uint64_t releasable = used ? used->use.total() : 0;
    m_workbench.jobs().onPool<std::pair<std::vector<FoundModel>, QStringList>>(
        QStringLiteral("scan"), search ? tr("Looking for models") : QString(), this,
        [wanted, search, options = m_workbench.options(), info = m_workbench.device(),
         releasable](const Progress& progress) {
            const auto device = info ? openDevice(info->id) : nullptr;
            FoundFiles files;
            if (search)
                files = findModels(thisUser(), {}, progress);
            std::vector<FoundModel> rows;
            const auto total = double(wanted.size() + files.models.size());
            for (const Wanted& one : wanted) {
                progress.check();
                progress.report(double(rows.size()), total, "models");
                rows.push_back(describeModel(one.path, one.group, options, device, releasable));
            }
            for (const FoundFile& file : files.models) {
                progress.check();
                progress.report(double(rows.size()), total, "models");
                const QFileInfo here(QString::fromStdString(file.path.string()));
                if (std::none_of(wanted.begin(), wanted.end(),
                                 [&](const Wanted& one) { return QFileInfo(one.path) == here; }))
                    rows.push_back(describeModel(file, options, device, releasable));
            }
            QStringList notes;
            for (const std::string& note : files.notes)
                notes << QString::fromStdString(note);
            return std::pair(std::move(rows), notes);
        },
        [this](std::pair<std::vector<FoundModel>, QStringList> found) {
            std::vector<FoundModel>& rows = found.first;
            if (!found.second.isEmpty())
                m_banner->show(Banner::Kind::Info, found.second.join(QLatin1Char(' ')));
            for (FoundModel& row : rows)
                row.lastUsed = lastUsed(row.path);
            int fits = 0;
            for (const FoundModel& row : rows)
                fits += row.needs && row.needs->fits();
            m_scope->setText(0, tr("All %1").arg(rows.size()));
            m_scope->setText(1, tr("Fits %1").arg(fits));
            m_table->setModels(std::move(rows));
            m_tree->expandAll();
            for (int row = 0; row < m_proxy->rowCount(); ++row)
                m_tree->setFirstColumnSpanned(row, {}, true);
            refreshMeasured();
            const QModelIndex open =
                m_proxy->mapFromSource(m_table->indexOf(m_workbench.modelPath()));
            if (open.isValid())
                m_tree->setCurrentIndex(open);
        });
    m_foot->setText(tr("Needs: weights, KV cache and scratch with context %1. KLD and speed are "
                       "measured once a model is open.")
                        .arg(units::count(m_workbench.options().context)));
}

void ModelsMode::refreshMeasured() {
    const bool base = m_workbench.runningRecipe().rules.empty();
    const double speed = m_workbench.lastTokensPerSecond();
    m_table->setMeasured(m_workbench.modelPath(),
                         m_workbench.isRunning() ? tr("0, base") : QString(),
                         base && speed > 0 ? units::number(speed) : QString());
    const auto on = m_workbench.device();
    std::vector<FoundVariant> variants;
    for (const LadderRow& row : m_workbench.ladder()) {
        FoundVariant variant;
        variant.level = QString::fromStdString(row.level);
        variant.title = QString::fromStdString(ladderTitle(row.level));
        variant.bytes = row.size.bytes;
        variant.bitsPerWeight = row.size.bitsPerWeight;
        variant.needs =
            Ledger{row.memory, on ? on->memoryBytes - on->freeBytes : 0, on ? on->memoryBytes : 0};
        if (row.measured)
            variant.kld = row.quality.kldMean == 0 ? QStringLiteral("0")
                                                   : units::withError(row.quality.kldMean * 1e3,
                                                                      row.quality.kldError * 1e3);
        if (row.generateTps > 0)
            variant.speed = units::number(row.generateTps);
        variant.running = m_workbench.runningRecipe().name == row.level;
        variants.push_back(std::move(variant));
    }
    m_table->setVariants(m_workbench.modelPath(), std::move(variants));
    m_tree->expandAll();
    fitColumns();
}

/// Where there is no room for every column, those that matter least are hidden.
void ModelsMode::fitColumns() {
    int wanted = 0;
    for (int column = 0; column < ModelTable::ColumnCount; ++column) {
        m_tree->setColumnHidden(column, false);
        m_tree->resizeColumnToContents(column);
        wanted += m_tree->columnWidth(column);
    }
    for (const int column : {ModelTable::LastUsed, ModelTable::Bits, ModelTable::FormatColumn,
                             ModelTable::Speed, ModelTable::Size}) {
        if (wanted <= m_tree->viewport()->width())
            break;
        wanted -= m_tree->columnWidth(column);
        m_tree->setColumnHidden(column, true);
    }
    const int room = m_tree->viewport()->width() - wanted;
    if (room > 0) // the name takes what is left
        m_tree->setColumnWidth(0, m_tree->columnWidth(0) + room);
}

void ModelsMode::showMetadata(bool shown) {
    m_list->setVisible(!shown);
    m_metadata->setVisible(shown);
    if (!shown)
        return;
    if (m_tabs->isVisible()) { // where the two are not side by side
        m_tabs->setCurrent(0);
        showTab(0);
    }
    m_metadata->focusFilter();
}

void ModelsMode::showTab(int tab) {
    const bool wasTabbed = !m_left->isVisibleTo(m_splitter) || !m_detail->isVisibleTo(m_splitter);
    m_left->setVisible(tab != 1);
    m_detail->setVisible(tab != 0);
    if (tab < 0 && (wasTabbed || m_detail->width() > width() / 2)) {
        const int side = Theme::get().px(330);
        m_splitter->setSizes({width() - side, side});
    }
}

void ModelsMode::resizeEvent(QResizeEvent* event) {
    Mode::resizeEvent(event);
    const bool narrow = width() < Theme::get().px(kNarrow);
    m_tabs->setVisible(narrow);
    showTab(narrow ? m_tabs->current() : -1);
    QMetaObject::invokeMethod(this, &ModelsMode::fitColumns, Qt::QueuedConnection);
}

} // namespace

Mode* makeModelsMode(Workbench& workbench, QWidget* parent) {
    return new ModelsMode(workbench, parent);
}

} // namespace nibble
