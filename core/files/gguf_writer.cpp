#include "core/base/atomic_file.h"
#include "core/base/checked.h"
#include "core/files/checkpoint.h"
#include "core/files/gguf_format.h"

#include <atomic>
#include <future>
#include <limits>

namespace nibble {
namespace {

using namespace gguf;

/// The header being built in memory.
class Header {
public:
    template <typename T>
    void put(T value) {
        const auto* bytes = reinterpret_cast<const std::byte*>(&value);
        m_bytes.insert(m_bytes.end(), bytes, bytes + sizeof(T));
    }
    void putString(std::string_view text) {
        put(static_cast<uint64_t>(text.size()));
        const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
        m_bytes.insert(m_bytes.end(), bytes, bytes + text.size());
    }
    void pad(uint64_t alignment) {
        m_bytes.resize(FileSize(m_bytes.size()).aligned(alignment).value());
    }
    std::span<const std::byte> bytes() const { return m_bytes; }

private:
    std::vector<std::byte> m_bytes;
};

bool fits(int64_t value, uint32_t type) {
    const auto within = [value](int64_t low, int64_t high) {
        return value >= low && value <= high;
    };
    switch (type) {
    case kU8:
        return within(0, 0xff);
    case kI8:
        return within(-0x80, 0x7f);
    case kU16:
        return within(0, 0xffff);
    case kI16:
        return within(-0x8000, 0x7fff);
    case kU32:
        return within(0, 0xffffffff);
    case kI32:
        return within(std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max());
    case kU64:
        return value >= 0;
    case kI64:
        return true;
    default:
        return false;
    }
}

void putInteger(Header& out, int64_t value, uint32_t type) {
    switch (valueBytes(type)) {
    case 1:
        out.put(static_cast<uint8_t>(value));
        break;
    case 2:
        out.put(static_cast<uint16_t>(value));
        break;
    case 4:
        out.put(static_cast<uint32_t>(value));
        break;
    default:
        out.put(value);
        break;
    }
}

/// The stated type where the value fits it, else the one that engines expect of such a value.
uint32_t integerType(int64_t value, uint32_t stated) {
    if (fits(value, stated))
        return stated;
    return fits(value, kU32) ? kU32 : fits(value, kI32) ? kI32 : kI64;
}

void putArrayStart(Header& out, uint32_t type, size_t count) {
    out.put(uint32_t(kArray));
    out.put(type);
    out.put(static_cast<uint64_t>(count));
}

void putIntegers(Header& out, const MetadataValue::Integers& values, uint32_t stated) {
    const auto allFit = [&](uint32_t type) {
        for (const int64_t value : values)
            if (!fits(value, type))
                return false;
        return true;
    };
    const uint32_t type = allFit(stated) && valueBytes(stated) != 0 ? stated
                          : allFit(kI32)                            ? kI32
                                                                    : kI64;
    putArrayStart(out, type, values.size());
    for (const int64_t value : values)
        putInteger(out, value, type);
}

void putValue(Header& out, const MetadataValue& entry) {
    struct Visitor {
        Header& out;
        const MetadataValue& entry;

        void operator()(int64_t value) const {
            const uint32_t type = integerType(value, entry.storedType);
            out.put(type);
            putInteger(out, value, type);
        }
        void operator()(uint64_t value) const {
            out.put(uint32_t(kU64));
            out.put(value);
        }
        void operator()(double value) const {
            const bool wide = entry.storedType == kF64;
            out.put(uint32_t(wide ? kF64 : kF32));
            if (wide)
                out.put(value);
            else
                out.put(static_cast<float>(value));
        }
        void operator()(bool value) const {
            out.put(uint32_t(kBool));
            out.put(static_cast<uint8_t>(value));
        }
        void operator()(const std::string& value) const {
            out.put(uint32_t(kString));
            out.putString(value);
        }
        void operator()(const MetadataValue::Strings& values) const {
            putArrayStart(out, kString, values.size());
            for (const std::string& value : values)
                out.putString(value);
        }
        void operator()(const MetadataValue::Integers& values) const {
            putIntegers(out, values, entry.storedElementType);
        }
        void operator()(const MetadataValue::Floats& values) const {
            putArrayStart(out, kF32, values.size());
            for (const float value : values)
                out.put(value);
        }
        void operator()(const MetadataValue::Doubles& values) const {
            putArrayStart(out, kF64, values.size());
            for (const double value : values)
                out.put(value);
        }
        void operator()(const MetadataValue::Booleans& values) const {
            putArrayStart(out, kBool, values.size());
            for (const bool value : values)
                out.put(static_cast<uint8_t>(value));
        }
    };
    std::visit(Visitor{out, entry}, entry.value);
}

/// What describes parts of a split file is not true of the one file written here.
bool isWritten(std::string_view key) {
    return !key.starts_with("split.");
}

} // namespace

void writeGgufInParts(const std::filesystem::path& path, const Metadata& metadata,
                      std::span<const GgufTensor> tensors,
                      const std::function<Bytes(size_t index, const PutBytes& put)>& produce) {
    const auto alignment = static_cast<uint64_t>(
        metadata.integerOr(kAlignmentKey, static_cast<int64_t>(kDefaultAlignment)));
    if (alignment == 0 || (alignment & (alignment - 1)) != 0)
        fail(ErrorKind::Usage, "general.alignment is {}; a power of two is expected.", alignment);
    uint64_t entries = 0;
    for (const auto& [key, value] : metadata.entries)
        entries += isWritten(key);
    Header header;
    for (const char c : kMagic)
        header.put(c);
    header.put(kVersion);
    header.put(static_cast<uint64_t>(tensors.size()));
    header.put(entries);
    for (const auto& [key, value] : metadata.entries) {
        if (!isWritten(key))
            continue;
        header.putString(key);
        putValue(header, value);
    }
    FileSize offset = 0;
    for (const GgufTensor& tensor : tensors) {
        if (!tensor.type || tensor.type->ggufType < 0)
            fail(ErrorKind::Internal, "Tensor \"{}\" has no GGUF type to be written as.",
                 printable(tensor.name));
        header.putString(tensor.name);
        header.put(static_cast<uint32_t>(tensor.dims.size()));
        for (auto dim = tensor.dims.rbegin(); dim != tensor.dims.rend(); ++dim)
            header.put(static_cast<uint64_t>(*dim));
        header.put(static_cast<uint32_t>(tensor.type->ggufType));
        header.put(offset.value());
        offset = (offset + tensor.bytes).aligned(alignment);
    }
    header.pad(alignment);

    AtomicFile file(path);
    file.write(header.bytes());
    uint64_t begin = file.reserve(offset.value());
    std::future<void> written; // the tensor before, while the next is made
    for (size_t i = 0; i < tensors.size(); ++i) {
        std::atomic<uint64_t> put = 0;
        const Bytes bytes = produce(i, [&](uint64_t at, std::span<const std::byte> part) {
            if (at > tensors[i].bytes || part.size() > tensors[i].bytes - at)
                fail(ErrorKind::Internal, "Tensor \"{}\" has {} bytes; {} at {} are too many.",
                     printable(tensors[i].name), tensors[i].bytes, part.size(), at);
            put += part.size();
            file.writeAt(begin + at, part);
        });
        if (bytes.size() + put != tensors[i].bytes)
            fail(ErrorKind::Internal, "Tensor \"{}\" has {} bytes where {} were announced.",
                 printable(tensors[i].name), bytes.size() + put, tensors[i].bytes);
        if (written.valid())
            written.get();
        if (!bytes.empty())
            written = std::async([&file, begin, bytes] { file.writeAt(begin, bytes.view()); });
        begin = (FileSize(begin) + tensors[i].bytes).aligned(alignment).value();
    }
    if (written.valid())
        written.get();
    file.commit();
}

void writeGguf(const std::filesystem::path& path, const Metadata& metadata,
               std::span<const GgufTensor> tensors,
               const std::function<Bytes(size_t index)>& produce) {
    writeGgufInParts(path, metadata, tensors,
                     [&](size_t index, const PutBytes&) { return produce(index); });
}

} // namespace nibble
