#include "core/base/checked.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/gguf_format.h"
#include "core/files/names.h"
#include "core/files/openers.h"
#include "core/files/shards.h"

#include <algorithm>
#include <cstring>
#include <fmt/ranges.h>

namespace nibble {
namespace {

using namespace gguf;

/// Reads little-endian values from a mapped file; nothing is read before the bytes are known to be
/// there, and every complaint names the file and the byte.
class Cursor {
public:
    Cursor(std::string file, std::span<const std::byte> bytes)
        : m_file(std::move(file)), m_bytes(bytes) {}

    uint64_t at() const { return m_at; }
    uint64_t left() const { return m_bytes.size() - m_at; }

    template <typename T>
    T take(std::string_view what) {
        need(sizeof(T), what);
        T value;
        std::memcpy(&value, m_bytes.data() + m_at, sizeof(T));
        m_at += sizeof(T);
        return value;
    }

    std::string_view takeString(std::string_view what, uint64_t limit) {
        const auto length = take<uint64_t>(what);
        if (length > limit)
            damaged("{} claims {} bytes; at most {} are accepted", what, length, limit);
        need(length, what);
        const std::string_view text(reinterpret_cast<const char*>(m_bytes.data()) + m_at, length);
        m_at += length;
        return text;
    }

    std::string_view takeName(std::string_view what, uint64_t limit) {
        const std::string_view name = takeString(what, limit);
        if (name.empty())
            damaged("{} is empty", what);
        if (!isUtf8(name))
            damaged("{} is not valid UTF-8", what);
        return name;
    }

    /// `count` things of at least `each` bytes must fit in what is left of the file.
    void needRoom(uint64_t count, uint64_t each, std::string_view what, uint64_t limit) {
        if (count > limit)
            damaged("it claims {} {}; at most {} are accepted", count, what, limit);
        if (count > left() / each)
            damaged("it claims {} {}, which cannot fit in the {} bytes left", count, what, left());
    }

    template <typename... Args>
    [[noreturn]] void damaged(fmt::format_string<Args...> text, Args&&... args) const {
        fail(ErrorKind::BadInput,
             "{}: {} (byte {}). The file is damaged or hostile; download it again.", m_file,
             fmt::format(text, std::forward<Args>(args)...), m_at);
    }

private:
    void need(uint64_t bytes, std::string_view what) const {
        if (bytes > left())
            fail(ErrorKind::BadInput,
                 "{}: the file ends at byte {} inside {} (it starts at byte {} and needs {} "
                 "bytes). The "
                 "download is not complete; fetch it again.",
                 m_file, m_bytes.size(), what, m_at, bytes);
    }

