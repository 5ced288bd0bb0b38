#include "core/tokenizer/vocabulary_tokenizer.h"

#include "core/base/error.h"
#include "core/base/limits.h"

namespace nibble {

VocabularyTokenizer::VocabularyTokenizer(Vocabulary vocabulary, SpacePrefix prefix, Info info)
    : m_vocabulary(std::move(vocabulary)), m_prefix(prefix) {
    m_info = std::move(info);
    completeInfo(m_info, m_vocabulary);
}

void VocabularyTokenizer::finish(const Matchings& matchings) {
    m_pieces.reserve(size_t(m_info.size));
    m_cutOut.assign(size_t(m_info.size), false);
    for (TokenId id = 0; id < m_info.size; ++id) {
        const std::string& text = m_vocabulary.text(id);
        const bool special = m_vocabulary.isSpecial(id);
        if (special || m_vocabulary.type(id) == TokenType::UserDefined) {
            const auto found = matchings.find(id);
            const Matching match = found == matchings.end() ? Matching() : found->second;
            const SpecialTokens::Token token{id, special, match.takesSpaceBefore,
                                             match.takesSpaceAfter, match.singleWord};
            if (match.afterNormalizing && normalizes()) {
                m_inNormalized.add(normalized(text), token);
            } else {
                m_special.add(text, token);
                m_cutOut[size_t(id)] = true;
            }
            m_pieces.push_back(special ? text : userDefinedPiece(text));
        } else if (m_vocabulary.type(id) == TokenType::Byte) {
            m_pieces.emplace_back(1, static_cast<char>(byteTokenValue(text)));
        } else {
            m_pieces.push_back(ordinaryPiece(text));
        }
    }
}

std::vector<TokenId> VocabularyTokenizer::encode(std::string_view text, bool parseSpecial) const {
    if (text.size() > limits::kTextBytes)
        fail(ErrorKind::BadInput, "The text is {} bytes long; at most {} can be tokenized at once.",
             text.size(), limits::kTextBytes);
    std::vector<TokenId> out;
    for (const Fragment& fragment : m_special.split(text, parseSpecial)) {
        if (fragment.token >= 0)
            out.push_back(fragment.token);
        else
            encodeText(
                fragment.text,
                m_prefix == SpacePrefix::EverySegment ||
                    (m_prefix == SpacePrefix::TextStart && fragment.text.data() == text.data()),
                out);
    }
    return out;
}

std::string VocabularyTokenizer::piece(TokenId token, bool special) const {
    if (token < 0 || token >= m_info.size || (!special && m_vocabulary.isSpecial(token)))
        return {};
    return m_pieces[size_t(token)];
}

std::string VocabularyTokenizer::decode(std::span<const TokenId> tokens, bool special) const {
    std::string out;
    bool dropsSpace = m_prefix != SpacePrefix::None;
    for (const TokenId token : tokens) {
        const std::string part = piece(token, special);
        if (part.empty())
            continue;
        const bool cutOut = m_cutOut[size_t(token)];
        out += std::string_view(part).substr(dropsSpace && !cutOut && part.front() == ' ' ? 1 : 0);
        dropsSpace = cutOut && m_prefix == SpacePrefix::EverySegment;
    }
    return out;
}

void VocabularyTokenizer::putInto(Metadata& metadata) const {
    MetadataValue::Strings tokens;
    MetadataValue::Integers types;
    for (TokenId id = 0; id < m_info.size; ++id) {
        // Unused ids have no text, and engines refuse a vocabulary that repeats one.
        const std::string& text = m_vocabulary.text(id);
        tokens.push_back(text.empty() ? fmt::format("[unused {}]", id) : text);
        types.push_back(static_cast<int64_t>(m_vocabulary.type(id)));
    }
    putEntry(metadata, "model", m_info.model, GgufType::String);
    putEntry(metadata, "tokens", std::move(tokens), GgufType::Array, GgufType::String);
    putEntry(metadata, "token_type", std::move(types), GgufType::Array, GgufType::Int32);
    const std::pair<const char*, TokenId> ids[] = {{"bos_token_id", m_info.bos},
                                                   {"eos_token_id", m_info.eos},
                                                   {"eot_token_id", m_info.eot},
                                                   {"unknown_token_id", m_info.unknown}};
    for (const auto& [key, id] : ids)
        if (id >= 0)
            putEntry(metadata, key, int64_t(id), GgufType::Uint32);
    putEntry(metadata, "add_bos_token", m_info.addBos, GgufType::Boolean);
    putRules(metadata);
}

void putEntry(Metadata& metadata, const char* key, decltype(MetadataValue::value) value,
              GgufType type, GgufType elementType) {
    MetadataValue& entry = metadata.entries["tokenizer.ggml." + std::string(key)];
    entry.value = std::move(value);
    entry.storedType = static_cast<uint32_t>(type);
    entry.storedElementType = static_cast<uint32_t>(elementType);
}

} // namespace nibble
