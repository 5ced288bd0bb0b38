#include "core/tokenizer/vocabulary.h"

#include "core/base/error.h"
#include "core/base/limits.h"

#include <algorithm>
#include <bit>

namespace nibble {

Vocabulary::Vocabulary(std::vector<std::string> texts, std::span<const int32_t> types,
                       std::string source)
    : m_texts(std::move(texts)), m_source(std::move(source)) {
    if (m_texts.empty())
        fail(ErrorKind::BadInput, "{}: the vocabulary has no tokens.", m_source);
    if (m_texts.size() > limits::kVocabulary)
        fail(ErrorKind::BadInput, "{}: the vocabulary has {} tokens; at most {} are accepted.",
             m_source, m_texts.size(), limits::kVocabulary);
    if (!types.empty() && types.size() != m_texts.size())
        fail(ErrorKind::BadInput,
             "{}: there are {} token types for {} tokens; the file is damaged.", m_source,
             types.size(), m_texts.size());
    m_types.assign(m_texts.size(), TokenType::Normal);
    m_added.assign(m_texts.size(), false);
    for (size_t i = 0; i < types.size(); ++i) {
        if (types[i] < 0 || types[i] > static_cast<int>(TokenType::Byte))
            fail(ErrorKind::BadInput, "{}: token {} has type {}; types are 0 to 6.", m_source, i,
                 types[i]);
        m_types[i] = static_cast<TokenType>(types[i]);
    }
    m_slots.resize(std::bit_ceil(2 * m_texts.size()));
    for (TokenId id = 0; id < size(); ++id) {
        const std::string& token = text(id);
        if (token.size() > limits::kTokenBytes)
            fail(ErrorKind::BadInput, "{}: token {} is {} bytes long; at most {} are accepted.",
                 m_source, id, token.size(), limits::kTokenBytes);
        if (type(id) == TokenType::Byte && byteTokenValue(token) < 0)
            fail(ErrorKind::BadInput,
                 "{}: token {} is of type byte, but \"{}\" is not of the form <0xXX>.", m_source,
                 id, printable(token));
        if (token.empty())
            continue;
        m_longest = std::max(m_longest, token.size());
        uint32_t hash = 0;
        Slot& slot = m_slots[slotOf(token, hash)];
        if (slot.id < 0 || isOrdinary(id) || !isOrdinary(slot.id))
            slot = {hash, id};
    }
    indexBytes();
}

void Vocabulary::indexBytes() {
    m_byteTokens.fill(-1);
    for (TokenId id = 0; id < size(); ++id)
        if (type(id) == TokenType::Byte)
            m_byteTokens[size_t(byteTokenValue(text(id)))] = id;
}

void Vocabulary::markByteTokens() {
    for (TokenId id = 0; id < size(); ++id)
        if (type(id) == TokenType::Normal && byteTokenValue(text(id)) >= 0)
            setType(id, TokenType::Byte);
    indexBytes();
}

bool Vocabulary::hasAllBytes() const {
    return std::ranges::none_of(m_byteTokens, [](TokenId id) { return id < 0; });
}

size_t Vocabulary::slotOf(std::string_view text, uint32_t& hash) const {
    const size_t whole = std::hash<std::string_view>()(text), mask = m_slots.size() - 1;
    hash = static_cast<uint32_t>(whole >> 32);
    size_t at = whole & mask;
    while (m_slots[at].id >= 0 &&
           (m_slots[at].hash != hash || m_texts[size_t(m_slots[at].id)] != text))
        at = (at + 1) & mask;
    return at;
}

TokenId Vocabulary::find(std::string_view text) const {
    uint32_t hash = 0;
    return m_slots[slotOf(text, hash)].id;
}

TokenId Vocabulary::findOrdinary(std::string_view text) const {
    const TokenId id = find(text);
    return id >= 0 && isOrdinary(id) ? id : -1;
}

int byteTokenValue(std::string_view text) {
    if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>')
        return -1;
    int value = 0;
    for (const char c : text.substr(3, 2)) {
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

namespace {

// Tokens with which well-known models end a turn. Those spelled like ordinary words or markup count
// only as control tokens, the others also as user-defined ones (some files mark them so).
struct EndOfTurn {
    const char* text;
    bool onlyControl;
};
constexpr EndOfTurn kEndsOfTurn[] = {
    {"<|im_end|>", false},
    {"<|eot_id|>", false},
    {"<end_of_turn>", false},
    {"<|end|>", false},
    {"<|eom_id|>", false},
    {"<|endoftext|>", false},
    {"<|end_of_text|>", false},
    {"<|return|>", false},
    {"<|call|>", false},
    {"<|eot|>", false},
    {"<end_of_utterance>", false},
    {"<|end_of_turn|>", false},
    {"<turn|>", false},
    {"<|flush|>", false},
    {"<｜end▁of▁sentence｜>", false},
    {"_<EOT>", true},
    {"</s>", true},
    {"<eos>", true},
    {"<EOT>", true},
    {"[EOS]", true},
    {"[EOT]", true},
};
constexpr size_t kTurnTokens = 4; // of these, the first of them found is the end-of-turn token

TokenId findEndOfTurn(const Vocabulary& vocabulary, const EndOfTurn& end) {
    const TokenId id = vocabulary.find(end.text);
    if (id < 0)
        return -1;
    const TokenType type = vocabulary.type(id);
    return type == TokenType::Control || (!end.onlyControl && type == TokenType::UserDefined) ? id
                                                                                              : -1;
}

} // namespace

void completeInfo(Tokenizer::Info& info, const Vocabulary& vocabulary) {
    info.size = vocabulary.size();
    const auto check = [&](TokenId id, const char* what) {
        if (id < -1 || id >= info.size)
            fail(ErrorKind::BadInput, "{}: the {} token is {}, but the vocabulary has {} tokens.",
                 vocabulary.source(), what, id, info.size);
    };
    check(info.bos, "beginning-of-text");
    check(info.eos, "end-of-text");
    check(info.eot, "end-of-turn");
    check(info.unknown, "unknown");
    for (const TokenId id : info.stops)
        check(id, "end");
    for (size_t i = 0; i < kTurnTokens && info.eot < 0; ++i)
        info.eot = findEndOfTurn(vocabulary, kEndsOfTurn[i]);
    info.stops.push_back(info.eos);
    info.stops.push_back(info.eot);
    // Where a model answers in channels that each close with <|end|>, only <|return|> and <|call|>
    // end it.
    const bool channels = vocabulary.find("<|return|>") >= 0 && vocabulary.find("<|call|>") >= 0;
    for (const EndOfTurn& end : kEndsOfTurn)
        info.stops.push_back(findEndOfTurn(vocabulary, end));
    std::ranges::sort(info.stops);
    info.stops.erase(std::unique(info.stops.begin(), info.stops.end()), info.stops.end());
    std::erase(info.stops, -1);
    if (channels && info.eos != vocabulary.find("<|end|>"))
        std::erase(info.stops, vocabulary.find("<|end|>"));
}

} // namespace nibble
