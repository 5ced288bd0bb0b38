#include "core/tokenizer/bpe_tokenizer.h"

#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/tokenizer/byte_level.h"
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

} // namespace

BpeTokenizer::BpeTokenizer(Vocabulary vocabulary, const Merges& merges, BpeOptions options,
                           Info info, const std::unordered_map<TokenId, Stripping>& stripping)
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
    finish(stripping);
}

std::string BpeTokenizer::ordinaryPiece(const std::string& text) const {
    if (m_options.byteLevel)
        return byteLevelToBytes(text).value_or(text);
    return m_options.space.empty() ? text : replaceAll(text, m_options.space, " ");
}

void BpeTokenizer::encodeText(std::string_view text, bool prefixed,
                              std::vector<TokenId>& out) const {
    std::string changed;
    if (m_options.normalize) {
        changed = m_options.normalize(text);
        text = changed;
    }
    const bool startsWithSpace =
        text.starts_with(' ') || (!m_options.space.empty() && text.starts_with(m_options.space));
    if (prefixed && !(m_options.prefixUnlessSpace && startsWithSpace)) {
        changed = m_options.prefixText + std::string(text);
        text = changed;
    }
    if (!m_options.space.empty()) {
        changed = replaceAll(text, " ", m_options.space);
        text = changed;
    }
    std::vector<MergeSymbol> symbols;
    if (m_options.rules.empty()) {
        encodeWord(text, symbols, out);
        return;
    }
    for (const std::string_view word : splitText(text, m_options.rules))
        encodeWord(word, symbols, out);
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

void BpeTokenizer::encodeWord(std::string_view word, std::vector<MergeSymbol>& symbols,
                              std::vector<TokenId>& out) const {
    if (m_options.ignoreMerges) {
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
            emitUnmerged(word.substr(symbol.at, symbol.length), out);
    }
}

void BpeTokenizer::emitUnmerged(std::string_view bytes, std::vector<TokenId>& out) const {
    const auto unknown = [&] {
        if (m_info.unknown >= 0 &&
            !(m_options.fuseUnknown && !out.empty() && out.back() == m_info.unknown))
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
    if (!m_options.byteLevel) {
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
                                              const std::string& preTokenizer,
                                              Tokenizer::Info info) {
    const NamedSplit* split = findNamedSplit(preTokenizer);
    if (!split) {
        split = findNamedSplit("default");
        info.warning = fmt::format(
            "The pre-tokenizer \"{}\" is not known; text is split by the default rules, "
            "so some tokens may differ from those the model was trained with.",
            printable(preTokenizer));
    }
    info.model = "gpt2";
    info.preTokenizer = preTokenizer;
    BpeOptions options;
    options.rules = compile(*split);
    options.ignoreMerges = split->ignoreMerges;
    const BpeTokenizer::Merges pairs = parseMerges(merges, vocabulary.source());
    return std::make_shared<BpeTokenizer>(std::move(vocabulary), pairs, std::move(options),
                                          std::move(info),
                                          std::unordered_map<TokenId, BpeTokenizer::Stripping>{});
}

std::shared_ptr<const Tokenizer> makeBpeTokenizer(std::vector<std::string> tokens,
                                                  std::vector<int32_t> tokenTypes,
                                                  std::vector<std::string> merges,
                                                  std::string preTokenizer, Tokenizer::Info info) {
    return makeNamedBpe(Vocabulary(std::move(tokens), tokenTypes, "tokenizer"), merges,
                        preTokenizer, std::move(info));
}

} // namespace nibble
