#pragma once

#include "app/gui/models/found_models.h"

#include <QAbstractItemModel>
#include <QSortFilterProxyModel>

#include <vector>

namespace nibble {

/// Models on disk in three levels: where they were found, each of them, and under the open one its
/// variants.
class ModelTable : public QAbstractItemModel {
    Q_OBJECT
public:
    enum Column { Name, FormatColumn, Size, Bits, Needs, Kld, Speed, LastUsed, ColumnCount };
    /// Roles beside the text: sort value, fit of the Needs column, the path.
    enum Data { SortRole = Qt::UserRole, FitRole, ShareRole, PathRole, GroupRole, VariantRole };
    enum Fit { Unknown, Fits, Tight, TooBig };

    using QAbstractItemModel::QAbstractItemModel;

    void setModels(std::vector<FoundModel> models);
    /// Measured figures of the model that is open.
    void setMeasured(const QString& path, const QString& kld, const QString& speed);
    /// The rows under a model; replaces those of every other.
    void setVariants(const QString& path, std::vector<FoundVariant> variants);
    /// The model of a row, also of a variant's.
    const FoundModel* at(const QModelIndex& index) const;
    QModelIndex indexOf(const QString& path) const;
    int count() const;

    QModelIndex index(int row, int column, const QModelIndex& parent = {}) const override;
    QModelIndex parent(const QModelIndex& child) const override;
    int rowCount(const QModelIndex& parent = {}) const override;
    int columnCount(const QModelIndex& parent = {}) const override;
    QVariant data(const QModelIndex& index, int role) const override;
    QVariant headerData(int section, Qt::Orientation orientation, int role) const override;
    Qt::ItemFlags flags(const QModelIndex& index) const override;

    static Fit fitOf(const std::optional<Ledger>& needs);

private:
    struct Group {
        QString name;
        std::vector<FoundModel> models;
    };
    QVariant text(const FoundModel& model, int column) const;
    static QVariant text(const FoundVariant& variant, int column);
    static QVariant sortValue(const FoundVariant& variant, int column);
    QVariant variantData(const FoundModel& model, const FoundVariant& variant, int column,
                         int role) const;
    const FoundVariant* variantAt(const QModelIndex& index) const;
    FoundModel* modelAt(quintptr id);
    QVariant sortValue(const FoundModel& model, int column) const;
    std::vector<Group> m_groups;
    QString m_measuredPath, m_kld, m_speed;
};

/// Filters by the words of name and format, and by what fits.
class ModelFilter : public QSortFilterProxyModel {
    Q_OBJECT
public:
    explicit ModelFilter(QObject* parent = nullptr);
    void setWords(const QString& text);
    void setOnlyFitting(bool only);

protected:
    bool filterAcceptsRow(int row, const QModelIndex& parent) const override;
    bool lessThan(const QModelIndex& left, const QModelIndex& right) const override;

private:
    QStringList m_words;
    bool m_onlyFitting = false;
};

} // namespace nibble
