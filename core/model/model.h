#pragma once

#include "core/files/checkpoint.h"
#include "core/model/config.h"
#include "core/tokenizer/tokenizer.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace nibble {

/// Where a role's tensor stands in each container; the first "{}" is the layer, a second one the
/// expert. Null = the container has none. Roles whose rows have the same name lie behind each other
/// in one stored tensor, in the order of the rows (phi-3's q, k and v); experts without a "{}" of
/// their own are stacked in one (of "…_exps" in GGUF files, older ones may have one tensor each).
struct RoleName {
    Role role;
    const char* gguf;
    const char* huggingFace;
    bool required = true;
    bool ofExperts = false; ///< of the layers that are mixtures; else of those that are not

    bool isOfOneExpert() const { return ofExperts && isOfExpert(role); }
    bool holds(TensorKey key) const {
        return role == key.role && isOfOneExpert() == (key.expert >= 0);
    }
};

class Model;

/// One family: its names in the containers, how its config is read, and its tensor names. Adding a
/// family is one file and one row in architectures().
struct Architecture {
    const char* name;             ///< "mistral"
    const char* gguf;             ///< "general.architecture" of its GGUF files ("llama")
    const char* huggingFaceClass; ///< of config.json's "architectures" ("MistralForCausalLM")
    /// What rotates together in GGUF files: where it is neighbours, the converter has reordered
    /// the rows of q and k. In folders it is halves.
    RopeStyle ggufRope;
    ModelConfig (*readGguf)(const Metadata& metadata);
    ModelConfig (*readHuggingFace)(const Metadata& metadata);
    std::span<const RoleName> names;
    /// Folders may leave this out before the names.
    const char* optionalPrefix = "";
    /// What folders store of norms is less by this than what norms multiply with (gemma).
    float folderNormOffset = 0;
    /// Folders keep the layers' matrices as [inputs][outputs] (gpt-2).
    bool folderTransposes = false;
    /// Folders stack the experts as [experts][inputs][outputs], or packed as
    /// [experts][outputs][inputs]; where several roles lie in one tensor, their outputs take turns
    /// (gpt-oss).
    bool folderStacksExperts = false;
    /// Puts what only this family has into a config.json, which has what all share; Error{Usage}
    /// for what it cannot say. Null = no config.json can be made from a GGUF file.
    void (*writeHuggingFace)(const Model& model, nlohmann::ordered_json& config) = nullptr;
};
std::span<const Architecture* const> architectures();

/// A checkpoint understood: config, tensors by role, tokenizer. When the architecture is not
/// known, `unsupported` says why in one sentence and only inspection works.
class Model {
public:
    std::string name;
    std::shared_ptr<const Checkpoint> checkpoint;
    ModelConfig config;
    std::shared_ptr<const Tokenizer> tokenizer; ///< null when the checkpoint has none
    std::string tokenizerProblem; ///< why its tokenizer cannot be used: a sentence, or empty
    std::string chatTemplate;     ///< the model's own Jinja source, may be empty
    std::string unsupported;
    /// What was worked out about the open model and goes when it is closed. Its one user is
    /// sharedCalibration(), which also guards it.
    mutable std::shared_ptr<const void> workedOut;

    /// Shape and stored type of a tensor; null when the model has none (a tied head, no bias). Of a
    /// part of a stored tensor it has the part's shape and bytes, and the stored tensor's name. A
    /// key that leaves out the expert means the first one, which has the format of all.
    const TensorInfo* find(TensorKey key) const;
    const TensorInfo& get(TensorKey key) const;
    /// The tensor's values in canonical planes, shaped [rows][cols].
    Tensor load(TensorKey key) const;
    /// Every tensor of the forward pass, in order: embedding, layer by layer, norm, head.
    std::span<const TensorKey> keys() const { return m_keys; }
    /// What lies in a stored tensor, in its order: one key as a rule, several for fused matrices
    /// and stacked experts, none for one that the forward pass does not use.
    std::span<const TensorKey> keysOf(std::string_view storedName) const;
    /// The keys that share `key`'s stored tensor in GGUF files, itself included: they must have one
    /// format there, so recipes give them one.
    std::span<const TensorKey> storedWith(TensorKey key) const;
    /// The tensor that the head multiplies with: Output, or the embedding when tied.
    TensorKey headKey() const;
    int64_t parameters() const;

    /// Throws Error{BadInput} with `unsupported` when the model cannot run.
    void requireRunnable() const;
    /// Throws Error{BadInput} when it has no tokenizer, or one that cannot be used; `so` says what
    /// is not possible then: "it cannot chat".
    void requireTokenizer(std::string_view so) const;

private:
    friend std::shared_ptr<const Model> understand(std::shared_ptr<const Checkpoint>);
    friend std::shared_ptr<const Model> makeSyntheticModel(std::string_view, uint64_t);
    std::vector<TensorKey> m_keys;
    std::map<TensorKey, TensorInfo> m_tensors;
    std::map<std::string, std::vector<TensorKey>, std::less<>> m_stored; ///< by stored name
    /// Keys of one stored tensor of GGUF files, where that is more than one.
    std::vector<std::vector<TensorKey>> m_groups;
    std::map<TensorKey, size_t> m_groupOf;
    std::function<Tensor(const TensorInfo&, TensorKey)> m_generate; ///< synthetic models only
};

/// The family of a model's config; null when it is not known.
const Architecture* findArchitecture(std::string_view name);

/// Opens and understands a model; an unknown architecture still opens (see Model::unsupported).
/// Shapes of all tensors are checked against the config; Error{BadInput} otherwise.
std::shared_ptr<const Model> openModel(const std::filesystem::path& path);
std::shared_ptr<const Model> understand(std::shared_ptr<const Checkpoint> checkpoint);
/// The same for looking alone: what would be an error about the model itself is in `unsupported`,
/// and its tensors can be seen. A file that cannot be read is still an Error.
std::shared_ptr<const Model> openForInspection(const std::filesystem::path& path);

/// What a GGUF file of the model's family calls the tensor that the key lies in
/// ("blk.0.ffn_up_exps.weight").
std::string ggufName(const Model& model, TensorKey key);
/// The model's configuration as the keys of a GGUF file.
void putGgufConfig(const Model& model, Metadata& metadata);
/// Tensors that GGUF files keep beside the model's own where folders have settings: factors of
/// rotary frequencies, by name.
std::vector<std::pair<std::string, std::vector<float>>> ggufRopeFactors(const Model& model);

/// What a folder calls the tensor ("model.layers.0.mlp.up_proj.weight"); empty for one that folders
/// of this architecture do not have.
std::string huggingFaceName(const Model& model, TensorKey key);
/// The model's config.json without a quantizer's part: a folder's own, or one made from the
/// configuration of a GGUF file. Error{Usage} naming what no config.json can say.
std::string huggingFaceConfig(const Model& model);

/// A random llama model of a named shape ("100m", "1b", "7b" of design.md §8, and "tiny" for tests:
/// 2 layers, width 64, ffn 160, 4/2 heads, vocabulary 256). Weights are f16, normal with σ =
/// 1/√cols, made tensor by tensor when loaded, so that nothing large is held. No tokenizer.
/// Error{Usage} for an unknown name.
std::shared_ptr<const Model> makeSyntheticModel(std::string_view shape, uint64_t seed = 1);

} // namespace nibble
