// ctest: TIMEOUT=600
// nibble-cli when the driver, the disk or an input fails: one sentence, the right exit code, and
// nothing half written.
#include "tests/app/cli/cli_process.h"
#include "tests/support/shared_data.h"
#include "tests/support/vulkan_layer/use_layer.h"

#include <QDir>
#include <QElapsedTimer>
#include <QFile>
#include <QTemporaryDir>

#include <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace nibble::test;

namespace {

/// The last line of stderr is the sentence; what came before it told of the run.
bool endsWithASentence(const Outcome& outcome) {
    return isOneSentence(outcome.err.trimmed().split('\n').last() + '\n');
}

} // namespace

class TestFaults : public QObject {
    Q_OBJECT
    std::unique_ptr<QTemporaryDir> m_folder;
    QString path(const QString& name) const { return m_folder->filePath(name); }
    QStringList left() const {
        return QDir(m_folder->path())
            .entryList(QDir::AllEntries | QDir::System | QDir::NoDotAndDotDot);
    }
    QString text() const {
        QFile file(path("text.txt"));
        if (file.open(QIODevice::WriteOnly))
            file.write(QByteArray("Once upon a time there was a dog. ").repeated(60));
        return file.fileName();
    }

private slots:
    void init() { m_folder = std::make_unique<QTemporaryDir>(); }

    void aLostDeviceIs6_data() {
        QTest::addColumn<QStringList>("arguments");
        QTest::newRow("chat") << QStringList{"chat", "sample", "--raw", "--prompt", "x", "--json"};
        QTest::newRow("evaluate") << QStringList{"evaluate", "sample", "--level",   "int4",
                                                 "--text",   "TEXT",   "--context", "64"};
        QTest::newRow("logits") << QStringList{"logits", "sample", "--tokens", "1,2", "-o", "OUT"};
    }
    void aLostDeviceIs6() {
        QFETCH(QStringList, arguments);
        NIBBLE_NEED_LAYER();
        arguments.replaceInStrings("TEXT", text());
        arguments.replaceInStrings("OUT", path("out.npy"));
        for (const char* fault : {"submit:1:lost", "wait:1:lost"}) {
            const Outcome lost = cli(arguments + QStringList{"--device", "vulkan:0"}, {},
                                     {QString("NIBBLE_LAYER_FAULT=") + fault});
            QVERIFY2(lost.code == 6 && endsWithASentence(lost), lost.all().constData());
            QVERIFY(!QFile::exists(path("out.npy")));
        }
    }

    void noVideoMemoryIs5() {
        NIBBLE_NEED_LAYER();
        // With --json the plan is not on stderr. Without a number of layers the CPU would take
        // those that do not fit.
        const QStringList chat{"chat",     "sample",   "--raw",  "--prompt",     "x",
                               "--device", "vulkan:0", "--json", "--gpu-layers", "99"};
        const Outcome full = cli(chat, {}, {"NIBBLE_LAYER_FAULT=budget:2000000"});
        VERIFY_REFUSED(full, 5);
        QVERIFY2(full.err.contains("too few"), full.err.constData());
        VERIFY_REFUSED(cli(chat, {}, {"NIBBLE_LAYER_FAULT=alloc:2:oom"}), 5);
    }

    /// One signal stops between two submissions; a driver that never comes back needs a second.
    void aHungDriverCanBeLeft() {
        NIBBLE_NEED_LAYER();
        QProcess process;
        QStringList variables = QProcess::systemEnvironment();
        variables.append("NIBBLE_LAYER_FAULT=wait:1:hang");
        process.setEnvironment(variables);
        process.start(NIBBLE_CLI,
                      {"chat", "sample", "--raw", "--prompt", "x", "--device", "vulkan:0"});
        QByteArray said; // a cold start takes seconds, and before it hangs one signal is enough
        QTRY_VERIFY_WITH_TIMEOUT((said += process.readAllStandardError()).contains("layer hangs"),
                                 seconds(60));
        const auto terminate = [&] { ::kill(static_cast<pid_t>(process.processId()), SIGTERM); };
        terminate();
        QVERIFY(!process.waitForFinished(3000));
        terminate();
        QVERIFY(process.waitForFinished(seconds(5)));
        QCOMPARE(process.exitStatus(), QProcess::NormalExit);
        QCOMPARE(process.exitCode(), 7);
    }

