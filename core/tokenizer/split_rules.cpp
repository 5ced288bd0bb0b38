#include "core/tokenizer/split_rules.h"

#include "core/tokenizer/utf8.h"

#include <algorithm>

namespace nibble {
namespace {

// The published pre-tokenizers of these models, in the parts that they share. Apostrophe endings
// are spelled letter by letter because a caseless pattern would also take U+017F for an s.
constexpr const char* kEndings = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
constexpr const char* kEndingsSpelled = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
constexpr const char* kWord = R"([^\r\n\p{L}\p{N}]?\p{L}+)";
constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kThreeDigits = R"(\p{N}{1,3})";
constexpr const char* kSymbols = R"( ?[^\s\p{L}\p{N}]+[\r\n]*)";
constexpr const char* kSymbolsAndSlash = R"( ?[^\s\p{L}\p{N}]+[\r\n/]*)";
constexpr const char* kLineBreaks = R"(\s*[\r\n]+)";
constexpr const char* kSpaces = R"(\s+(?!\S)|\s+)";
constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// A word in lower case that may start in upper case, and one in upper case.
constexpr const char* kCasedWord =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)";
constexpr const char* kUpperWord =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)";
// The same without Chinese characters: all that is in none of these.
constexpr const char* kCasedWordNotHan =
    R"([^\r\n\p{L}\p{N}]?[^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]*[^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]+)";
constexpr const char* kUpperWordNotHan =
    R"([^\r\n\p{L}\p{N}]?[^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]+[^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}]*)";
constexpr const char* kChineseAndKana = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
constexpr const char* kCodeWords =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)";
// Letters that have a case, as Unicode stood when DeepSeek listed them.
constexpr const char* kDeepSeekWords =
    R"(\s?[A-Za-z\x{00B5}\x{00C0}-\x{00D6}\x{00D8}-\x{00F6}\x{00F8}-\x{01BA})"
    R"(\x{01BC}-\x{01BF}\x{01C4}-\x{0293}\x{0295}-\x{02AF}\x{0370}-\x{0373}\x{0376}\x{0377})"
    R"(\x{037B}-\x{037D}\x{037F}\x{0386}\x{0388}-\x{038A}\x{038C}\x{038E}-\x{03A1})"
    R"(\x{03A3}-\x{03F5}\x{03F7}-\x{0481}\x{048A}-\x{052F}\x{0531}-\x{0556})"
    R"(\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA})"
    R"(\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A})"
    R"(\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D})"
    R"(\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4})"
    R"(\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3})"
    R"(\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107})"
    R"(\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D})"
    R"(\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184})"
    R"(\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D})"
    R"(\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E})"
    R"(\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A})"
    R"(\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB})"
    R"(\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+)";
constexpr const char* kDeepSeekOtherLetters =
    R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr const char* kBloom = " ?[^(\\s|.,!?…。，、।۔،)]+";
constexpr const char* kBloomSpelled = " ?[^(\\s|[.,!?…。，、।۔،])]+";

std::string anyOf(std::initializer_list<std::string> parts) {
    std::string out;
    for (const std::string& part : parts)
        out += (out.empty() ? "" : "|") + part;
    return out;
}

std::string withEnding(const char* word) {
    return std::string(word) + kEndings + "?";
}

