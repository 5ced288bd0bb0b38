#include "app/cli/arguments.h"
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "app/cli/plan_text.h"

#include <cstdio>
#include <fmt/format.h>
#include <optional>
#include <unistd.h>

namespace nibble::cli {

namespace {

struct Options {
    std::string model, prompt, system, format;
    RecipeArguments recipe;
    RunArguments run;
    GenerateOptions generate;
    int32_t context = 0;
    bool raw = false, json = false;
};

const char* text(GenerateResult::Stop stop) {
    switch (stop) {
    case GenerateResult::Stop::EndToken:
        return "end";
    case GenerateResult::Stop::MaxTokens:
        return "max_tokens";
    case GenerateResult::Stop::ContextFull:
        return "context_full";
    case GenerateResult::Stop::Cancelled:
        return "cancelled";
    }
    return "";
}

std::string summary(const GenerateResult& result) {
    std::string line = fmt::format("[{} tokens, {:.1f} tokens/s; prompt of {}, {:.1f} tokens/s; "
                                   "first token {:.0f} ms; seed {}]",
                                   result.tokens.size(), result.generateTps, result.promptTokens,
                                   result.promptTps, result.firstTokenMs, result.seed);
    if (result.stop == GenerateResult::Stop::ContextFull)
        line += " The context is full.";
    if (!result.note.empty())
        line += "\n" + result.note;
    return line;
}

/// One line from stdin without its end, or nothing at its end or after Ctrl+C.
std::optional<std::string> readLine() {
    std::string line;
    for (char c; read(STDIN_FILENO, &c, 1) == 1;) {
        if (c == '\n')
            return line;
        line += c;
    }
    return line.empty() || interruptFlag()->load() ? std::nullopt : std::optional(line);
}

class ChatSession {
public:
    explicit ChatSession(const Options& options) : m_options(options) {
        const auto model = openModelArgument(options.model);
        model->requireTokenizer("it cannot chat");
        if (!options.raw)
            m_format = chatFormat(*model, options.format);
        m_recipe = options.recipe.recipe(model, options.run.device);
        EngineOptions engine = options.run.options(contextFor(*model, options.context));
        engine.calibration = options.recipe.calibration;
        engine.quickBase = true;
        if (!options.json)
            sayPlan(*model, m_recipe, engine);
        m_engine.open(model, m_recipe, engine, terminalProgress());
        clearProgressLine();
        m_request.templateName = options.format;
        m_request.options = options.generate;
        if (!options.system.empty())
            m_request.messages.push_back({"system", options.system});
    }

    GenerateResult answer(const std::string& prompt, bool stream) {
        if (m_options.raw)
            m_request.rawPrompt = prompt;
        else
            m_request.messages.push_back({"user", prompt});
        Progress progress;
        progress.cancel = interruptFlag();
        const auto result =
            m_engine.chat(m_request, progress, [&](std::string_view piece, TokenId) {
                if (stream)
                    print(piece);
            });
        if (!m_options.raw)
            m_request.messages.push_back({"assistant", result.text});
        return result;
    }

    void announce() const {
        std::fprintf(stderr, "%s · %s · %s · context %d\n",
                     printable(m_engine.model()->name).c_str(), levelName(m_recipe).c_str(),
                     m_engine.plan().deviceText().c_str(), m_engine.options().context);
        if (!m_format.note.empty())
            std::fprintf(stderr, "%s\n", m_format.note.c_str());
    }

    Json describe(const GenerateResult& result) const {
        return {{"text", result.text},
                {"tokens", result.tokens},
                {"prompt_tps", result.promptTps},
                {"generate_tps", result.generateTps},
                {"first_token_ms", result.firstTokenMs},
                {"device", m_engine.plan().deviceText()},
                {"level", levelName(m_recipe)},
                {"stop", text(result.stop)},
                {"template", m_options.raw ? Json(nullptr) : Json(m_format.name)},
                {"note", noteOf(result).empty() ? Json(nullptr) : Json(noteOf(result))},
                {"seed", result.seed},
                {"prompt_tokens", result.promptTokens},
                {"guessed_tokens", result.guessedTokens},
                {"right_guesses", result.rightGuesses},
                {"expert_loads", m_engine.expertLoads()},
                {"plan", cli::describe(m_engine.plan())}};
    }

