#include "core/base/atomic_file.h"
#include "core/base/checked.h"
#include "core/base/limits.h"
#include "core/files/checkpoint.h"

#include <nlohmann/json.hpp>

#include <cstring>

namespace nibble {

void writeSafetensors(const std::filesystem::path& path,
                      const std::map<std::string, std::string>& metadata,
                      std::span<const SafetensorsTensor> tensors,
                      const std::function<Bytes(size_t index)>& produce) {
    nlohmann::ordered_json header;
    header["__metadata__"] = metadata;
    uint64_t offset = 0;
    for (const SafetensorsTensor& tensor : tensors) {
        const uint64_t end = (FileSize(offset) + tensor.bytes).value();
        header[tensor.name] = {
            {"dtype", tensor.dtype}, {"shape", tensor.dims}, {"data_offsets", {offset, end}}};
        offset = end;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    if (text.size() > limits::kSafetensorsHeaderBytes)
        fail(ErrorKind::Usage, "{}: the table of {} tensors takes {} bytes; at most {} are read.",
             printable(path.filename().string()), tensors.size(), text.size(),
             limits::kSafetensorsHeaderBytes);
    const uint64_t length = text.size();

    AtomicFile file(path);
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(text);
    for (size_t i = 0; i < tensors.size(); ++i) {
        const Bytes bytes = produce(i);
        if (bytes.size() != tensors[i].bytes)
            fail(ErrorKind::Internal, "Tensor \"{}\" has {} bytes where {} were announced.",
                 printable(tensors[i].name), bytes.size(), tensors[i].bytes);
        file.write(bytes.view());
    }
    file.commit();
}

} // namespace nibble
