#include "core/base/checked.h"
#include "core/base/limits.h"
#include "core/files/names.h"
#include "core/files/openers.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

namespace nibble {
namespace {

/// One entry of a safetensors header.
struct Entry {
    std::string name, dtype;
    std::vector<uint64_t> shape, offsets;
    std::set<std::string> seen; ///< fields met so far
};

/// Reads a safetensors header event by event, so that a header made to exhaust memory as a document
/// cannot: only {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {"key": "text"}} gets
/// through.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
public:
    explicit HeaderReader(std::string file) : m_file(std::move(file)) {}

    std::vector<Entry> entries;
    std::map<std::string, std::string> metadata;

    bool start_object(std::size_t) override {
        if (++m_depth > 2 || m_inArray)
            unexpected("an object");
        return true;
    }
    bool end_object() override {
        if (--m_depth == 1 && !m_inMetadata && entries.back().seen.size() != 3)
            damaged("tensor \"{}\" lacks dtype, shape or data_offsets",
                    printable(entries.back().name));
        if (m_depth == 1)
            m_inMetadata = false;
        return true;
    }
    bool key(string_t& text) override {
        if (m_depth == 1)
            startEntry(text);
        else if (m_inMetadata)
            startMetadata(text);
        else
            startField(text);
        return true;
    }
    bool string(string_t& text) override {
        if (m_depth == 2 && m_inMetadata) {
            metadata[m_field] = text;
            return true;
        }
        if (m_depth != 2 || m_field != "dtype")
            unexpected("a string");
        entries.back().dtype = text;
        return true;
    }
    bool start_array(std::size_t) override {
        if (m_depth != 2 || m_inMetadata || m_inArray || m_field == "dtype")
            unexpected("an array");
        m_inArray = true;
        return true;
    }
    bool end_array() override {
        m_inArray = false;
        return true;
    }
    bool number_unsigned(number_unsigned_t value) override {
        if (!m_inArray)
            unexpected("a number");
        auto& list = m_field == "shape" ? entries.back().shape : entries.back().offsets;
        if (list.size() == kMaxListLength)
            damaged("{} of tensor \"{}\" has more than {} numbers", m_field,
                    printable(entries.back().name), kMaxListLength);
        list.push_back(value);
        return true;
    }
    bool number_integer(number_integer_t) override { unexpected("a negative number"); }
    bool number_float(number_float_t, const string_t&) override { unexpected("a fraction"); }
    bool boolean(bool) override { unexpected("a boolean"); }
    bool null() override { unexpected("null"); }
    bool binary(binary_t&) override { unexpected("binary data"); }
    bool parse_error(std::size_t at, const std::string&,
                     const nlohmann::json::exception& e) override {
        damaged("the header is not valid JSON at byte {}: {}", at + 8, printable(e.what(), 200));
    }

    template <typename... Args>
    [[noreturn]] void damaged(fmt::format_string<Args...> text, Args&&... args) const {
        fail(ErrorKind::BadInput, "{}: {}. The file is damaged or hostile; download it again.",
             m_file, fmt::format(text, std::forward<Args>(args)...));
    }

private:
    static constexpr size_t kMaxListLength = 8;

    [[noreturn]] void unexpected(const char* what) const {
        damaged("the header has {} where none belongs (after entry {})", what, entries.size());
    }
    void addUnique(std::set<std::string>& keys, const std::string& text) const {
        if (!keys.insert(text).second)
            damaged("the header has the key \"{}\" twice", printable(text));
    }
    void startEntry(const std::string& name) {
        addUnique(m_names, name);
        if (name == "__metadata__") {
            m_inMetadata = true;
            return;
        }
        if (name.empty() || name.size() > limits::kNameBytes || !isUtf8(name))
            damaged(
                "the name of tensor {} has {} bytes or is not valid UTF-8; 1 to {} are accepted",
                entries.size(), name.size(), limits::kNameBytes);
        if (entries.size() == limits::kTensors)
            damaged("the header lists more than {} tensors", limits::kTensors);
        entries.emplace_back().name = name;
    }
    void startMetadata(const std::string& text) {
        if (metadata.size() == limits::kTensors)
            damaged("the header has more than {} metadata entries", limits::kTensors);
        if (!metadata.emplace(text, "").second)
            damaged("the header has the key \"{}\" twice", printable(text));
        m_field = text;
    }
    void startField(const std::string& field) {
        if (field != "dtype" && field != "shape" && field != "data_offsets")
            damaged("tensor \"{}\" has the unknown field \"{}\"", printable(entries.back().name),
                    printable(field));
        addUnique(entries.back().seen, field);
        m_field = field;
    }

