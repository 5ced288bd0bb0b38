#pragma once

#include "core/model/architectures.h"

namespace nibble {

/// Finds the tensors of a model in its checkpoint: parts of fused tensors and single experts are
/// tensors of their own, and what folders keep in another form is made when it is loaded.
class TensorIndex {
public:
    TensorIndex(const Checkpoint& checkpoint, const Architecture& architecture,
                const ModelConfig& config);

    std::map<TensorKey, TensorInfo> tensors;
    std::map<std::string, std::vector<TensorKey>, std::less<>> stored; ///< by stored name

    /// UnsupportedModel names a stored tensor that the forward pass does not know,
    /// Error{BadInput} one of another shape.
    void read();
    /// Keys in the order of the forward pass. Error{BadInput} names what is missing.
    std::vector<TensorKey> orderedKeys() const;
    /// Keys that lie in one tensor of a GGUF file of this architecture, where it is several.
    std::vector<std::vector<TensorKey>> groups(std::span<const TensorKey> keys) const;

private:
    struct Part {
        TensorKey key;
        int64_t rows, cols;
    };
    bool applies(const RoleName& row, int32_t layer) const;
    void addKeys(const RoleName& row, int32_t layer, std::vector<TensorKey>& keys,
                 std::vector<std::string>& missing) const;
    std::string storedName(const RoleName& row, TensorKey key) const;
    std::vector<Part> partsOf(const TensorInfo& info) const;
    bool add(const TensorInfo& info);
    void addStack(const TensorInfo& info, const std::vector<Part>& parts);
    TensorInfo cut(const TensorInfo& info, const Part& part, int64_t first, bool turned,
                   bool vectors, bool whole) const;

    const Checkpoint& m_checkpoint;
    const Architecture& m_architecture;
    const ModelConfig& m_config;
    bool m_folder;
};

/// Rows of the embedding table, which count more than what the configuration says.
int32_t vocabularyOf(const Checkpoint& checkpoint, const Architecture& architecture,
                     int32_t otherwise);
/// GGUF files say which layers are mixtures only by what they hold.
void findMixtures(const Checkpoint& checkpoint, const Architecture& architecture,
                  ModelConfig& config);

} // namespace nibble
