#pragma once

#include <QString>

#include <cstdint>

/// Numbers as people read them: value, thin space, unit; U+2212 for minus; GB = 10⁹ bytes.
namespace nibble::units {

/// "6.43" in GB, three significant digits.
QString gigabytes(uint64_t bytes);
/// With the unit that suits: "1.97 GB", "13.4 MB", "18 kB".
QString bytes(uint64_t bytes);
/// Rounded to that many significant digits, with separators, without exponent for everyday sizes.
QString number(double value, int digits = 3);
/// With separators: "131,072".
QString count(int64_t value);
/// "+8 kB", "−1.2 MB", "same size".
QString signedBytes(int64_t bytes);
/// "0.0163 ± 0.0006": the value to the error's precision.
QString withError(double value, double error);
/// "3.21 billion", "15.2 million".
QString big(double value);
/// "1 min 10 s", "8 s".
QString duration(double seconds);
QString minus(const QString& number);

} // namespace nibble::units
