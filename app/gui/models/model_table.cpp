#include "app/gui/models/model_table.h"

#include "app/gui/units.h"

#include <QLocale>

#include <algorithm>

namespace nibble {

namespace {

/// internalId: 0 for a group; for a model its group's number from 1; for a variant also its model's
/// number, from 1, above the lower bits.
constexpr quintptr kGroupRow = 0;
constexpr int kModelShift = 16;
constexpr quintptr kGroupMask = (quintptr(1) << kModelShift) - 1;

size_t groupOf(quintptr id) {
    return size_t(id & kGroupMask) - 1;
}

QVariant needsText(const std::optional<Ledger>& needs) {
    if (!needs)
        return ModelTable::tr("not known yet");
    const uint64_t total = needs->use.total(), all = total + needs->other;
    if (needs->fits())
        return ModelTable::tr("%1, %2 free").arg(units::bytes(total), units::bytes(needs->free()));
    return ModelTable::tr("%1, %2 too big")
        .arg(units::bytes(total), units::bytes(all - needs->budget));
}

double shareOf(const std::optional<Ledger>& needs) {
    return needs && needs->budget
               ? double(needs->use.total() + needs->other) / double(needs->budget)
               : 0.0;
}

int alignment(int column) {
    const bool number = column >= ModelTable::Size && column != ModelTable::Needs;
    return int(Qt::AlignVCenter) | int(number ? Qt::AlignRight : Qt::AlignLeft);
}

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
    const auto& models = m_groups[groupOf(index.internalId())].models;
    const quintptr above = index.internalId() >> kModelShift;
    const size_t row = above ? size_t(above) - 1 : size_t(index.row());
    return row < models.size() ? &models[row] : nullptr;
}

const FoundVariant* ModelTable::variantAt(const QModelIndex& index) const {
    const FoundModel* model = index.internalId() >> kModelShift ? at(index) : nullptr;
    return model && size_t(index.row()) < model->variants.size()
               ? &model->variants[size_t(index.row())]
               : nullptr;
}

FoundModel* ModelTable::modelAt(quintptr id) {
    return &m_groups[groupOf(id)].models[size_t(id >> kModelShift) - 1];
}

void ModelTable::setVariants(const QString& path, std::vector<FoundVariant> variants) {
    for (size_t g = 0; g < m_groups.size(); ++g) {
        for (size_t m = 0; m < m_groups[g].models.size(); ++m) {
            FoundModel& model = m_groups[g].models[m];
            const bool isIt = model.path == path;
            const size_t wanted = isIt ? variants.size() : 0;
            const QModelIndex parent = createIndex(int(m), 0, quintptr(g + 1));
            if (model.variants.size() != wanted && !model.variants.empty()) {
                beginRemoveRows(parent, 0, int(model.variants.size()) - 1);
                model.variants.clear();
                endRemoveRows();
            }
            if (wanted == 0)
                continue;
            const bool fresh = model.variants.empty();
            if (fresh)
                beginInsertRows(parent, 0, int(wanted) - 1);
            model.variants = variants;
            if (fresh)
                endInsertRows();
            else
                emit dataChanged(index(0, 0, parent),
                                 index(int(wanted) - 1, ColumnCount - 1, parent));
        }
    }
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
    if (!parent.isValid())
        return createIndex(row, column, kGroupRow);
    if (parent.internalId() == kGroupRow)
        return createIndex(row, column, quintptr(parent.row() + 1));
    return createIndex(row, column,
                       parent.internalId() | quintptr(parent.row() + 1) << kModelShift);
}

QModelIndex ModelTable::parent(const QModelIndex& child) const {
    if (!child.isValid() || child.internalId() == kGroupRow)
        return {};
    const quintptr above = child.internalId() >> kModelShift;
    if (above)
        return createIndex(int(above) - 1, 0, child.internalId() & kGroupMask);
    return createIndex(int(groupOf(child.internalId())), 0, kGroupRow);
}

int ModelTable::rowCount(const QModelIndex& parent) const {
    if (!parent.isValid())
        return int(m_groups.size());
    if (parent.column() != 0 || parent.internalId() >> kModelShift)
        return 0;
    if (parent.internalId() == kGroupRow)
        return int(m_groups[size_t(parent.row())].models.size());
    const FoundModel* model = at(parent);
    return model ? int(model->variants.size()) : 0;
}

int ModelTable::columnCount(const QModelIndex&) const {
    return ColumnCount;
}

ModelTable::Fit ModelTable::fitOf(const std::optional<Ledger>& needs) {
    if (!needs)
        return Unknown;
    if (!needs->fits())
        return TooBig;
    return needs->free() < needs->budget / 10 ? Tight : Fits;
}

QVariant ModelTable::text(const FoundModel& model, int column) const {
    switch (column) {
    case Name:
        return model.name;
    case FormatColumn:
        return model.format.isEmpty() ? tr("not readable") : model.format;
    case Size:
        return units::bytes(model.bytes);
    case Bits:
        return model.bitsPerWeight > 0 ? QString::number(model.bitsPerWeight, 'f', 2)
                                       : tr("unknown");
    case Needs: {
        if (!model.problem.isEmpty())
            return tr("cannot run");
        return needsText(model.needs);
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
    if (const FoundVariant* variant = variantAt(index))
        return variantData(*model, *variant, index.column(), role);
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
        return alignment(index.column());
    case SortRole:
        return sortValue(*model, index.column());
    case FitRole:
        return fitOf(model->needs);
    case ShareRole:
        return shareOf(model->needs);
    case PathRole:
        return model->path;
    default:
        return {};
    }
}

QVariant ModelTable::text(const FoundVariant& variant, int column) {
    switch (column) {
    case Name:
        return variant.title;
    case FormatColumn:
        return tr("level");
    case Size:
        return units::bytes(variant.bytes);
    case Bits:
        return QString::number(variant.bitsPerWeight, 'f', 2);
    case Needs:
        return needsText(variant.needs);
    case Kld:
        return variant.kld.isEmpty() ? tr("not measured") : variant.kld;
    case Speed:
        return variant.speed.isEmpty() ? tr("not measured") : variant.speed;
    case LastUsed:
        return variant.running ? tr("running") : QString();
    default:
        return {};
    }
}

QVariant ModelTable::sortValue(const FoundVariant& variant, int column) {
    switch (column) {
    case Size:
    case Needs:
        return qulonglong(variant.bytes);
    case Bits:
        return variant.bitsPerWeight;
    case Kld:
        return variant.kld.section(u' ', 0, 0).toDouble();
    case Speed:
        return QString(variant.speed).remove(u',').toDouble();
    default:
        return text(variant, column);
    }
}

QVariant ModelTable::variantData(const FoundModel& model, const FoundVariant& variant, int column,
                                 int role) const {
    switch (role) {
    case Qt::DisplayRole:
        return text(variant, column);
    case Qt::ToolTipRole:
        return tr("%1 of %2: made from the base when it is used").arg(variant.title, model.name);
    case Qt::TextAlignmentRole:
        return alignment(column);
    case SortRole:
        return sortValue(variant, column);
    case FitRole:
        return fitOf(variant.needs);
    case ShareRole:
        return shareOf(variant.needs);
    case PathRole:
        return model.path;
    case VariantRole:
        return variant.level;
    default:
        return {};
    }
}

QVariant ModelTable::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal)
        return {};
    if (role == Qt::TextAlignmentRole)
        return alignment(section);
    if (role != Qt::DisplayRole)
        return {};
    switch (section) {
    case Name:
        return tr("Name");
    case FormatColumn:
        return tr("Format");
    case Size:
        return tr("Size");
    case Bits:
        return tr("Bits/weight");
    case Needs:
        return tr("Needs");
    case Kld:
        return tr("KLD ×10⁻³");
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
    const bool variant = !name.data(ModelTable::VariantRole).toString().isEmpty();
    // A variant is found by the words of its base, too.
    const QString of = variant ? parent.data().toString() + QLatin1Char(' ') : QString();
    const QString text = (of + name.data().toString() + QLatin1Char(' ') +
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