    /// What the user should know of how the question was put.
    std::string noteOf(const GenerateResult& result) const {
        return m_format.note + (m_format.note.empty() || result.note.empty() ? "" : " ") +
               result.note;
    }

private:
    const Options& m_options;
    ChatFormat m_format;
    Recipe m_recipe;
    Engine m_engine;
    ChatRequest m_request;
};

int exitCode(const GenerateResult& result) {
    return result.stop == GenerateResult::Stop::Cancelled ? static_cast<int>(ErrorKind::Cancelled)
                                                          : 0;
}

int once(const Options& options) {
    ChatSession session(options);
    if (!options.json)
        session.announce();
    const GenerateResult result = session.answer(options.prompt, !options.json);
    if (options.json) {
        printJson(session.describe(result));
    } else {
        print("\n");
        std::fprintf(stderr, "%s\n", summary(result).c_str());
    }
    return exitCode(result);
}

int interactive(const Options& options) {
    if (options.json)
        fail(ErrorKind::Usage, "--json needs one question: give it with --prompt.");
    ChatSession session(options);
    session.announce();
    const bool terminal = isatty(STDIN_FILENO) != 0;
    if (terminal)
        std::fputs("Write a line. Ctrl+C stops an answer, Ctrl+D ends the chat.\n", stderr);
    while (true) {
        if (terminal)
            std::fputs("> ", stderr);
        const auto line = readLine();
        if (!line)
            break;
        if (line->empty())
            continue;
        const GenerateResult result = session.answer(*line, true);
        interruptFlag()->store(false); // it stopped this answer; the chat goes on
        print("\n");
        std::fprintf(stderr, "%s\n", summary(result).c_str());
    }
    return interruptFlag()->load() ? static_cast<int>(ErrorKind::Cancelled) : 0;
}

} // namespace

Action defineChat(CLI::App& app) {
    auto options = std::make_shared<Options>();
    SamplerOptions& sampler = options->generate.sampler;
    addModel(app, options->model);
    auto* prompt = app.add_option("--prompt", options->prompt, "Answer this and end");
    app.add_flag("--raw", options->raw, "Continue the prompt as it is, without a chat template");
    app.add_option("--system", options->system, "System prompt");
    app.add_option("--template", options->format,
                   "Chat template: a built-in one's name, a file, or own (default: the model's)");
    app.add_option("--max-tokens", options->generate.maxTokens, "Tokens of an answer at most")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    app.add_option("--temperature", sampler.temperature, "0 takes the likeliest token")
        ->check(CLI::Range(0.0, 100.0))
        ->capture_default_str();
    app.add_option("--top-k", sampler.topK, "0 turns it off")->capture_default_str();
    app.add_option("--top-p", sampler.topP, "1 turns it off")->capture_default_str();
    app.add_option("--min-p", sampler.minP, "0 turns it off")->capture_default_str();
    app.add_option("--repeat-penalty", sampler.repeatPenalty, "1 turns it off")
        ->capture_default_str();
    app.add_flag("!--no-speculation", options->generate.speculate,
                 "Do not guess tokens from the conversation to check several in one pass (which "
                 "the CPU does; the answer is the same)");
    app.add_option("--seed", sampler.seed, "0 takes a fresh one")->capture_default_str();
    options->recipe.addTo(app);
    options->run.addTo(app);
    addContext(app, options->context);
    addJson(app, options->json);
    app.footer("Without --prompt it reads questions from the standard input, line by line.");
    return
        [options, prompt] { return prompt->count() > 0 ? once(*options) : interactive(*options); };
}

} // namespace nibble::cli
