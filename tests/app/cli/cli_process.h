#pragma once

#include "tests/support/patience.h"

#include <QProcess>
#include <QStringList>
#include <QTest>

#include <functional>

namespace nibble::test {

struct Outcome {
    int code = -1;
    QByteArray out, err;
    QByteArray all() const { return QByteArray::number(code) + "\n" + out + err; }
};

/// Runs nibble-cli to its end, as a real process.
inline Outcome cli(const QStringList& arguments, const QByteArray& input = {},
                   const QStringList& environment = {}, const std::function<void()>& inChild = {}) {
    QProcess process;
    QStringList variables = QProcess::systemEnvironment();
    variables.append(environment);
    process.setEnvironment(variables);
    if (inChild)
        process.setChildProcessModifier(inChild);
    process.start(NIBBLE_CLI, arguments);
    process.write(input);
    process.closeWriteChannel();
    if (!process.waitForFinished(seconds(120)) || process.exitStatus() != QProcess::NormalExit)
        return {-1, process.readAllStandardOutput(), "crashed or hung"};
    return {process.exitCode(), process.readAllStandardOutput(), process.readAllStandardError()};
}

inline bool isOneSentence(const QByteArray& err) {
    return err.startsWith("nibble-cli: ") && err.count('\n') == 1 && err.trimmed().size() > 30;
}

} // namespace nibble::test

#define VERIFY_REFUSED(outcome, kind)                                                              \
    do {                                                                                           \
        const nibble::test::Outcome refused = outcome;                                             \
        QVERIFY2(refused.code == (kind), refused.all().constData());                               \
        QVERIFY2(refused.out.isEmpty(), refused.all().constData());                                \
        QVERIFY2(nibble::test::isOneSentence(refused.err), refused.all().constData());             \
    } while (false)
