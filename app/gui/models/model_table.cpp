#include "app/gui/models/model_table.h"

#include "app/gui/units.h"

#include <QLocale>

#include <algorithm>

namespace nibble {

namespace {

constexpr quintptr kGroupRow = 0;

QString when(const QDateTime& time) {
    if (!time.isValid())
        return ModelTable::tr("never");
    const qint64 days = time.date().daysTo(QDate::currentDate());
    if (days <= 0)
        return ModelTable::tr("today");
    if (days == 1)
        return ModelTable::tr("yesterday");
    return QLocale(QLocale::English).toString(time.date(), QStringLiteral("d MMM"));
}

} // namespace

void ModelTable::setModels(std::vector<FoundModel> models) {
    beginResetModel();
    m_groups.clear();
    for (FoundModel& model : models) {
        auto at = std::find_if(m_groups.begin(), m_groups.end(),
                               [&](const Group& group) { return group.name == model.group; });
        if (at == m_groups.end())
            at = m_groups.insert(m_groups.end(), {model.group, {}});
        at->models.push_back(std::move(model));
    }
    endResetModel();
}

void ModelTable::setMeasured(const QString& path, const QString& kld, const QString& speed) {
    m_measuredPath = path;
    m_kld = kld;
    m_speed = speed;
    const QModelIndex at = indexOf(path);
    if (at.isValid())
        emit dataChanged(at.siblingAtColumn(Kld), at.siblingAtColumn(Speed));
}

const FoundModel* ModelTable::at(const QModelIndex& index) const {
    if (!index.isValid() || index.internalId() == kGroupRow)
        return nullptr;
    const auto& models = m_groups[size_t(index.internalId() - 1)].models;
    return size_t(index.row()) < models.size() ? &models[size_t(index.row())] : nullptr;
}

QModelIndex ModelTable::indexOf(const QString& path) const {
    for (size_t g = 0; g < m_groups.size(); ++g)
        for (size_t i = 0; i < m_groups[g].models.size(); ++i)
            if (m_groups[g].models[i].path == path)
                return createIndex(int(i), 0, quintptr(g + 1));
    return {};
}

int ModelTable::count() const {
    int total = 0;
    for (const Group& group : m_groups)
        total += int(group.models.size());
    return total;
}

QModelIndex ModelTable::index(int row, int column, const QModelIndex& parent) const {
    if (!hasIndex(row, column, parent))
        return {};
    return createIndex(row, column, parent.isValid() ? quintptr(parent.row() + 1) : kGroupRow);
}

QModelIndex ModelTable::parent(const QModelIndex& child) const {
    if (!child.isValid() || child.internalId() == kGroupRow)
        return {};
    return createIndex(int(child.internalId() - 1), 0, kGroupRow);
}

int ModelTable::rowCount(const QModelIndex& parent) const {
    if (!parent.isValid())
        return int(m_groups.size());
    if (parent.internalId() != kGroupRow || parent.column() != 0)
        return 0;
    return int(m_groups[size_t(parent.row())].models.size());
}

int ModelTable::columnCount(const QModelIndex&) const {
    return ColumnCount;
}

ModelTable::Fit ModelTable::fitOf(const FoundModel& model) {
    if (!model.needs)
        return Unknown;
    if (!model.needs->fits())
        return TooBig;
    return model.needs->free() < model.needs->budget / 10 ? Tight : Fits;
}

QVariant ModelTable::text(const FoundModel& model, int column) const {
    switch (column) {
    case Name:
        return model.name;
    case FormatColumn:
        return model.format.isEmpty() ? tr("not readable") : model.format;
    case Size:
        return units::gigabytes(model.bytes);
    case Bits:
        return model.bitsPerWeight > 0 ? QString::number(model.bitsPerWeight, 'f', 2)
                                       : tr("unknown");
    case Needs: {
        if (!model.problem.isEmpty())
            return tr("cannot run");
        if (!model.needs)
            return tr("not known yet");
        const uint64_t total = model.needs->use.total(), all = total + model.needs->other;
        if (model.needs->fits())
            return tr("%1, %2 free").arg(units::bytes(total), units::bytes(model.needs->free()));
        return tr("%1, %2 too big")
            .arg(units::bytes(total), units::bytes(all - model.needs->budget));
    }
    case Kld:
        return model.path == m_measuredPath && !m_kld.isEmpty() ? m_kld : tr("not measured");
    case Speed:
        return model.path == m_measuredPath && !m_speed.isEmpty() ? m_speed : tr("not measured");
    case LastUsed:
        return when(model.lastUsed);
    default:
        return {};
    }
}

QVariant ModelTable::sortValue(const FoundModel& model, int column) const {
    switch (column) {
    case Size:
        return qulonglong(model.bytes);
    case Bits:
        return model.bitsPerWeight;
    case Needs:
        return qulonglong(model.needs ? model.needs->use.total() : 0);
    case LastUsed:
        return model.lastUsed;
    default:
        return text(model, column);
    }
}

QVariant ModelTable::data(const QModelIndex& index, int role) const {
    if (!index.isValid())
        return {};
    const FoundModel* model = at(index);
    if (!model) {
        const Group& group = m_groups[size_t(index.row())];
        if (role == Qt::DisplayRole && index.column() == 0)
            return QStringLiteral("%1  %2").arg(group.name).arg(group.models.size());
        if (role == SortRole)
            return index.row();
        return role == GroupRole ? QVariant(true) : QVariant();
    }
    switch (role) {
    case Qt::DisplayRole:
        return text(*model, index.column());
    case Qt::ToolTipRole:
        return (model->problem.isEmpty() ? model->path : model->problem).toHtmlEscaped();
    case Qt::TextAlignmentRole:
        return int(Qt::AlignVCenter) |
               int(index.column() >= Size && index.column() != Needs ? Qt::AlignRight
                                                                     : Qt::AlignLeft);
    case SortRole:
        return sortValue(*model, index.column());
    case FitRole:
        return fitOf(*model);
    case ShareRole:
        return model->needs && model->needs->budget
                   ? double(model->needs->use.total() + model->needs->other) /
                         double(model->needs->budget)
                   : 0.0;
    case PathRole:
        return model->path;
    default:
        return {};
    }
}

QVariant ModelTable::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal)
        return {};
    if (role == Qt::TextAlignmentRole)
        return int(Qt::AlignVCenter) |
               int(section >= Size && section != Needs ? Qt::AlignRight : Qt::AlignLeft);
    if (role != Qt::DisplayRole)
        return {};
    switch (section) {
    case Name:
        return tr("Name");
    case FormatColumn:
        return tr("Format");
    case Size:
        return tr("Size, GB");
    case Bits:
        return tr("Bits/weight");
    case Needs:
        return tr("Needs");
    case Kld:
        return tr("KLD to base");
    case Speed:
        return tr("Tokens/s");
    case LastUsed:
        return tr("Last used");
    default:
        return {};
    }
}

