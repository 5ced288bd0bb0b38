#include "app/gui/units.h"

#include <QCoreApplication>
#include <QLocale>

#include <algorithm>
#include <cmath>

namespace nibble::units {

namespace {

const QChar kThin(0x2009);

QString tr(const char* text) {
    return QCoreApplication::translate("units", text);
}

QString superscript(int value) {
    static constexpr char16_t kDigits[] = u"⁰¹²³⁴⁵⁶⁷⁸⁹";
    QString text;
    for (const QChar c : QString::number(value))
        text += c.isDigit() ? QChar(kDigits[c.digitValue()]) : QChar(u'⁻');
    return text;
}

} // namespace

QString minus(const QString& number) {
    QString result = number;
    result.replace(QLatin1Char('-'), QChar(0x2212));
    return result;
}

QString number(double value, int digits) {
    if (!std::isfinite(value))
        return std::isnan(value) ? tr("not a number") : tr("infinite");
    if (value == 0)
        return QStringLiteral("0");
    const int magnitude = int(std::floor(std::log10(std::abs(value))));
    if (magnitude < -4 || magnitude > 9) {
        const QString text = QString::number(value, 'e', digits - 1);
        return minus(text.section(u'e', 0, 0)) + QStringLiteral("×10") +
               superscript(text.section(u'e', 1).toInt());
    }
    // 15,346 measured to three digits is 15,300.
    const double step = magnitude >= digits ? std::pow(10.0, magnitude - digits + 1) : 0;
    return minus(QLocale(QLocale::English)
                     .toString(step > 0 ? std::round(value / step) * step : value, 'f',
                               std::max(0, digits - 1 - magnitude)));
}

QString gigabytes(uint64_t bytes) {
    const double gb = double(bytes) / 1e9;
    return gb < 0.001 && bytes ? QStringLiteral("< 0.001")
           : gb < 1            ? QString::number(gb, 'f', 3)
                               : number(gb, 3);
}

QString bytes(uint64_t bytes) {
    const double b = double(bytes);
    const auto with = [](double value, const char* unit) {
        return number(value, 3) + kThin + QLatin1String(unit);
    };
    if (b >= 0.9995e9)
        return with(b / 1e9, "GB");
    if (b >= 0.9995e6)
        return with(b / 1e6, "MB");
    if (b >= 0.9995e3)
        return with(b / 1e3, "kB");
    return with(b, "B");
}

QString signedBytes(int64_t change) {
    if (change == 0)
        return QCoreApplication::translate("units", "same size");
    return (change < 0 ? QString(QChar(0x2212)) : QStringLiteral("+")) +
           bytes(static_cast<uint64_t>(change < 0 ? -change : change));
}

QString count(int64_t value) {
    return minus(QLocale(QLocale::English).toString(qlonglong(value)));
}

QString withError(double value, double error) {
    if (!(error > 0))
        return number(value);
    const int magnitude = int(std::floor(std::log10(error)));
    const int decimals = std::clamp(-magnitude, 0, 8);
    return minus(QStringLiteral("%1 ± %2").arg(QString::number(value, 'f', decimals),
                                               QString::number(error, 'f', decimals)));
}

QString big(double value) {
    if (value >= 1e9)
        return number(value / 1e9) + QLatin1Char(' ') + tr("billion");
    if (value >= 1e6)
        return number(value / 1e6) + QLatin1Char(' ') + tr("million");
    return count(int64_t(std::llround(value)));
}

QString duration(double seconds) {
    const auto s = int64_t(std::ceil(std::max(0.0, seconds)));
    if (s < 60)
        return QStringLiteral("%1%2s").arg(s).arg(kThin);
    if (s < 3600)
        return QStringLiteral("%1%2min %3%2s").arg(s / 60).arg(kThin).arg(s % 60);
    return QStringLiteral("%1%2h %3%2min").arg(s / 3600).arg(kThin).arg(s % 3600 / 60);
}

} // namespace nibble::units
