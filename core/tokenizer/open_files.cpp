#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/mapped_file.h"
#include "core/files/json_text.h"
#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/character_map.h"
#include "core/tokenizer/sentencepiece.h"
#include "core/tokenizer/spm_tokenizer.h"
#include "core/tokenizer/token_table.h"
#include "core/tokenizer/utf8.h"

#include <algorithm>

namespace nibble {
namespace {

using Json = nlohmann::json;

// What no merge is worth: tokens that were added to a vocabulary are found as a whole.
constexpr float kAddedScore = -1000.0f;

/// A vocabulary's file and the one with its merges.
constexpr std::pair<const char*, const char*> kVocabularyFiles[] = {{"vocab.json", "merges.txt"},
                                                                    {"encoder.json", "vocab.bpe"}};

/// The rules of tokenizer classes that have these two files.
constexpr std::pair<const char*, const char*> kClasses[] = {
    {"Qwen2Tokenizer", "qwen2"},         {"GPT2Tokenizer", "gpt-2"},
    {"CodeGenTokenizer", "gpt-2"},       {"WhisperTokenizer", "gpt-2"},
    {"RobertaTokenizer", "roberta-bpe"},
};

std::string spacesCollapsed(std::string_view text) {
    std::string out;
    for (const char c : text)
        if (c != ' ' || (!out.empty() && out.back() != ' '))
            out += c;
    if (out.ends_with(' '))
        out.pop_back();
    return out;
}

/// What SentencePiece's normalizer does to text.
SpmOptions optionsOf(const SentencePieceModel& model, const std::string& source,
                     Tokenizer::Info& info) {
    SpmOptions options;
    options.userDefinedInText = true;
    options.fuseUnknown = true;
    if (!model.characterMap.empty())
        options.normalize = [map =
                                 std::make_shared<const CharacterMap>(model.characterMap, source)](
                                std::string_view text) { return map->apply(text); };
    if (model.removeExtraSpaces)
        options.normalize = [before = options.normalize](std::string_view text) {
            return spacesCollapsed(before ? before(text) : std::string(text));
        };
    if (model.spaceBehindWords || !model.escapeSpaces)
        info.warnings.push_back(
            "The tokenizer puts spaces behind words or keeps them as they are, which is not "
            "followed, so some tokens may differ from those the model was trained with and its "
            "answers may be worse.");
    return options;
}

/// How a vocabulary cuts numbers tells the rules that it was made by.
std::string guessRules(const Vocabulary& vocabulary) {
    size_t digits[5] = {}; // tokens of 1, 2, 3 and more digits
    bool symbolsWithBreaks = false;
    for (TokenId id = 0; id < vocabulary.size(); ++id) {
        const std::string text = byteLevelToBytes(vocabulary.text(id)).value_or("");
        if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos)
            ++digits[std::min<size_t>(text.size(), 4)];
        symbolsWithBreaks |= text == ";\n" || text == ")\n";
    }
    if (digits[4] > 0)
        return "gpt-2";
    if (digits[3] > 0)
        return symbolsWithBreaks ? "llama-bpe" : "gpt-2";
    return symbolsWithBreaks ? "qwen2" : "starcoder";
}

std::vector<std::string> readMergesFile(const std::filesystem::path& file) {
    const std::string text = readTextFile(file, limits::kJsonBytes);
    std::vector<std::string> merges;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        std::string_view line = std::string_view(text).substr(at, end - at);
        if (line.ends_with('\r'))
            line.remove_suffix(1);
        const bool version = at == 0 && line.starts_with("#version");
        if (!line.empty() && !version)
            merges.emplace_back(line);
        at = end + 1;
    }
    return merges;
}

} // namespace

