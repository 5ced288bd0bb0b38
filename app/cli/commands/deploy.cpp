#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/output.h"
#include "core/files/packings.h"

#include <fmt/format.h>

#include <algorithm>

namespace nibble::cli {

namespace {

struct Options {
    std::string file;
    bool json = false;
};

/// In single quotes for a shell.
std::string quoted(const std::string& text) {
    std::string out = "'";
    for (const char c : text)
        out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

/// A name that Ollama and servers accept: lower-case letters, digits, dots and dashes.
std::string plainName(const std::filesystem::path& path, bool isFolder) {
    std::string name;
    for (const char c : (isFolder ? path.filename() : path.stem()).string()) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
        name += plain ? c : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : '-';
    }
    const size_t first = name.find_first_not_of(".-");
    return first == std::string::npos ? "model" : name.substr(first);
}

/// What one engine is started with, or why it cannot be.
struct Engine {
    const char* key;   ///< in JSON
    const char* title; ///< for people
    std::vector<std::string> commands;
    std::string note;
};

/// What is deployed.
struct Deployed {
    std::shared_ptr<const Model> model;
    std::filesystem::path path; ///< absolute, of the file or the folder
    bool isFolder = false;
    std::string method;   ///< quant_method of a folder; empty = not quantized
    bool isGptq2 = false; ///< zero points as GPTQ folders of version 2 store them
    int32_t context = 0;