    void aFullDiskIs4_data() {
        QTest::addColumn<QStringList>("arguments");
        QTest::newRow("quantize") << QStringList{"quantize", "sample",  "-o",
                                                 "OUT",      "--level", "q8_0"};
        QTest::newRow("logits") << QStringList{"logits",   "sample", "--tokens", "1,2,3,4,5,6,7,8",
                                               "--device", "cpu",    "-o",       "OUT"};
        QTest::newRow("bench") << QStringList{"bench", "sample", "--device", "cpu", "-o", "OUT"};
    }
    /// A limit on the size of files, which fails as a full disk does, after some bytes.
    void aFullDiskIs4() {
        QFETCH(QStringList, arguments);
        arguments.replaceInStrings("OUT", path("out"));
        const Outcome full = cli(arguments, {}, {}, [] {
            const rlimit limit{20'000, 20'000};
            setrlimit(RLIMIT_FSIZE, &limit);
        });
        VERIFY_REFUSED(full, 4);
        QVERIFY2(full.err.contains("Free some space"), full.err.constData());
        QCOMPARE(left(), QStringList());
    }
    /// The real thing, where a user may mount a file system of their own.
    void aFullFileSystemIs4() {
        const QString script =
            "mount -t tmpfs -o size=64k tmpfs \"$1\" || exit 99; "
            "\"$2\" quantize sample -o \"$1/out.gguf\" --level q8_0; code=$?; ls -A \"$1\"; "
            "exit $code";
        QProcess process;
        process.start("unshare", {"-Urm", "sh", "-c", script, "sh", m_folder->path(), NIBBLE_CLI});
        if (!process.waitForStarted() || !process.waitForFinished(seconds(120)) ||
            process.exitCode() == 99 || process.readAllStandardError().contains("unshare failed"))
            QSKIP("this user may not mount a file system");
        QCOMPARE(process.exitCode(), 4);
        QCOMPARE(process.readAllStandardOutput(), QByteArray());
    }

    void whatIsNoFileIsNotWritten() {
        QDir(m_folder->path()).mkdir("folder");
        QCOMPARE(mkfifo(qPrintable(path("fifo")), 0600), 0);
        for (const QString& out :
             {path("folder"), path("fifo"), QString("/dev/null"), path("no/x")}) {
            VERIFY_REFUSED(cli({"quantize", "sample", "-o", out, "--level", "q8_0"}), 4);
            VERIFY_REFUSED(cli({"logits", "sample", "--tokens", "1", "--device", "cpu", "-o", out}),
                           4);
        }
        struct stat info {};
        QVERIFY(stat("/dev/null", &info) == 0 && S_ISCHR(info.st_mode));
        QCOMPARE(left(), (QStringList{"fifo", "folder"}));
        if (geteuid() != 0) {
            QFile::setPermissions(path("folder"), QFile::ReadOwner | QFile::ExeOwner);
            VERIFY_REFUSED(cli({"quantize", "sample", "-o", path("folder/x"), "--level", "q8_0"}),
                           4);
        }
    }

    void whatIsNoFileIsNotRead() {
        QDir(m_folder->path()).mkdir("folder");
        QCOMPARE(mkfifo(qPrintable(path("fifo")), 0600), 0);
        for (const QString& in :
             {path("folder"), path("fifo"), QString("/dev/zero"), path("absent")}) {
            VERIFY_REFUSED(cli({"quantize", in, "-o", path("out"), "--level", "q8_0"}), 3);
            VERIFY_REFUSED(cli({"chat", in, "--prompt", "x"}), 3);
            VERIFY_REFUSED(cli({"evaluate", "sample", "--text", in}), 3);
            VERIFY_REFUSED(cli({"evaluate", "sample", "--recipe", in}), 3);
            VERIFY_REFUSED(cli({"tokenize", "sample", "--file", in}), 3);
        }
        QCOMPARE(left(), (QStringList{"fifo", "folder"}));
    }

    /// In the middle of one forward pass that takes the reference many seconds.
    void evaluateStopsWithinAPass() {
        QProcess process;
        process.start(NIBBLE_CLI, {"evaluate", "sample", "--level", "int4", "--device",
                                   "cpu:scalar", "--context", "512"});
        QVERIFY(process.waitForStarted());
        QTest::qWait(3000);
        QVERIFY2(process.state() == QProcess::Running, process.readAllStandardError().constData());
        QElapsedTimer timer;
        timer.start();
        ::kill(static_cast<pid_t>(process.processId()), SIGTERM);
        QVERIFY(process.waitForFinished(seconds(20)));
        QCOMPARE(process.exitCode(), 7);
        qInfo("stopped after %lld ms", static_cast<long long>(timer.elapsed()));
        // 250 ms are promised; the rest is for a machine that does other things as well.
        QVERIFY(timer.elapsed() < seconds(1));
    }
};

QTEST_GUILESS_MAIN(TestFaults)
#include "test_faults.moc"