std::shared_ptr<const Tokenizer> openSentencePiece(const std::filesystem::path& file) {
    const std::string source = printable(file.filename().string());
    const Bytes bytes = mapFile(file);
    SentencePieceModel model = readSentencePiece(bytes.view(), source);
    if (model.kind != SentencePieceModel::Bpe) {
        const char* kind = model.kind == SentencePieceModel::Unigram ? "Unigram"
                           : model.kind == SentencePieceModel::Word  ? "Word"
                           : model.kind == SentencePieceModel::Char  ? "Char"
                                                                     : "unknown";
        fail(ErrorKind::BadInput,
             "{}: the SentencePiece model is of the type {} ({}); only BPE is supported.", source,
             kind, model.kind);
    }
    const FolderNotes notes(file.parent_path());
    TokenTable table{source, model.texts.size(), std::move(model.texts), std::move(model.types)};
    const size_t own = table.texts.size();
    for (size_t id = 0; id < own; ++id)
        if (table.types[id] == static_cast<int32_t>(TokenType::UserDefined)) {
            table.texts[id] = replaceAll(table.texts[id], kSpmSpace, " ");
            table.matchings[static_cast<TokenId>(id)].afterNormalizing = true;
        }
    notes.readAdded(table);
    model.scores.resize(table.texts.size(), kAddedScore);

    Vocabulary vocabulary(std::move(table.texts), table.types, source);
    Tokenizer::Info info;
    info.model = "llama";
    SpmOptions options = optionsOf(model, source, info);
    notes.readSpecials(vocabulary, info);
    const auto orElse = [&](TokenId& id, int32_t named) {
        if (id < 0 && named >= 0 && named < vocabulary.size())
            id = named;
    };
    orElse(info.bos, model.bos);
    orElse(info.eos, model.eos);
    orElse(info.unknown, model.unknown);
    info.addBos = notes.addBosOr(true) && info.bos >= 0;
    if (!notes.addSpaceOr(model.addSpacePrefix))
        options.prefix = SpacePrefix::None;
    else if (!notes.isLegacy())
        options.prefix = SpacePrefix::TextStart;
    return std::make_shared<SpmTokenizer>(std::move(vocabulary), std::move(model.scores),
                                          std::move(options), std::move(info), table.matchings);
}

std::shared_ptr<const Tokenizer> openVocabularyJson(const std::filesystem::path& file) {
    const std::string source = printable(file.filename().string());
    std::filesystem::path mergesFile;
    for (const auto& [vocabulary, merges] : kVocabularyFiles)
        if (file.filename() == vocabulary)
            mergesFile = file.parent_path() / merges;
    if (mergesFile.empty())
        fail(ErrorKind::BadInput,
             "{}: it is none of the files that hold a tokenizer: tokenizer.json, tokenizer.model, "
             "vocab.json (with merges.txt) and encoder.json (with vocab.bpe).",
             source);
    const Json document = readJson(file.string(), limits::kJsonDepth);
    if (!document.is_object() || document.empty())
        fail(ErrorKind::BadInput, "{}: it is not a table of tokens; the file is damaged.", source);
    TokenTable table{source, document.size()};
    for (const auto& [text, id] : document.items())
        table.put(table.idOf(id, text), text, TokenType::Normal);
    const FolderNotes notes(file.parent_path());
    notes.readAdded(table);
    const std::vector<std::string> merges = readMergesFile(mergesFile);

    Vocabulary vocabulary(std::move(table.texts), table.types, source);
    Tokenizer::Info info;
    notes.readSpecials(vocabulary, info);
    info.addBos = notes.addBosOr(false) && info.bos >= 0;
    const std::string named = notes.tokenizerClass();
    std::string rules;
    for (const auto& [name, split] : kClasses)
        if (named == name || named == std::string(name) + "Fast")
            rules = split;
    if (rules.empty()) {
        rules = guessRules(vocabulary);
        info.warnings.push_back(fmt::format(
            "No tokenizer.json says how text is cut into words; the rules \"{}\" are guessed from "
            "the vocabulary, so some tokens may differ from those the model was trained with and "
            "its answers may be worse.",
            rules));
    }
    return makeNamedBpe(std::move(vocabulary), merges, rules, std::move(info), table.matchings);
}

std::shared_ptr<const Tokenizer> openTokenizerFile(const std::filesystem::path& file) {
    if (file.filename() == "tokenizer.json")
        return openTokenizerJson(file);
    if (file.extension() == ".model")
        return openSentencePiece(file);
    return openVocabularyJson(file);
}

} // namespace nibble
