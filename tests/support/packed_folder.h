#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace nibble::test {

/// A safetensors folder that tests put together tensor by tensor.
struct PackedFolder {
    struct Stored {
        std::string dtype;
        std::vector<int64_t> dims;
        std::string bytes;
    };
    std::map<std::string, Stored> tensors;
    std::string config;

    template <typename T>
    void add(const std::string& name, const char* dtype, std::vector<int64_t> dims,
             const std::vector<T>& values) {
        std::string bytes(values.size() * sizeof(T), '\0');
        if (!bytes.empty())
            std::memcpy(bytes.data(), values.data(), bytes.size());
        tensors[name] = {dtype, std::move(dims), std::move(bytes)};
    }
    template <typename T>
    T at(const std::string& name, int64_t index) const {
        T value;
        std::memcpy(&value, tensors.at(name).bytes.data() + index * int64_t(sizeof(T)), sizeof(T));
        return value;
    }

    /// {"quantization_config": {…}} with nothing else.
    void quantizer(const std::string& json) { config = "{\"quantization_config\":" + json + "}"; }

    std::filesystem::path write(const std::filesystem::path& folder) const {
        std::filesystem::create_directories(folder);
        std::string header = "{", data;
        for (const auto& [name, tensor] : tensors) {
            header += (header.size() > 1 ? ",\"" : "\"") + name + "\":{\"dtype\":\"" +
                      tensor.dtype + "\",\"shape\":[";
            for (size_t i = 0; i < tensor.dims.size(); ++i)
                header += (i == 0 ? "" : ",") + std::to_string(tensor.dims[i]);
            header += "],\"data_offsets\":[" + std::to_string(data.size()) + "," +
                      std::to_string(data.size() + tensor.bytes.size()) + "]}";
            data += tensor.bytes;
        }
        header += "}";
        const uint64_t length = header.size();
        std::ofstream file(folder / "model.safetensors", std::ios::binary);
        file.write(reinterpret_cast<const char*>(&length), 8);
        file << header << data;
        std::ofstream(folder / "config.json") << config;
        return folder;
    }
};

} // namespace nibble::test