    std::string m_file, m_field;
    std::set<std::string> m_names;
    int m_depth = 0;
    bool m_inMetadata = false, m_inArray = false;
};

const BlockType* findDtype(std::string_view dtype) {
    for (const BlockType& type : blockTypes())
        if (type.dtype && dtype == type.dtype)
            return &type;
    return nullptr;
}

TensorInfo checkEntry(const HeaderReader& header, const Entry& entry,
                      const std::filesystem::path& path, const Bytes& buffer) {
    const std::string what = "tensor \"" + printable(entry.name) + "\"";
    TensorInfo info;
    info.name = entry.name;
    info.type = findDtype(entry.dtype);
    if (!info.type)
        header.damaged("{} has the dtype \"{}\", which is not known here", what,
                       printable(entry.dtype));
    for (const uint64_t size : entry.shape)
        info.dims.push_back(FileSize(size).to<int64_t>());
    const auto values = static_cast<uint64_t>(checkedValues(info.dims, path, entry.name));
    if (values % info.type->blockValues != 0)
        header.damaged("{} has {} values; {} needs a multiple of {}", what, values, info.type->name,
                       info.type->blockValues);
    const uint64_t bytes =
        (FileSize(values / info.type->blockValues) * info.type->blockBytes).value();
    if (entry.offsets.size() != 2)
        header.damaged("{} has {} data_offsets; 2 are expected", what, entry.offsets.size());
    const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
    if (begin > end || end > buffer.size())
        header.damaged("{} claims bytes {} to {} of the data, which has {}", what, begin, end,
                       buffer.size());
    if (end - begin != bytes)
        header.damaged("{} has {} bytes of data where its shape and dtype need {}", what,
                       end - begin, bytes);
    info.bytes = buffer.slice(begin, bytes);
    info.mapped = true;
    return info;
}

} // namespace

SafetensorsContents readSafetensors(const std::filesystem::path& path, const Bytes& file) {
    const std::string name = printable(path.filename().string());
    HeaderReader header(name);
    uint64_t length = 0;
    if (file.size() < 10)
        header.damaged("the file has {} bytes, too few for a safetensors header", file.size());
    std::memcpy(&length, file.data(), 8);
    if (length > limits::kSafetensorsHeaderBytes)
        header.damaged("the header claims {} bytes; at most {} are accepted", length,
                       limits::kSafetensorsHeaderBytes);
    if (length > file.size() - 8)
        header.damaged(
            "the header claims {} bytes, but only {} follow. The download is not complete", length,
            file.size() - 8);
    const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
    if (!text.starts_with('{'))
        header.damaged("the header does not start with '{{' at byte 8");
    nlohmann::json::sax_parse(text.begin(), text.end(), &header);

    const Bytes buffer = file.slice(8 + length, file.size() - 8 - length);
    std::sort(header.entries.begin(), header.entries.end(),
              [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
    SafetensorsContents contents;
    contents.metadata = std::move(header.metadata);
    contents.tensors.reserve(header.entries.size());
    uint64_t covered = 0;
    for (const Entry& entry : header.entries) {
        contents.tensors.push_back(checkEntry(header, entry, path, buffer));
        if (entry.offsets[0] != covered)
            header.damaged("tensor \"{}\" starts at byte {} of the data, where byte {} comes next: "
                           "there is {}",
                           printable(entry.name), entry.offsets[0], covered,
                           entry.offsets[0] < covered ? "an overlap" : "a hole");
        covered = entry.offsets[1];
    }
    if (covered != buffer.size())
        header.damaged("the tensors cover {} bytes of data, but the file has {}", covered,
                       buffer.size());
    return contents;
}

} // namespace nibble