    std::string shell() const { return quoted(path.string()); }
    std::string name() const { return plainName(path, isFolder); }
};

Deployed deployedAt(const std::string& argument) {
    Deployed d;
    const auto checkpoint = openCheckpoint(modelPath(argument));
    d.model = understand(checkpoint);
    d.isFolder = checkpoint->container == Checkpoint::Container::Safetensors;
    d.path = std::filesystem::absolute(checkpoint->path).lexically_normal();
    if (d.isFolder && !std::filesystem::is_directory(d.path))
        d.path = d.path.parent_path();
    if (!d.path.has_filename())
        d.path = d.path.parent_path();
    const auto stated = [&](const char* key) {
        return checkpoint->metadata.stringOr(std::string(kQuantizerConfig) + key, "");
    };
    if (d.isFolder)
        d.method = stated("quant_method");
    d.isGptq2 = stated("checkpoint_format") == "gptq_v2";
    d.context = contextFor(*d.model, 0);
    return d;
}

/// What the columns of a stored matrix can be cut at: whole blocks of its file type, and whole
/// groups of what its scales share.
int64_t columnUnit(const TensorInfo& info) {
    const Format* format = info.format();
    const int64_t block = info.packed ? 1 : info.type->blockValues;
    return std::max<int64_t>(block, format ? format->rowUnit() : 1);
}

/// The most GPUs, up to `limit`, that each layer can be cut for: whole heads, and whole blocks in
/// the matrices that are cut along their rows.
int mostGpus(const Model& model, int limit) {
    const auto divides = [&](int gpus) {
        const int kvHeads = std::max(1, model.config.kvHeads);
        if (model.config.heads % gpus != 0 || model.config.feedForward % gpus != 0 ||
            (kvHeads % gpus != 0 && gpus % kvHeads != 0))
            return false;
        return std::ranges::all_of(model.keys(), [&](TensorKey key) {
            if (key.role != Role::AttentionOutput && key.role != Role::Down)
                return true;
            const TensorInfo& info = model.get(key);
            return info.cols() % gpus == 0 && info.cols() / gpus % columnUnit(info) == 0;
        });
    };
    while (limit > 1 && !divides(limit))
        limit /= 2;
    return limit;
}

/// Only folders that no quantizer touched can become Ollama's own.
std::string modelfile(const Deployed& d) {
    return fmt::format("FROM \"{}\"\nPARAMETER num_ctx {}\n", d.path.string(), d.context);
}

constexpr const char* kWriteGguf =
    "it loads GGUF files: write one from the same base with nibble-cli quantize BASE -o "
    "MODEL.gguf --level q4_k_m --export gguf.";

Engine ollama(const Deployed& d) {
    Engine engine{"ollama", "Ollama", {}, {}};
    if (d.isFolder && !d.method.empty()) {
        engine.note =
            fmt::format("Ollama does not load folders in {} form; {}", d.method, kWriteGguf);
        return engine;
    }
    engine.commands = {fmt::format("cat > Modelfile <<'END'\n{}END", modelfile(d)),
                       fmt::format("ollama create {} -f Modelfile", d.name()),
                       fmt::format("ollama run {}", d.name())};
    if (d.isFolder)
        engine.note = "Ollama converts the folder when it creates the model.";
    return engine;
}

Engine llamaCpp(const Deployed& d) {
    Engine engine{"llama.cpp", "llama.cpp", {}, {}};
    if (!d.isFolder) {
        engine.commands = {
            fmt::format("llama-cli -m {} -c {} -ngl 99", d.shell(), d.context),
            fmt::format("llama-server -m {} -c {} -ngl 99 --port 8080", d.shell(), d.context)};
        return engine;
    }
    engine.note = std::string("llama.cpp does not load folders; ") + kWriteGguf;
    if (d.method == "gptq" || d.method == "compressed-tensors")
        engine.note += " Its own converter (convert_hf_to_gguf.py) reads this folder, but as f16 "
                       "weights that are then quantized a second time.";
    return engine;
}

std::string vllmServe(const Deployed& d) {
    std::string command = fmt::format("vllm serve {} --served-model-name {} --max-model-len {}",
                                      d.shell(), d.name(), d.context);
    if (!d.isFolder)
        command += " --tokenizer ORIGINAL_MODEL_FOLDER";
    return command;
}

Engine vllm(const Deployed& d) {
    Engine engine{"vllm", "vLLM", {vllmServe(d)}, {}};
    if (!d.isFolder)
        engine.note = "vLLM calls its support of GGUF experimental; it wants a single file, and "
                      "the original model's tokenizer. What it runs best is a folder: nibble-cli "
                      "quantize BASE -o FOLDER --level int4_g128 --export compressed-tensors.";
    if (const int gpus = mostGpus(*d.model, 8); gpus > 1)
        engine.commands.push_back(fmt::format("{} --tensor-parallel-size {}", vllmServe(d), gpus));
    return engine;
}

Engine vllmCluster(const Deployed& d) {
    // Two machines of as many GPUs each as one layer can be cut for, four at most.
    const int gpus = mostGpus(*d.model, 4);
    Engine engine{"vllm_cluster", "vLLM on two machines", {}, {}};
    engine.commands = {"ray start --head --port=6379", "ray start --address=FIRST_MACHINE:6379",
                       fmt::format("{} --tensor-parallel-size {} --pipeline-parallel-size 2 "
                                   "--distributed-executor-backend ray",
                                   vllmServe(d), gpus)};
    engine.note = fmt::format(
        "The first command runs on the first machine, the second on the other (on each further one "
        "too), then the third on the first. Tensor parallel is the number of GPUs of one machine "
        "({} here, the most up to 4 that heads and blocks of this model divide into), "
        "pipeline parallel the number of machines. The model must lie at the same path on all.",
        gpus);
    return engine;
}

constexpr const char* kWriteFolder =
    "write one with nibble-cli quantize BASE -o FOLDER --level gptq --export gptq (or --level awq "
    "--export awq).";

Engine tgi(const Deployed& d) {
    Engine engine{"tgi", "TGI", {}, {}};
    if (!d.isFolder) {
        engine.note = std::string("TGI's own kernels need a folder: ") + kWriteFolder;
        return engine;
    }
    // It quantizes by bitsandbytes itself while it loads, and wants the floats for that.
    if (d.method == "bitsandbytes") {
        engine.note = std::string("TGI quantizes by bitsandbytes only on the fly, from a model in "
                                  "16 bits, and does not load folders that are so quantized "
                                  "already; start it with the original model and --quantize "
                                  "bitsandbytes-nf4 (or bitsandbytes), or ") +
                      kWriteFolder;
        return engine;
    }
    if (d.isGptq2) {
        engine.note = std::string("TGI reads the zero points of every GPTQ folder as version 1 "
                                  "stores them, and this one is of version 2 (gptq_v2), so that "
                                  "its answers would be wrong; ") +
                      kWriteFolder;
        return engine;
    }
    const std::string quantize = d.method.empty() ? "" : " --quantize " + d.method;
    engine.commands = {fmt::format("docker run --gpus all --shm-size 1g -p 8080:80 -v {}:/data "
                                   "ghcr.io/huggingface/text-generation-inference:latest "
                                   "--model-id {}{} --max-input-tokens {} "
                                   "--max-total-tokens {}",
                                   quoted(d.path.parent_path().string()),
                                   quoted("/data/" + d.path.filename().string()), quantize,
                                   d.context - 1, d.context)};
    engine.note = "TGI is in maintenance mode; --num-shard N cuts the model for N GPUs.";
    return engine;
}

int run(const Options& options) {
    const Deployed d = deployedAt(options.file);
    const Engine engines[] = {ollama(d), llamaCpp(d), vllm(d), vllmCluster(d), tgi(d)};
    if (options.json) {
        Json out = {{"path", d.path.string()}, {"form", d.isFolder ? d.method : "gguf"}};
        out["modelfile"] = d.isFolder && !d.method.empty() ? Json() : Json(modelfile(d));
        Json notes = Json::object();
        for (const Engine& engine : engines) {
            out[engine.key] = engine.commands;
            if (!engine.note.empty())
                notes[engine.key] = engine.note;
        }
        out["notes"] = notes;
        printJson(out);
        return 0;
    }
    std::string text;
    for (const Engine& engine : engines) {
        text += fmt::format("{}{}\n\n", text.empty() ? "" : "\n", engine.title);
        if (!engine.note.empty())
            text += "# " + engine.note + "\n";
        for (const std::string& command : engine.commands)
            text += command + "\n";
    }
    print(text);
    return 0;
}

} // namespace

Action defineDeploy(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("OUT", options->file, "A GGUF file or a folder that quantize wrote")->required();
    addJson(app, options->json);
    return [options] { return run(*options); };
}

} // namespace nibble::cli
