#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/output.h"

#include <fmt/format.h>

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

/// A name that Ollama accepts: lower-case letters, digits, dots and dashes.
std::string ollamaName(const std::filesystem::path& path) {
    std::string name;
    for (const char c : path.stem().string()) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
        name += plain ? c : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : '-';
    }
    const size_t first = name.find_first_not_of(".-");
    return first == std::string::npos ? "model" : name.substr(first);
}

int run(const Options& options) {
    const auto checkpoint = openCheckpoint(modelPath(options.file));
    if (checkpoint->container != Checkpoint::Container::Gguf)
        fail(ErrorKind::BadInput,
             "{} is not a GGUF file; write one with nibble-cli quantize and deploy that.",
             printable(options.file));
    const auto model = understand(checkpoint);
    const auto path = std::filesystem::absolute(checkpoint->path).string();
    const std::string shell = quoted(path), name = ollamaName(checkpoint->path);
    const int32_t context = contextFor(*model, 0);
    const std::string modelfile = fmt::format("FROM \"{}\"\nPARAMETER num_ctx {}\n", path, context);
    const std::vector<std::string> ollama{fmt::format("cat > Modelfile <<'END'\n{}END", modelfile),
                                          fmt::format("ollama create {} -f Modelfile", name),
                                          fmt::format("ollama run {}", name)};
    const std::vector<std::string> llama{
        fmt::format("llama-cli -m {} -c {} -ngl 99", shell, context),
        fmt::format("llama-server -m {} -c {} -ngl 99 --port 8080", shell, context)};
    const std::string vllm = fmt::format(
        "vLLM reads single GGUF files, which it calls experimental, and wants the original model's "
        "tokenizer: vllm serve {} --tokenizer ORIGINAL_MODEL_FOLDER",
        shell);
    const std::string tgi = "TGI's own kernels need a Hugging Face folder in GPTQ or AWQ form, "
                            "which Nibble does not write yet; this GGUF file is not one.";
    if (options.json) {
        printJson({{"path", path},
                   {"modelfile", modelfile},
                   {"ollama", ollama},
                   {"llama.cpp", llama},
                   {"vllm", vllm},
                   {"tgi", tgi}});
        return 0;
    }
    print(fmt::format("Ollama\n\n{}\n\nllama.cpp\n\n{}\n\nvLLM\n\n# {}\n\nTGI\n\n# {}\n",
                      fmt::join(ollama, "\n"), fmt::join(llama, "\n"), vllm, tgi));
    return 0;
}

} // namespace

Action defineDeploy(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("OUT", options->file, "A GGUF file that quantize wrote")->required();
    addJson(app, options->json);
    return [options] { return run(*options); };
}

} // namespace nibble::cli
