#include "core/tokenizer/bpe_tokenizer.h"

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/space_cuts.h"
#include "core/tokenizer/split_rules.h"
#include "core/tokenizer/utf8.h"

#include <algorithm>

namespace nibble {
namespace {

// Some vocabularies lack bytes that they never saw in training: control characters, and the bytes
// that start no assigned character (C0, C1, F1, F2 and F5 onwards).
bool occursInText(size_t byte) {
    if (byte < 0x20)
        return byte == '\t' || byte == '\n' || byte == '\r';
    return byte < 0xC0 || (byte > 0xC1 && byte < 0xF1) || byte == 0xF3 || byte == 0xF4;
}

// Of a text's words, so many of at most so many bytes are remembered.
constexpr size_t kWords = 65'536, kWordBytes = 40;

struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

} // namespace

/// What encoding one text keeps from word to word. Most words of a text occur in it before:
/// remembering where their tokens are made encoding twice as fast.
struct BpeTokenizer::Words {
    struct Place {
        size_t at, count;
    };
    std::vector<MergeSymbol> symbols;
    std::unordered_map<std::string, Place, TextHash, std::equal_to<>> seen; ///< in the output
};

BpeTokenizer::BpeTokenizer(Vocabulary vocabulary, const Merges& merges, BpeOptions options,
                           Info info, const Matchings& matchings)
    : VocabularyTokenizer(std::move(vocabulary), options.prefix, std::move(info)),
      m_options(std::move(options)) {
    if (merges.size() > limits::kMerges)
        fail(ErrorKind::BadInput, "{}: there are {} merges; at most {} are accepted.",
             m_vocabulary.source(), merges.size(), limits::kMerges);
    const auto intern = [&](const std::string& text) {
        if (const TokenId id = m_vocabulary.findOrdinary(text); id >= 0)
            return id;
        const int32_t next = m_info.size + static_cast<int32_t>(m_onlyInMerges.size());
        return m_onlyInMerges.try_emplace(text, next).first->second;
    };
    m_merges.reserve(merges.size());
    for (size_t rank = 0; rank < merges.size(); ++rank) {
        const auto& [left, right] = merges[rank];
        if (left.size() + right.size() > limits::kTokenBytes)
            fail(ErrorKind::BadInput,
                 "{}: merge {} makes a text of {} bytes; at most {} are accepted.",
                 m_vocabulary.source(), rank, left.size() + right.size(), limits::kTokenBytes);
        m_merges.try_emplace(pairOf(intern(left), intern(right)),
                             Ranked{static_cast<int32_t>(rank), intern(left + right)});
    }
    int missing = 0;
    for (size_t byte = 0; byte < 256 && m_options.byteLevel; ++byte) {
        m_byteSymbols[byte] = intern(byteLevelCharacters()[byte]);
        missing += occursInText(byte) && m_byteSymbols[byte] >= m_info.size;
    }
    if (missing > 0 && m_info.unknown < 0)
        warn(fmt::format(
            "The vocabulary lacks {} bytes of ordinary text and has no unknown token: characters "
            "with them are lost.",
            missing));
    else if (!m_options.byteLevel && !m_vocabulary.hasAllBytes() && m_info.unknown < 0)
        warn("The vocabulary has neither byte tokens nor an unknown token: characters outside of "
             "it are lost.");
    // Where words are looked up as a whole, or unknown spaces could join the unknown text before
    // them, nothing may be cut.
    if (!m_options.byteLevel && !m_options.space.empty() && !m_options.ignoreMerges &&
        m_vocabulary.findOrdinary(m_options.space) >= 0) {
        m_cuts.emplace(m_options.space);
        for (const auto& [left, right] : merges)
            m_cuts->add(left + right);
    }
    finish(matchings);
}

std::string BpeTokenizer::ordinaryPiece(const std::string& text) const {
    if (m_options.byteLevel)
        return byteLevelToBytes(text).value_or(text);
    return m_options.space.empty() ? text : replaceAll(text, m_options.space, " ");
}

std::string BpeTokenizer::normalized(std::string_view text) const {
    return m_options.normalize(text);
}

void BpeTokenizer::encodeText(std::string_view text, bool prefixed,
                              std::vector<TokenId>& out) const {
    Words words;
    if (!m_options.normalize) {
        encodeNormal(text, prefixed, words, out);
        return;
    }
    const std::string normal = normalized(text);
    for (const Fragment& fragment : m_inNormalized.split(normal, false)) {
        if (fragment.token >= 0)
            out.push_back(fragment.token);
        else
            encodeNormal(fragment.text,
                         prefixed && (m_prefix == SpacePrefix::EverySegment ||
                                      fragment.text.data() == normal.data()),
                         words, out);
    }
}

void BpeTokenizer::encodeNormal(std::string_view text, bool prefixed, Words& words,
                                std::vector<TokenId>& out) const {
    if (m_options.spacedAfter == 0) {
        encodePiece(text, prefixed, words, out);
        return;
    }
    for (const std::string_view piece :
         splitText(text, std::span(m_options.rules).first(m_options.spacedAfter)))
        encodePiece(piece,
                    prefixed &&
                        (m_prefix == SpacePrefix::EverySegment || piece.data() == text.data()),
                    words, out);
}

void BpeTokenizer::encodePiece(std::string_view piece, bool prefixed, Words& words,
                               std::vector<TokenId>& out) const {
    std::string spaced;
    if (m_options.spacedByPieces) {
        const std::string_view space =
            m_options.space.empty() ? std::string_view(" ") : std::string_view(m_options.space);
        spaced = replaceAll(piece, " ", space);
        if (prefixed && !spaced.starts_with(space))
            spaced.insert(0, space);
        piece = spaced;
    }
    const auto rules = std::span(m_options.rules).subspan(m_options.spacedAfter);
    const auto encode = [&](std::string_view word) { encodeWord(word, words, out); };
    // Bytes that are not UTF-8 stay within their word where no rule cuts it.
    for (const std::string_view word :
         rules.empty() ? std::vector{piece} : splitText(piece, rules)) {
        if (m_cuts)
            m_cuts->forEachWord(word, encode);
        else
            encode(word);
    }
}

void BpeTokenizer::addSymbols(std::string_view word, std::vector<MergeSymbol>& symbols) const {
    for (size_t at = 0; at < word.size(); at += symbols.back().length) {
        if (m_options.byteLevel) {
            const int32_t id = m_byteSymbols[static_cast<unsigned char>(word[at])];
            symbols.push_back({id, static_cast<uint32_t>(at), 1});
            continue;
        }
        const size_t length = firstCharacter(word.substr(at)).length;
        int32_t id = m_vocabulary.findOrdinary(word.substr(at, length));
        if (id < 0 && !m_onlyInMerges.empty())
            if (const auto found = m_onlyInMerges.find(std::string(word.substr(at, length)));
                found != m_onlyInMerges.end())
                id = found->second;
        symbols.push_back({id, static_cast<uint32_t>(at), static_cast<uint32_t>(length)});
    }
}

void BpeTokenizer::encodeWord(std::string_view word, Words& words,
                              std::vector<TokenId>& out) const {
    if (word.size() > kWordBytes) {
        mergeWord(word, words, out);
        return;
    }
    if (const auto seen = words.seen.find(word); seen != words.seen.end()) {
        const auto [at, count] = seen->second;
        for (size_t i = 0; i < count; ++i)
            out.push_back(out[at + i]);
        return;
    }
    const size_t at = out.size();
    mergeWord(word, words, out);
    if (words.seen.size() < kWords)
        words.seen.emplace(word, Words::Place{at, out.size() - at});
}

void BpeTokenizer::mergeWord(std::string_view word, Words& words, std::vector<TokenId>& out) const {
    std::vector<MergeSymbol>& symbols = words.symbols;
    const size_t start = out.size();
    if (m_options.ignoreMerges ||
        (m_options.wholeLineBreaks && word.find_first_not_of('\n') == std::string_view::npos)) {
        const TokenId whole = m_vocabulary.findOrdinary(m_options.byteLevel ? bytesToByteLevel(word)
                                                                            : std::string(word));
        if (whole >= 0) {
            out.push_back(whole);
            return;
        }
    }
    symbols.clear();
    addSymbols(word, symbols);
    mergeSymbols(symbols,
                 [&](const MergeSymbol& left, const MergeSymbol& right) -> std::optional<Merge> {
                     const auto found = m_merges.find(pairOf(left.id, right.id));
                     if (found == m_merges.end())
                         return std::nullopt;
                     return Merge{static_cast<float>(found->second.rank), found->second.id};
                 });
    for (const MergeSymbol& symbol : symbols) {
        if (symbol.length == 0)
            continue;
        if (symbol.id >= 0 && symbol.id < m_info.size)
            out.push_back(symbol.id);
        else
            emitUnmerged(word.substr(symbol.at, symbol.length), start, out);
    }
}

void BpeTokenizer::emitUnmerged(std::string_view bytes, size_t word,
                                std::vector<TokenId>& out) const {
    const auto unknown = [&] {
        if (m_info.unknown >= 0 &&
            !(m_options.fuseUnknown && out.size() > word && out.back() == m_info.unknown))
            out.push_back(m_info.unknown);
    };
    if (m_options.byteLevel) {
        for (const char c : bytes) {
            const int32_t id = m_byteSymbols[static_cast<unsigned char>(c)];
            if (id < m_info.size)
                out.push_back(id);
            else
                unknown();
        }
        return;
    }
    while (!bytes.empty()) {
        const size_t length = firstCharacter(bytes).length;
        const std::string_view character = bytes.substr(0, length);
        const bool known = std::ranges::all_of(character, [&](char c) {
            return m_vocabulary.byteToken(static_cast<unsigned char>(c)) >= 0;
        });
        if (const TokenId id = m_vocabulary.findOrdinary(character); id >= 0)
            out.push_back(id);
        else if (known)
            for (const char c : character)
                out.push_back(m_vocabulary.byteToken(static_cast<unsigned char>(c)));
        else
            unknown();
        bytes.remove_prefix(length);
    }
}

void BpeTokenizer::putRules(Metadata& metadata) const {
    if (!m_options.byteLevel && m_info.model != kTextBpe) {
        // Characters score nothing; a token that no merge makes comes last.
        constexpr float kNeverMerged = -1e9f;
        MetadataValue::Floats scores(size_t(m_info.size), kNeverMerged);
        for (const auto& [pair, merge] : m_merges)
            if (merge.id < m_info.size)
                scores[size_t(merge.id)] =
                    std::max(scores[size_t(merge.id)], -1.0f - static_cast<float>(merge.rank));
        putEntry(metadata, "scores", std::move(scores), GgufType::Array, GgufType::Float32);
        putEntry(metadata, "add_space_prefix", m_prefix != SpacePrefix::None, GgufType::Boolean);
        return;
    }
    std::vector<const std::string*> onlyInMerges(m_onlyInMerges.size());
    for (const auto& [text, id] : m_onlyInMerges)
        onlyInMerges[size_t(id - m_info.size)] = &text;
    const auto textOf = [&](uint32_t id) -> const std::string& {
        return static_cast<int32_t>(id) < m_info.size ? m_vocabulary.text(static_cast<TokenId>(id))
                                                      : *onlyInMerges[id - uint32_t(m_info.size)];
    };
    std::vector<std::pair<int32_t, std::string>> ranked;
    ranked.reserve(m_merges.size());
    for (const auto& [pair, merge] : m_merges)
        ranked.emplace_back(merge.rank, textOf(uint32_t(pair >> 32)) + " " +
                                            textOf(static_cast<uint32_t>(pair)));
    std::ranges::sort(ranked);
    MetadataValue::Strings merges;
    merges.reserve(ranked.size());
    for (auto& [rank, text] : ranked)
        merges.push_back(std::move(text));
    putEntry(metadata, "merges", std::move(merges), GgufType::Array, GgufType::String);
    putEntry(metadata, "pre", m_info.preTokenizer.empty() ? "default" : m_info.preTokenizer,
             GgufType::String);
}

BpeTokenizer::Merges parseMerges(std::span<const std::string> merges, std::string_view source) {
    BpeTokenizer::Merges pairs;
    pairs.reserve(merges.size());
    for (const std::string& merge : merges) {
        // The left side may itself be a space, never empty: hence the search from the second
        // character.
        const size_t space = merge.find(' ', 1);
        if (space == std::string::npos || space + 1 == merge.size())
            fail(ErrorKind::BadInput,
                 "{}: merge {} is \"{}\", expected two parts with a space between them.", source,
                 pairs.size(), printable(merge));
        pairs.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
    return pairs;
}

std::shared_ptr<const Tokenizer> makeNamedBpe(Vocabulary vocabulary,
                                              std::span<const std::string> merges,
                                              const std::string& preTokenizer, Tokenizer::Info info,
                                              const BpeTokenizer::Matchings& matchings) {
    const NamedSplit* split = findNamedSplit(preTokenizer);
    if (!split) {
        split = findNamedSplit("default");
        info.warnings.push_back(
            fmt::format("The pre-tokenizer \"{}\" is not known; text is split by the default "
                        "rules, so some tokens may differ from those the model was trained with "
                        "and its answers may be worse.",
                        printable(preTokenizer)));
    }
    info.model = split->byteLevel ? "gpt2" : kTextBpe;
    info.preTokenizer = preTokenizer;
    BpeOptions options;
    options.rules = compile(*split);
    options.ignoreMerges = split->ignoreMerges;
    options.wholeLineBreaks = split->wholeLineBreaks;
    options.byteLevel = split->byteLevel;
    if (!split->byteLevel) {
        options.space = kSpmSpace;
        options.spacedByPieces = true;
    }
    const BpeTokenizer::Merges pairs = parseMerges(merges, vocabulary.source());
    return std::make_shared<BpeTokenizer>(std::move(vocabulary), pairs, std::move(options),
                                          std::move(info), matchings);
}

std::shared_ptr<const Tokenizer> makeBpeTokenizer(std::vector<std::string> tokens,
                                                  std::vector<int32_t> tokenTypes,
                                                  std::vector<std::string> merges,
                                                  std::string preTokenizer, Tokenizer::Info info) {
    return makeNamedBpe(Vocabulary(std::move(tokens), tokenTypes, "tokenizer"), merges,
                        preTokenizer, std::move(info));
}

} // namespace nibble