Qt::ItemFlags ModelTable::flags(const QModelIndex& index) const {
    if (!index.isValid())
        return Qt::NoItemFlags;
    return at(index) ? Qt::ItemIsEnabled | Qt::ItemIsSelectable : Qt::ItemIsEnabled;
}

ModelFilter::ModelFilter(QObject* parent) : QSortFilterProxyModel(parent) {
    setSortRole(ModelTable::SortRole);
    setRecursiveFilteringEnabled(true);
}

void ModelFilter::setWords(const QString& text) {
    m_words = text.toLower().split(QLatin1Char(' '), Qt::SkipEmptyParts);
    invalidateFilter();
}

void ModelFilter::setOnlyFitting(bool only) {
    m_onlyFitting = only;
    invalidateFilter();
}

bool ModelFilter::filterAcceptsRow(int row, const QModelIndex& parent) const {
    if (!parent.isValid())
        return false; // a group shows when one of its models does
    const QModelIndex name = sourceModel()->index(row, ModelTable::Name, parent);
    const int fit = name.data(ModelTable::FitRole).toInt();
    if (m_onlyFitting && fit != ModelTable::Fits && fit != ModelTable::Tight)
        return false;
    const QString text = (name.data().toString() + QLatin1Char(' ') +
                          name.siblingAtColumn(ModelTable::FormatColumn).data().toString())
                             .toLower();
    return std::all_of(m_words.begin(), m_words.end(),
                       [&](const QString& word) { return text.contains(word); });
}

bool ModelFilter::lessThan(const QModelIndex& left, const QModelIndex& right) const {
    if (!left.parent().isValid()) // groups keep their order
        return sortOrder() == Qt::AscendingOrder ? left.row() < right.row()
                                                 : left.row() > right.row();
    return QSortFilterProxyModel::lessThan(left, right);
}

} // namespace nibble