const std::vector<NamedSplit>& table() {
    const std::string gpt4o = anyOf({withEnding(kCasedWord), withEnding(kUpperWord), kThreeDigits,
                                     kSymbolsAndSlash, kLineBreaks, kSpaces});
    const std::string qwen2 = anyOf({kEndings, kWord, kDigit, kSymbols, kLineBreaks, kSpaces});
    const std::string llama3 =
        anyOf({kEndings, kWord, kThreeDigits, kSymbols, kLineBreaks, kSpaces});
    const std::string codeWords =
        anyOf({kCodeWords, R"( ?[\p{P}\p{S}]+[\r\n]*)", kLineBreaks, kSpaces});
    // The files have the characters themselves where these have their codes.
    const std::string codeWordsSpelled =
        replaceAll(replaceAll(codeWords, "\\r", "\r"), "\\n", "\n");
    static const std::vector<NamedSplit> rows = {
        {.names = {"default"},
         .patterns = {{R"([\p{P}\$\+<=>\^~\|]+)"}, {kGpt2}, {R"(\p{N}+)"}, {"[0-9][0-9][0-9]"}}},
        {.names = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "jina-es", "jina-de", "jina-v1-en",
                   "jina-v2-es", "jina-v2-de", "jina-v2-code", "gigachat", "roberta-bpe", "a.x-4.0",
                   "mellum", "modern-bert", "exaone4", "trillion", "granite-docling"},
         .patterns = {{kGpt2}}},
        {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
                   "lfm2", "jina-v5-nano"},
         .patterns = {{llama3}},
         .ignoreMerges = true,
         .addBos = true},
        {.names = {"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, .patterns = {{llama3}}},
        {.names = {"jais-2"},
         .patterns = {{anyOf({kEndings, kWord, kThreeDigits, kSymbols, kLineBreaks,
                              R"(\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S))",
                              R"(\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S))",
                              R"(\s{1,2}(?!\S)|\s{1})"})}}},
        {.names = {"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo",
                   "f2llmv2", "solar-open", "grok-2"},
         .patterns = {{qwen2}}},
        {.names = {"qwen35"},
         .patterns = {{anyOf({kEndings, R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+)", kDigit,
                              R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)", kLineBreaks, kSpaces})}}},
        {.names = {"ufakzeka"},
         .patterns = {{anyOf({kWord, kDigit, kSymbols, kLineBreaks, kSpaces})}}},
        {.names = {"seed-coder"},
         .patterns = {{anyOf({kEndings, kWord, R"(\p{N}{1})", R"( ?[^\s\p{L}\p{N}\r\n]+)",
                              kLineBreaks, kSpaces})}}},
        {.names = {"bailingmoe", "bailingmoe2", "llada-moe"},
         .patterns = {{anyOf({"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])", kWord, kDigit, kSymbols,
                              R"(\s*[\r\n])", kSpaces}),
                       anyOf({"'(?i:[sdmt]|ll|ve|re)", R"([^\r\n\p{L}\p{N}]?+\p{L}+)", kDigit,
                              R"( ?[^\s\p{L}\p{N}]++[\r\n]*)", R"(\s*[\r\n])", kSpaces})}}},
        {.names = {"minicpm5"},
         .patterns = {{kThreeDigits},
                      {anyOf({kEndings, kWord, R"(\p{N}+)", kSymbols, kLineBreaks, kSpaces})}},
         .ignoreMerges = true},
        {.names = {"exaone-moe"},
         .patterns = {{anyOf({kEndings, R"([^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+)",
                              kDigit, R"( ?[^\s\p{L}\p{N}]+[\r\n/]?)", R"(\s*[\r\n])", kSpaces})}}},
        {.names = {"laguna"}, .patterns = {{R"([^\n]+|[\n]+)"}, {qwen2}}},
        {.names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone",
                   "minerva-7b", "mellum2"},
         .patterns = {{kDigit}, {kGpt2}}},
        {.names = {"falcon"},
         .patterns = {{R"([\p{P}\$\+<=>\^~\|`]+)"}, {kGpt2}, {"[0-9][0-9][0-9]"}}},
        {.names = {"bloom", "poro-chat", "gpt3-finnish"}, .patterns = {{kBloom, kBloomSpelled}}},
        {.names = {"viking"}, .patterns = {{kBloom, kBloomSpelled}, {kDigit}}},
        {.names = {"tekken"},
         .patterns = {{anyOf(
             {kCasedWord, kUpperWord, kDigit, kSymbolsAndSlash, kLineBreaks, kSpaces})}},
         .ignoreMerges = true,
         .addBos = true},
        {.names = {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}, .patterns = {{gpt4o}}},
        {.names = {"granite-embed-multi-97m"}, .patterns = {{gpt4o}}, .ignoreMerges = true},
        {.names = {"tiny_aya", "cohere2moe"},
         .patterns = {{R"((?<!\d)\d++(?!\w))", R"(\d{1,3}(?=(?:\d{3})*\b))", 3}, {gpt4o}}},
        {.names = {"kimi-k2"},
         .patterns = {{anyOf({R"([\p{Han}]+)", withEnding(kCasedWordNotHan),
                              withEnding(kUpperWordNotHan), kThreeDigits, kSymbols, kLineBreaks,
                              kSpaces})}}},
        {.names = {"youtu"},
         .patterns = {{anyOf({R"([\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+)",
                              R"([！…“”‘’—：；，\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+)",
                              R"([\x{3105}-\x{312F}]+)", kChineseAndKana})},
                      {anyOf({withEnding(kCasedWord), withEnding(kUpperWord), kDigit,
                              kSymbolsAndSlash, kLineBreaks, kSpaces})}},
         .ignoreMerges = true},
        {.names = {"deepseek-llm"},
         .patterns = {{R"([\r\n])"},
                      {kDeepSeekWords},
                      {R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)"},
                      {R"(\s+$)"},
                      {kDeepSeekOtherLetters},
                      {R"(\p{N}+)"}}},
        {.names = {"deepseek-coder"},
         .patterns = {{R"([\r\n])"},
                      {R"(\s?\p{L}+)"},
                      {R"(\s?\p{P}+)"},
                      {kDeepSeekOtherLetters},
                      {kDigit}}},
        {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
         .patterns = {{kThreeDigits},
                      {kChineseAndKana, "[一-龥぀-ゟ゠-ヿ]+"},
                      {codeWords, codeWordsSpelled}}},
        {.names = {"spark2_5"},
         .patterns = {{kThreeDigits},
                      {kChineseAndKana},
                      {anyOf({kCodeWords, R"( ?[\p{P}\p{S}]+|[\r\n])", kSpaces})},
                      {kDigit}}},
        {.names = {"afmoe"},
         .patterns = {{R"(\p{N}+)", R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})))", 3},
                      {R"([\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{30FF})"
                       R"(\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF}\x{0E00}-\x{0E7F}\x{0E80}-\x{0EFF})"
                       R"(\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF})"
                       R"(\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+)"},
                      {codeWords}}},
        {.names = {"superbpe"},
         .patterns = {{R"(\p{N}+)"}, {R"(\d+)", R"((?=(\d{3})+(?!\d)))", 3, true}}},
        {.names = {"chameleon"},
         .patterns = {{"<sentinel:[0-9]+>"},
                      {"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"},
                      {R"(([\t\n]|    |  ))"},
                      {kDigit},
                      {R"([\p{P}!-/:-@\[-`{-~])"},
                      {kGpt2}},
         .addBos = true},
        // Merges reach over spaces; only line breaks are kept apart.
        {.names = {"gemma4", "granite-embed-multi-311m"},
         .patterns = {{R"([^\n]+|[\n]+)"}},
         .wholeLineBreaks = true,
         .addBos = true,
         .byteLevel = false},
        {.names = {"sarvam-moe"}, .patterns = {{R"([^\n]+|[\n]+)"}}, .byteLevel = false},
    };
    return rows;
}

} // namespace

std::span<const NamedSplit> namedSplits() {
    return table();
}

const NamedSplit* findNamedSplit(std::string_view name) {
    for (const NamedSplit& row : table())
        if (std::ranges::find(row.names, name) != row.names.end())
            return &row;
    return nullptr;
}

SplitPattern knownPattern(const std::string& spelled) {
    for (const NamedSplit& row : table())
        for (const SplitPattern& pattern : row.patterns)
            if (!pattern.spelled.empty() && pattern.spelled == spelled)
                return pattern;
    return {replaceAll(spelled, kEndingsSpelled, kEndings)};
}

std::string spelledPattern(const SplitPattern& pattern) {
    return pattern.spelled.empty() ? replaceAll(pattern.regex, kEndings, kEndingsSpelled)
                                   : pattern.spelled;
}

std::vector<SplitRule> compile(const NamedSplit& split) {
    std::vector<SplitRule> rules;
    for (const SplitPattern& pattern : split.patterns)
        rules.push_back({.regex = std::make_shared<const Regex>(pattern.regex, split.names.front()),
                         .fromEnd = pattern.fromEnd,
                         .onlyInside = pattern.onlyInside});
    return rules;
}

} // namespace nibble
