#include "app/cli/reports.h"

namespace nibble::cli {

Json categoriesOf(const std::optional<ProbeReport>& report) {
    if (!report)
        return nullptr;
    Json categories = Json::object();
    for (const ProbeReport::Category& category : report->categories)
        categories[category.category] = {{"correct", category.correct}, {"count", category.count}};
    return categories;
}

Json accuracyOf(const std::optional<ProbeReport>& report) {
    return report ? Json(report->accuracy) : Json(nullptr);
}

Json accuracyErrorOf(const std::optional<ProbeReport>& report) {
    return report ? Json(report->error) : Json(nullptr);
}

} // namespace nibble::cli
