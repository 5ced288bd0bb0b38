#include "core/base/atomic_file.h"
#include "core/base/atomic_folder.h"
#include "core/base/checked.h"
#include "core/base/half.h"
#include "core/base/mapped_file.h"
#include "core/base/parallel.h"

#include <QTemporaryDir>
#include <QTest>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <numeric>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace nibble;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> weightsOnly(const fs::path&) {
    return {"weights"};
}

/// The number of a process that is no more.
pid_t deadProcess() {
    const pid_t process = fork();
    if (process == 0)
        _exit(0);
    waitpid(process, nullptr, 0);
    return process;
}

} // namespace

class TestBase : public QObject {
    Q_OBJECT
private slots:
    void halfRoundTripsEveryBitPattern() {
        for (uint32_t h = 0; h < 0x10000; ++h) {
            const float f = halfToFloat(static_cast<uint16_t>(h));
            if (std::isnan(f))
                QVERIFY(std::isnan(halfToFloat(floatToHalf(f))));
            else
                QCOMPARE(floatToHalf(f), static_cast<uint16_t>(h));
        }
    }
    void halfRoundsToNearestEven() {
        QCOMPARE(floatToHalf(1.0f + 0x1p-11f), floatToHalf(1.0f));               // tie to even
        QCOMPARE(floatToHalf(1.0f + 3 * 0x1p-11f), floatToHalf(1.0f + 0x1p-9f)); // tie up to even
        QCOMPARE(floatToHalf(65519.0f), uint16_t(0x7bff));
        QCOMPARE(floatToHalf(65520.0f), uint16_t(0x7c00));
        QCOMPARE(floatToHalf(0x1p-25f), uint16_t(0));
        QCOMPARE(floatToHalf(0x1.8p-25f), uint16_t(1));
    }
    void fileSizeRefusesToWrap() {
        const FileSize huge(std::numeric_limits<uint64_t>::max());
        QVERIFY_EXCEPTION_THROWN(huge + 1, Error);
        QVERIFY_EXCEPTION_THROWN(huge * 2, Error);
        QVERIFY_EXCEPTION_THROWN(FileSize(1) - 2, Error);
        QVERIFY_EXCEPTION_THROWN(huge.aligned(32), Error);
        QVERIFY_EXCEPTION_THROWN(FileSize(300).to<uint8_t>(), Error);
        QCOMPARE(FileSize(33).aligned(32).value(), uint64_t(64));
    }
    void messagesCannotBeForged() {
        QCOMPARE(printable("a\nb\x1b[31m"), std::string("a\\x0ab\\x1b[31m"));
        QCOMPARE(printable("x\xe2\x80\xaey"), std::string("x\\u202ey"));
        QVERIFY(printable(std::string(500, 'a'), 10).size() < 20);
    }
    void onlyRegularFilesAreOpened() {
        QTemporaryDir folder;
        const std::filesystem::path base(folder.path().toStdString());
        mkfifo((base / "fifo").c_str(), 0600);
        for (const auto& path :
             {base, base / "fifo", base / "absent", std::filesystem::path("/dev/zero")})
            QVERIFY_EXCEPTION_THROWN(mapFile(path), Error);
    }
    void atomicFileLeavesNothingBehind() {
        QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString() + "/out.txt";
        { AtomicFile(path).write("lost"); }
        QVERIFY(std::filesystem::is_empty(folder.path().toStdString()));
        writeFileAtomically(path, "first");
        QVERIFY_EXCEPTION_THROWN(writeFileAtomically("/nonexistent-folder/x", "no"), Error);
        writeFileAtomically(path, "second");
        QCOMPARE(readTextFile(path, 100), std::string("second"));
        QVERIFY_EXCEPTION_THROWN(readTextFile(path, 3), Error);
    }
    void largeAndSmallPiecesKeepTheirOrder() {
        QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString() + "/out.bin";
        std::string all;
        {
            AtomicFile file(path);
            char letter = 'a';
            for (const size_t count : {5, 1 << 20, 20 << 20, 7, 3 << 20, 1, (1 << 20) - 1, 2}) {
                const std::string piece(count, letter++);
                file.write(piece);
                all += piece;
            }
            QCOMPARE(file.written(), uint64_t(all.size()));
            file.commit();
        }
        QVERIFY(readTextFile(path, 1 << 30) == all);
    }
    void reservedRoomIsFilledInAnyOrder() {
        QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString() + "/out.bin";
        {
            AtomicFile file(path);
            file.write("begin");
            const uint64_t room = file.reserve(10);
            QCOMPARE(room, uint64_t(5));
            file.write("end");
            const auto put = [&](uint64_t at, std::string_view text) {
                file.writeAt(room + at, std::as_bytes(std::span(text.data(), text.size())));
            };
            put(7, "xyz");
            put(0, "abc");
            QCOMPARE(file.written(), uint64_t(18));
            file.commit();
        }
        QCOMPARE(readTextFile(path, 100), std::string("beginabc\0\0\0\0xyzend", 18));
    }
    void whatAKilledProcessLeftIsRemoved() {
        QTemporaryDir folder;
        const fs::path base(folder.path().toStdString());
        const pid_t dead = deadProcess();
        const auto part = [&](const std::string& name, pid_t process) {
            const fs::path path = base / (name + ".part-" + std::to_string(process));
            fs::create_directory(path);
            std::ofstream(path / "weights") << "half";
            return path;
        };
        const fs::path abandoned = part("out", dead), running = part("out", getppid()),
                       other = part("output", dead), backup = base / "out.part-1x";
        fs::create_directory(backup);
        { const AtomicFolder made(base / "out", "receipt", weightsOnly); }
        QVERIFY(!fs::exists(abandoned));
        for (const fs::path& kept : {running, other, backup})
            QVERIFY2(fs::exists(kept), kept.c_str());
        // Another machine on the same disk may have a process of that number.
        const fs::path locked = part("out", dead);
        const int lock = open(locked.c_str(), O_RDONLY | O_DIRECTORY);
        QCOMPARE(flock(lock, LOCK_EX | LOCK_NB), 0);
        { const AtomicFolder made(base / "out", "receipt", weightsOnly); }
        QVERIFY(fs::exists(locked));
        close(lock);
        AtomicFolder made(base / "out", "receipt", weightsOnly);
        QVERIFY(!fs::exists(locked));
        std::ofstream(made.temporary() / "receipt") << "whole";
        made.commit();
        QVERIFY(fs::exists(base / "out" / "receipt"));
    }
    void filesThatOthersPutThereStay() {
        QTemporaryDir folder;
        const fs::path base(folder.path().toStdString()), out = base / "out";
        const auto write = [&](const fs::path& path, const char* text) {
            AtomicFolder made(path, "receipt", weightsOnly);
            for (const char* name : {"receipt", "weights"})
                std::ofstream(made.temporary() / name) << text;
            if (std::string_view(text) == "third")
                std::ofstream(made.temporary() / "notes.txt") << text;
            made.commit();
        };
        write(out, "first");
        std::ofstream(out / "notes.txt") << "mine";
        fs::create_directories(out / ".git" / "objects");
        std::ofstream(out / ".git" / "HEAD") << "mine";
        fs::create_symlink("nowhere", out / "link");
        write(out, "second");
        QCOMPARE(readTextFile(out / "weights", 100), std::string("second"));
        for (const fs::path& mine : {out / "notes.txt", out / ".git" / "HEAD"})
            QCOMPARE(readTextFile(mine, 100), std::string("mine"));
        QVERIFY(fs::is_symlink(out / "link") && fs::is_directory(out / ".git" / "objects"));
        // Also under a name that is written now and was not before.
        write(out, "third");
        QCOMPARE(readTextFile(out / "notes.txt", 100), std::string("third"));
        QCOMPARE(readTextFile(out / "notes.txt.kept", 100), std::string("mine"));
        // And where the folder is reached by a link.
        fs::create_directory_symlink(out, base / "alias");
        write(base / "alias", "fourth");
        QVERIFY(fs::is_symlink(base / "alias"));
        QCOMPARE(readTextFile(out / "weights", 100), std::string("fourth"));
        QCOMPARE(readTextFile(out / ".git" / "HEAD", 100), std::string("mine"));
        QCOMPARE(std::distance(fs::directory_iterator(base), {}), std::ptrdiff_t(2));
    }
    /// Wherever the process dies while a folder takes the place of another, the user's files are
    /// there, and the next one puts them where they belong.
    void aKillLosesNoFiles() {
        QTemporaryDir folder;
        const fs::path base(folder.path().toStdString()), out = base / "out";
        const auto write = [&] {
            AtomicFolder made(out, "receipt", weightsOnly);
            for (const char* name : {"receipt", "weights"})
                std::ofstream(made.temporary() / name) << "whole";
            made.commit();
        };
        write();
        constexpr int kFiles = 300;
        for (int i = 0; i < kFiles; ++i)
            std::ofstream(out / ("mine-" + std::to_string(i))) << i;
        int interrupted = 0;
        for (int round = 0; round < 40; ++round) {
            const pid_t child = fork();
            if (child == 0) {
                write();
                _exit(0);
            }
            // Until the old folder has begun to be emptied, in half of the rounds.
            const fs::path part = base / ("out.part-" + std::to_string(child));
            const auto isMoving = [&] {
                return fs::exists(part / "mine-0") || fs::exists(part / "mine-299");
            };
            for (int i = 0; i < 20'000 && round % 2 == 0 && !isMoving(); ++i)
                if (waitpid(child, nullptr, WNOHANG) == child)
                    break;
            usleep(static_cast<useconds_t>(round * 37));
            kill(child, SIGKILL);
            waitpid(child, nullptr, 0);
            interrupted += isMoving();
            QCOMPARE(readTextFile(out / "weights", 100), std::string("whole"));
            for (int i = 0; i < kFiles; ++i) {
                const std::string name = "mine-" + std::to_string(i);
                QVERIFY2(fs::exists(out / name) != fs::exists(part / name), name.c_str());
            }
            { const AtomicFolder next(out, "receipt", weightsOnly); }
            QVERIFY(!fs::exists(part));
            for (int i = 0; i < kFiles; ++i)
                QCOMPARE(readTextFile(out / ("mine-" + std::to_string(i)), 100), std::to_string(i));
        }
        QVERIFY(interrupted > 0);
    }
    void partsOfFilesOfKilledProcessesAreRemoved() {
        QTemporaryDir folder;
        const fs::path base(folder.path().toStdString());
        const std::string dead = std::to_string(deadProcess());
        const auto part = [&](const std::string& name) {
            std::ofstream(base / name) << "half";
            return base / name;
        };
        const fs::path abandoned = part("x.gguf.part-" + dead),
                       running = part("x.gguf.part-" + std::to_string(getppid())),
                       other = part("y.gguf.part-" + dead), backup = part("x.gguf.part-1x"),
                       made = base / "x.gguf";
        writeFileAtomically(made, "whole");
        QVERIFY(!fs::exists(abandoned));
        for (const fs::path& kept : {running, other, backup, made})
            QVERIFY2(fs::exists(kept), kept.c_str());
        // Another machine on the same disk may have a process of that number.
        const int lock = open(part("x.gguf.part-" + dead).c_str(), O_RDONLY);
        QCOMPARE(flock(lock, LOCK_EX | LOCK_NB), 0);
        writeFileAtomically(made, "whole");
        QVERIFY(fs::exists(abandoned));
        close(lock);
        writeFileAtomically(made, "whole");
        QVERIFY(!fs::exists(abandoned));
    }
    void fullDiskIsOneSentence() {
        if (!std::filesystem::exists("/dev/full"))
            QSKIP("no /dev/full here");
        // The temporary lies beside the target; a link to /dev/full stands in for a full disk.
        QTemporaryDir folder;
        const std::filesystem::path path = folder.path().toStdString() + "/out.bin";
        std::filesystem::create_symlink("/dev/full",
                                        path.string() + ".part-" + std::to_string(getpid()));
        try {
            writeFileAtomically(path, std::string(3 << 20, 'x'));
            QFAIL("writing to a full disk must throw");
        } catch (const Error& error) {
            QCOMPARE(error.exitCode(), 4);
            QVERIFY(std::string(error.what()).find("No space left") != std::string::npos);
        }
        QVERIFY(!std::filesystem::exists(path));
        QVERIFY(std::filesystem::is_empty(folder.path().toStdString()));
    }
    void parallelForCoversEachIndexOnce() {
        std::vector<std::atomic<int>> seen(10'007);
        parallelFor(seen.size(), 16, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i)
                ++seen[i];
        });
        QVERIFY(std::all_of(seen.begin(), seen.end(), [](const auto& n) { return n == 1; }));
    }
    /// Jobs shorter than a thread takes to wake, one after the other and from two threads at once,
    /// with pauses about as long as idle threads look for the next one before they sleep.
    void parallelForTakesManyShortJobs() {
        std::atomic<int> wrong{0};
        const auto run = [&wrong] {
            for (int round = 0; round < 2000; ++round) {
                std::vector<int> seen(static_cast<size_t>(1 + round % 97));
                const bool throws = round % 50 == 49;
                try {
                    parallelFor(seen.size(), 1, [&](size_t begin, size_t end) {
                        for (size_t i = begin; i < end; ++i)
                            ++seen[i];
                        parallelFor(3, 1, [](size_t, size_t) {}); // from inside: serially
                        if (throws && end == seen.size())
                            fail(ErrorKind::BadInput, "planted");
                    });
                    wrong += throws;
                } catch (const Error&) {
                    wrong += !throws;
                }
                for (const int times : seen)
                    wrong += times != 1;
                if (round % 100 < 10)
                    std::this_thread::sleep_for(std::chrono::microseconds(round % 10 * 30));
            }
        };
        std::thread other(run);
        run();
        other.join();
        QCOMPARE(wrong.load(), 0);
    }
    /// The first failure in order, whichever thread came first.
    void parallelForRethrows() {
        for (int round = 0; round < 300; ++round)
            try {
                parallelFor(1000, 1, [](size_t begin, size_t end) {
                    for (size_t i = begin; i < end; ++i)
                        if (i > 200)
                            fail(ErrorKind::BadInput, "planted at {}", i);
                });
                QFAIL("nothing was thrown");
            } catch (const Error& error) {
                QCOMPARE(std::string(error.what()), std::string("planted at 201"));
            }
    }
};

QTEST_GUILESS_MAIN(TestBase)
#include "test_base.moc"
