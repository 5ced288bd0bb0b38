#include "core/files/checkpoint.h"

#include "core/base/checked.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/openers.h"
#include "core/files/packings.h"

#include <algorithm>
#include <cstring>

namespace nibble {
namespace {

bool startsWith(const Bytes& file, std::string_view magic) {
    return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

} // namespace

int64_t TensorInfo::values() const {
    int64_t product = 1;
    for (const int64_t dim : dims)
        product *= dim;
    return product;
}

const Format* TensorInfo::format() const {
    if (packed)
        return packed->format;
    return factors.empty() ? type->format : type->factoredFormat;
}

uint64_t TensorInfo::storedBytes() const {
    return packed ? packed->bytes : bytes.size();
}

std::string TensorInfo::storedText() const {
    const Format* runs = format();
    if (!runs || std::string_view(runs->name) == type->name)
        return type->name;
    if (packed)
        return fmt::format("{} ({})", runs->name, type->name);
    return fmt::format("{}, runs as {}", type->name, runs->name);
}

std::string Checkpoint::conversionNote() const {
    std::map<std::pair<std::string, std::string>, int> counts;
    for (const TensorInfo& info : tensors)
        if (const Format* runs = info.format();
            runs && !info.packed && info.storedText() != runs->name)
            ++counts[{info.type->name, runs->name}];
    std::string list;
    for (const auto& [types, count] : counts)
        list += fmt::format("{}{} of {} run as {}", list.empty() ? "" : ", ", count, types.first,
                            types.second);
    const auto noted = std::ranges::find_if(
        tensors, [](const TensorInfo& info) { return info.packed && !info.packed->note.empty(); });
    if (list.empty())
        return noted == tensors.end() ? "" : noted->packed->note;
    return "Some tensors are converted when they are loaded and take more memory than in the "
           "file: " +
           list + ".";
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
    const auto at = byName.find(name);
    return at == byName.end() ? nullptr : &tensors[at->second];
}

const TensorInfo& Checkpoint::get(std::string_view name) const {
    if (const TensorInfo* info = find(name))
        return *info;
    fail(ErrorKind::BadInput,
         "{}: the tensor \"{}\" is missing. The file is not complete, or of an architecture that "
         "is not "
         "known here.",
         printable(path.filename().string()), printable(name));
}

void addTensor(Checkpoint& checkpoint, TensorInfo info, const std::filesystem::path& file) {
    if (!checkpoint.byName.emplace(info.name, checkpoint.tensors.size()).second)
        fail(ErrorKind::BadInput,
             "{}: there are two tensors named \"{}\"; names must differ. The file is damaged or "
             "hostile.",
             printable(file.filename().string()), printable(info.name));
    checkpoint.tensors.push_back(std::move(info));
}

int64_t checkedValues(std::span<const int64_t> dims, const std::filesystem::path& file,
                      std::string_view tensor) {
    uint64_t product = 1;
    for (const int64_t dim : dims)
        if (__builtin_mul_overflow(product, static_cast<uint64_t>(dim), &product) ||
            product >= limits::kTensorElements)
            fail(ErrorKind::BadInput,
                 "{}: tensor \"{}\" claims {} or more values; fewer are accepted. The file is "
                 "damaged or "
                 "hostile.",
                 printable(file.filename().string()), printable(tensor), limits::kTensorElements);
    return static_cast<int64_t>(product);
}

std::shared_ptr<const Checkpoint> openCheckpoint(const std::filesystem::path& path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        return openSafetensorsFolder(path);
    if (isPickleName(path) && std::filesystem::is_regular_file(path, ignored))
        refuseForeign(path, {});
    if (path.filename().string().ends_with(".safetensors.index.json"))
        return openSafetensorsFolder(path.parent_path());
    const Bytes file = mapFile(path);
    if (startsWith(file, "GGUF"))
        return openGguf(path, file);
    const bool looksLikeHeader =
        file.size() > 8 && file.data()[8] == std::byte('{') && file.data()[7] == std::byte(0);
    if (path.extension() == ".safetensors" || looksLikeHeader)
        return openSafetensorsFile(path);
    refuseForeign(path, file.view().subspan(0, std::min<size_t>(file.size(), 512)));
}

} // namespace nibble