    std::string m_file;
    std::span<const std::byte> m_bytes;
    uint64_t m_at = 0;
};

int64_t takeInteger(Cursor& in, uint32_t type, std::string_view what) {
    switch (type) {
    case kU8:
        return in.take<uint8_t>(what);
    case kI8:
        return in.take<int8_t>(what);
    case kU16:
        return in.take<uint16_t>(what);
    case kI16:
        return in.take<int16_t>(what);
    case kU32:
        return in.take<uint32_t>(what);
    case kI32:
        return in.take<int32_t>(what);
    default:
        return in.take<int64_t>(what);
    }
}

bool takeBool(Cursor& in, std::string_view what) {
    const auto byte = in.take<uint8_t>(what);
    if (byte > 1)
        in.damaged("{} is a boolean with the value {}; 0 or 1 is expected", what, byte);
    return byte == 1;
}

MetadataValue takeArray(Cursor& in, std::string_view what) {
    const auto type = in.take<uint32_t>(what);
    if (type == kArray)
        in.damaged("{} is an array of arrays, which is not accepted", what);
    if (valueBytes(type) == 0)
        in.damaged("{} is an array of the unknown type {}", what, type);
    const auto count = in.take<uint64_t>(what);
    in.needRoom(count, valueBytes(type), fmt::format("array elements in {}", what),
                limits::kArrayElements);
    MetadataValue value;
    value.storedType = kArray;
    value.storedElementType = type;
    if (type == kString) {
        MetadataValue::Strings strings;
        strings.reserve(count);
        for (uint64_t i = 0; i < count; ++i)
            strings.emplace_back(in.takeString(what, limits::kStringBytes));
        value.value = std::move(strings);
    } else if (type == kF32) {
        MetadataValue::Floats floats(count);
        for (float& f : floats)
            f = in.take<float>(what);
        value.value = std::move(floats);
    } else if (type == kF64) {
        MetadataValue::Doubles doubles(count);
        for (double& d : doubles)
            d = in.take<double>(what);
        value.value = std::move(doubles);
    } else if (type == kBool) {
        MetadataValue::Booleans booleans(count);
        for (uint64_t i = 0; i < count; ++i)
            booleans[i] = takeBool(in, what);
        value.value = std::move(booleans);
    } else {
        MetadataValue::Integers integers(count);
        for (int64_t& integer : integers) {
            integer = takeInteger(in, type, what);
            if (type == kU64 && integer < 0)
                in.damaged("{} holds {}; at most 2^63 − 1 is accepted in arrays", what,
                           static_cast<uint64_t>(integer));
        }
        value.value = std::move(integers);
    }
    return value;
}

MetadataValue takeValue(Cursor& in, std::string_view what) {
    const auto type = in.take<uint32_t>(what);
    if (type == kArray)
        return takeArray(in, what);
    if (valueBytes(type) == 0)
        in.damaged("{} has the unknown value type {}", what, type);
    MetadataValue value;
    value.storedType = type;
    if (type == kString) {
        value.value = std::string(in.takeString(what, limits::kStringBytes));
    } else if (type == kF32) {
        value.value = static_cast<double>(in.take<float>(what));
    } else if (type == kF64) {
        value.value = in.take<double>(what);
    } else if (type == kBool) {
        value.value = takeBool(in, what);
    } else {
        const int64_t integer = takeInteger(in, type, what);
        if (type == kU64 && integer < 0)
            value.value = static_cast<uint64_t>(integer);
        else
            value.value = integer;
    }
    return value;
}

/// One GGUF file; a model may be split over several.
struct Part {
    std::filesystem::path path;
    Metadata metadata;
    std::vector<TensorInfo> tensors;
    uint64_t bytes = 0;
};

uint64_t alignmentOf(const Cursor& in, const Metadata& metadata) {
    const MetadataValue* entry = metadata.find(kAlignmentKey);
    if (!entry)
        return kDefaultAlignment;
    const auto* value = std::get_if<int64_t>(&entry->value);
    if (entry->storedType != kU32 || !value)
        in.damaged("general.alignment is {} of value type {}; a 32-bit unsigned number is expected",
                   describe(*entry), entry->storedType);
    const auto alignment = static_cast<uint64_t>(*value);
    if (alignment < limits::kMinAlignment || alignment > limits::kMaxAlignment ||
        (alignment & (alignment - 1)))
        in.damaged("general.alignment is {}; a power of two from {} to {} is expected", alignment,
                   limits::kMinAlignment, limits::kMaxAlignment);
    return alignment;
}

/// A tensor's place, relative to the data's start until it is known.
struct Placed {
    TensorInfo info;
    uint64_t offset, bytes;
};

Placed takeTensor(Cursor& in, const std::filesystem::path& path, uint64_t index) {
    Placed tensor{};
    tensor.info.name = in.takeName(fmt::format("the name of tensor {}", index), limits::kNameBytes);
    const std::string what =
        fmt::format("tensor \"{}\" (entry {})", printable(tensor.info.name), index);
    const auto count = in.take<uint32_t>(what);
    if (count < 1 || count > kMaxDims)
        in.damaged("{} claims {} dimensions; 1 to {} are accepted", what, count, kMaxDims);
    for (uint32_t d = 0; d < count; ++d) {
        const auto size = in.take<uint64_t>(what);
        if (size < 1 || size >= limits::kTensorElements)
            in.damaged("{} has {} values along dimension {}; 1 to {} are accepted", what, size, d,
                       limits::kTensorElements - 1);
        tensor.info.dims.insert(tensor.info.dims.begin(), static_cast<int64_t>(size));
    }
    const auto values =
        static_cast<uint64_t>(checkedValues(tensor.info.dims, path, tensor.info.name));
    const auto type = in.take<uint32_t>(what);
    tensor.info.type = type <= 0x7fffffff ? findBlockType(static_cast<int>(type)) : nullptr;
    if (!tensor.info.type)
        fail(ErrorKind::BadInput,
             "{}: {} has the type number {}, which is not known here. The file is damaged, or made "
             "by a "
             "newer program or a fork.",
             printable(path.filename().string()), what, type);
    const BlockType& block = *tensor.info.type;
    if (tensor.info.cols() % block.blockValues != 0)
        in.damaged("{} has rows of {} values; {} needs a multiple of {}", what, tensor.info.cols(),
                   block.name, block.blockValues);
    tensor.bytes = (FileSize(values / block.blockValues) * block.blockBytes).value();
    tensor.offset = in.take<uint64_t>(what);
    return tensor;
}

/// Every tensor inside the file, aligned, and on bytes of its own.
void place(const Cursor& in, std::vector<Placed>& tensors, const Bytes& file, uint64_t start,
           uint64_t alignment) {
    std::vector<const Placed*> order;
    for (Placed& tensor : tensors) {
        const std::string what = fmt::format("tensor \"{}\"", printable(tensor.info.name));
        if (tensor.offset % alignment != 0)
            in.damaged("{} starts at offset {}, which is not a multiple of the alignment {}", what,
                       tensor.offset, alignment);
        const uint64_t data = file.size() > start ? file.size() - start : 0;
        if (tensor.offset > data || tensor.bytes > data - tensor.offset)
            in.damaged("{} needs {} bytes from offset {} of the data, which has {}", what,
                       tensor.bytes, tensor.offset, data);
        tensor.info.bytes = file.slice(start + tensor.offset, tensor.bytes);
        tensor.info.mapped = true;
        order.push_back(&tensor);
    }
    std::sort(order.begin(), order.end(),
              [](const Placed* a, const Placed* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < order.size(); ++i)
        if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes)
            in.damaged("tensors \"{}\" and \"{}\" overlap", printable(order[i - 1]->info.name),
                       printable(order[i]->info.name));
}

Part readPart(const std::filesystem::path& path, const Bytes& file) {
    const std::string name = printable(path.filename().string());
    Cursor in(name, file.view());
    in.take<uint32_t>("the magic number");
    const auto version = in.take<uint32_t>("the version");
    if (version != 0 && (version & 0xffff) == 0)
        fail(ErrorKind::BadInput,
             "{}: this is a big-endian GGUF file; only little-endian ones are accepted. Convert it "
             "on the "
             "machine it was made for, or download the usual version.",
             name);
    if (version < 2 || version > kVersion)
        fail(ErrorKind::BadInput, "{}: this is GGUF version {}; versions 2 and 3 are accepted. {}",
             name, version, version < 2 ? "Convert the model again." : "It needs a newer Nibble.");
    const auto tensorCount = in.take<uint64_t>("the number of tensors");
    const auto entryCount = in.take<uint64_t>("the number of metadata entries");
    // The shortest entry: length, one byte of key, type, one byte of value. The shortest tensor:
    // length, one byte of name, dimension count, one dimension, type, offset.
    in.needRoom(entryCount, 14, "metadata entries", limits::kMetadataEntries);
    in.needRoom(tensorCount, 33, "tensors", limits::kTensors);

    Part part;
    part.path = path;
    part.bytes = file.size();
    part.metadata.source = path.filename().string();
    for (uint64_t i = 0; i < entryCount; ++i) {
        const std::string key(
            in.takeName(fmt::format("the key of metadata entry {}", i), limits::kKeyBytes));
        const std::string what = "the metadata key \"" + printable(key) + "\"";
        MetadataValue value = takeValue(in, what);
        if (!part.metadata.entries.emplace(key, std::move(value)).second)
            in.damaged("{} occurs twice", what);
    }
    const uint64_t alignment = alignmentOf(in, part.metadata);
    in.needRoom(tensorCount, 33, "tensors", limits::kTensors);
    std::vector<Placed> tensors;
    tensors.reserve(tensorCount);
    for (uint64_t i = 0; i < tensorCount; ++i)
        tensors.push_back(takeTensor(in, path, i));
    place(in, tensors, file, FileSize(in.at()).aligned(alignment).value(), alignment);
    part.tensors.reserve(tensorCount);
    for (Placed& tensor : tensors)
        part.tensors.push_back(std::move(tensor.info));
    return part;
}

/// Names every part that is not there, so that they can be fetched in one go.
void requireShards(const std::filesystem::path& path, const ShardName& shard) {
    constexpr size_t kNamed = 8;
    std::vector<std::string> missing;
    for (uint64_t number = 1; number <= shard.count; ++number) {
        const auto part = shardPath(path.parent_path(), shard, number);
        std::error_code ignored;
        if (number != shard.number && !std::filesystem::exists(part, ignored))
            missing.push_back(printable(part.filename().string()));
    }
    if (missing.empty())
        return;
    const size_t count = missing.size();
    missing.resize(std::min(count, kNamed));
    fail(ErrorKind::BadInput,
         "{}: {} of {} parts {} missing beside it: {}{}. Download all parts into one folder.",
         printable(path.filename().string()), count, shard.count, count == 1 ? "is" : "are",
         fmt::join(missing, ", "), count > kNamed ? ", …" : "");
}

void checkShard(const Part& part, const ShardName& shard, bool split) {
    const auto number = static_cast<int64_t>(split ? shard.number : 1);
    const auto count = static_cast<int64_t>(split ? shard.count : 1);
    const int64_t statedCount = part.metadata.integerOr("split.count", count);
    const int64_t statedNumber = part.metadata.integerOr("split.no", number - 1) + 1;
    if (statedCount == count && statedNumber == number)
        return;
    const std::string name = printable(part.path.filename().string());
    if (!split)
        fail(ErrorKind::BadInput,
             "{}: its metadata says that it is part {} of {}, and the other parts are found by "
             "names that end in \"-00001-of-{:05}.gguf\". Put all parts in one folder under their "
             "original names.",
             name, statedNumber, statedCount, statedCount);
    fail(ErrorKind::BadInput,
         "{}: its metadata says part {} of {}, its name says part {} of {}. Put all parts in one "
         "folder under their original names.",
         name, statedNumber, statedCount, number, count);
}

/// Parts of one model announce the same number of tensors and, where they say it, one architecture.
void checkSameModel(const Part& part, const Checkpoint& first) {
    const auto differs = [&](const char* key, const std::string& here, const std::string& there) {
        fail(ErrorKind::BadInput,
             "{}: {} is {} here and {} in {}, so that it is a part of another model. Download all "
             "parts of one model into one folder.",
             printable(part.path.filename().string()), key, printable(here), printable(there),
             printable(first.path.filename().string()));
    };
    for (const char* key : {"split.tensors.count", "general.architecture"})
        if (const MetadataValue* here = part.metadata.find(key), *there = first.metadata.find(key);
            here && there && describe(*here) != describe(*there))
            differs(key, describe(*here), describe(*there));
}

} // namespace

CheckpointPointer openGguf(const std::filesystem::path& path, const Bytes& file) {
    ShardName shard = shardName(path);
    const bool split = shard.isPart();
    auto checkpoint = std::make_shared<Checkpoint>();
    checkpoint->container = Checkpoint::Container::Gguf;
    checkpoint->path = path;
    if (split)
        requireShards(path, shard);
    const uint64_t parts = split ? shard.count : 1, opened = shard.number;
    for (uint64_t number = 1; number <= parts; ++number) {
        shard.number = number;
        const auto partPath = split ? shardPath(path.parent_path(), shard, number) : path;
        const Bytes bytes = split && number != opened ? mapFile(partPath) : file;
        if (bytes.size() < 4 || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
            refuseForeign(partPath, bytes.view().subspan(0, std::min<size_t>(bytes.size(), 512)));
        Part part = readPart(partPath, bytes);
        checkShard(part, shard, split);
        if (number == 1) {
            checkpoint->metadata = std::move(part.metadata);
            checkpoint->path = partPath;
        } else {
            checkSameModel(part, *checkpoint);
        }
        checkpoint->fileBytes += part.bytes;
        for (TensorInfo& info : part.tensors)
            addTensor(*checkpoint, std::move(info), partPath);
    }
    pairFactors(*checkpoint);
    const int64_t stated = checkpoint->metadata.integerOr("split.tensors.count", -1);
    if (stated >= 0 && static_cast<uint64_t>(stated) != checkpoint->tensors.size())
        fail(ErrorKind::BadInput,
             "{}: {} tensors are announced for all parts, {} are there. Download all parts "
             "again.",
             printable(path.filename().string()), stated, checkpoint->tensors.size());
    return checkpoint;
}

} // namespace nibble
