#include "core/base/mapped_file.h"

#include "core/base/error.h"

#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace nibble {
namespace {

struct Descriptor {
    int value = -1;
    ~Descriptor() {
        if (value >= 0)
            close(value);
    }
};

/// Opens without blocking on FIFOs and checks the type after opening, so that the answer is about
/// the very file that is read.
uint64_t openRegular(const std::filesystem::path& path, Descriptor& file) {
    file.value = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file.value < 0) {
        const char* advice = errno == ENOENT   ? "Check the name."
                             : errno == EACCES ? "You have no permission to read it."
                                               : "It cannot be opened.";
        fail(ErrorKind::BadInput, "{}: {}. {}", printable(path.string(), 400), std::strerror(errno),
             advice);
    }
    struct stat info;
    if (fstat(file.value, &info) != 0)
        fail(ErrorKind::BadInput, "{}: {}", printable(path.string(), 400), std::strerror(errno));
    if (!S_ISREG(info.st_mode))
        fail(ErrorKind::BadInput, "{} is {}, not a file. Choose a model file.",
             printable(path.string(), 400),
             S_ISDIR(info.st_mode)    ? "a folder"
             : S_ISFIFO(info.st_mode) ? "a FIFO"
             : S_ISSOCK(info.st_mode) ? "a socket"
                                      : "a device");
    return static_cast<uint64_t>(info.st_size);
}

} // namespace

Bytes mapFile(const std::filesystem::path& path) {
    Descriptor file;
    const uint64_t size = openRegular(path, file);
    if (size == 0)
        return {};
    void* address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
    if (address == MAP_FAILED)
        fail(ErrorKind::OutOfMemory, "{}: cannot be mapped into memory ({}).",
             printable(path.string(), 400), std::strerror(errno));
    std::shared_ptr<const void> owner(
        address, [size](const void* p) { munmap(const_cast<void*>(p), size); });
    return Bytes(owner, {static_cast<const std::byte*>(address), size});
}

std::string readTextFile(const std::filesystem::path& path, uint64_t limit) {
    Descriptor file;
    const uint64_t size = openRegular(path, file);
    if (size > limit)
        fail(ErrorKind::BadInput, "{} has {} bytes; at most {} are accepted here.",
             printable(path.string(), 400), size, limit);
    std::string text(size, '\0');
    size_t done = 0;
    while (done < text.size()) {
        const ssize_t n = read(file.value, text.data() + done, text.size() - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail(ErrorKind::BadInput, "{}: {}", printable(path.string(), 400),
                 std::strerror(errno));
        if (n == 0)
            break;
        done += static_cast<size_t>(n);
    }
    text.resize(done);
    return text;
}

void releasePages(std::span<const std::byte> view) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = (reinterpret_cast<uintptr_t>(view.data()) + page - 1) / page * page;
    const auto end = (reinterpret_cast<uintptr_t>(view.data()) + view.size()) / page * page;
    if (begin < end)
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void prefetchPages(std::span<const std::byte> view) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<uintptr_t>(view.data()) / page * page;
    const auto end = reinterpret_cast<uintptr_t>(view.data()) + view.size();
    if (begin < end)
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

void requireReadable(std::span<const std::byte> view, std::string_view what) {
    if (view.empty())
        return;
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<uintptr_t>(view.data()) / page * page;
    const auto end = reinterpret_cast<uintptr_t>(view.data()) + view.size();
    const auto refuse = [&] {
        fail(ErrorKind::BadInput,
             "{} can no longer be read from its file: it was cut or replaced, or its disk fails. "
             "Open the model again.",
             printable(what));
    };
    constexpr int kPopulateRead = 22; // MADV_POPULATE_READ, which C libraries name since 2021
    int done;
    do
        done = madvise(reinterpret_cast<void*>(begin), end - begin, kPopulateRead);
    while (done != 0 && errno == EINTR);
    if (done == 0)
        return;
    if (errno != EINVAL)
        return refuse();
    // Kernels before 5.14: a byte of each page, by a call that fails where a touch would be fatal.
    for (uintptr_t at = begin; at < end; at += page) {
        char byte;
        const iovec to{&byte, 1}, from{reinterpret_cast<void*>(at), 1};
        if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != 1 && errno == EFAULT)
            refuse();
    }
}

std::string inflateText(std::span<const std::byte> compressed, uint64_t limit) {
    std::string out;
    z_stream stream{};
    if (inflateInit(&stream) != Z_OK)
        fail(ErrorKind::OutOfMemory, "zlib cannot start.");
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(compressed.data()));
    stream.avail_in = static_cast<uInt>(compressed.size());
    int code = Z_OK;
    char buffer[65536];
    while (code == Z_OK && out.size() <= limit) {
        stream.next_out = reinterpret_cast<Bytef*>(buffer);
        stream.avail_out = sizeof buffer;
        code = inflate(&stream, Z_NO_FLUSH);
        out.append(buffer, sizeof buffer - stream.avail_out);
        if (code == Z_OK && stream.avail_in == 0 && stream.avail_out != 0)
            code = Z_BUF_ERROR;
    }
    inflateEnd(&stream);
    if (code != Z_STREAM_END)
        fail(ErrorKind::BadInput, "A compressed text is damaged or larger than {} bytes.", limit);
    return out;
}

} // namespace nibble
