#include "core/tokenizer/spm_tokenizer.h"

#include "core/base/error.h"
#include "core/tokenizer/bigram_merge.h"
#include "core/tokenizer/utf8.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

size_t leadingSpaces(std::string_view text) {
    size_t at = 0;
    while (text.substr(at).starts_with(kSpmSpace))
        at += kSpmSpace.size();
    return at;
}

} // namespace

SpmTokenizer::SpmTokenizer(Vocabulary vocabulary, std::vector<float> scores, SpacePrefix prefix,
                           Info info, const std::unordered_map<TokenId, Stripping>& stripping)
    : VocabularyTokenizer(std::move(vocabulary), prefix, std::move(info)),
      m_scores(std::move(scores)) {
    if (m_scores.empty())
        m_scores.assign(size_t(m_info.size), 0.0f);
    if (m_scores.size() != size_t(m_info.size))
        fail(ErrorKind::BadInput, "{}: there are {} scores for {} tokens; the file is damaged.",
             m_vocabulary.source(), m_scores.size(), m_info.size);
    for (size_t i = 0; i < m_scores.size(); ++i)
        if (std::isnan(m_scores[i]))
            fail(ErrorKind::BadInput,
                 "{}: the score of token {} is not a number; the file is damaged.",
                 m_vocabulary.source(), i);
    if (!m_vocabulary.hasAllBytes() && m_info.unknown < 0)
        warn("The vocabulary has neither byte tokens nor an unknown token: characters outside of "
             "it are lost.");

    m_cutsAtSpaces = true;
    for (TokenId id = 0; id < m_info.size && m_cutsAtSpaces; ++id) {
        const std::string_view text = m_vocabulary.text(id);
        if (m_vocabulary.findOrdinary(text) < 0)
            continue;
        m_cutsAtSpaces = text.find(kSpmSpace, leadingSpaces(text)) == std::string_view::npos;
    }
    finish(stripping);
}

std::string SpmTokenizer::ordinaryPiece(const std::string& text) const {
    return replaceAll(text, kSpmSpace, " ");
}

void SpmTokenizer::encodeText(std::string_view text, bool prefixed,
                              std::vector<TokenId>& out) const {
    const std::string escaped =
        (prefixed ? std::string(kSpmSpace) : "") + replaceAll(text, " ", kSpmSpace);
    std::string_view rest = escaped;
    while (m_cutsAtSpaces && !rest.empty()) {
        const size_t end = std::min(rest.find(kSpmSpace, leadingSpaces(rest)), rest.size());
        encodeRun(rest.substr(0, end), out);
        rest.remove_prefix(end);
    }
    if (!rest.empty())
        encodeRun(rest, out);
}

void SpmTokenizer::encodeRun(std::string_view run, std::vector<TokenId>& out) const {
    std::vector<MergeSymbol> symbols;
    for (size_t at = 0; at < run.size(); at += symbols.back().length) {
        const auto length = static_cast<uint32_t>(firstCharacter(run.substr(at)).length);
        symbols.push_back(
            {m_vocabulary.findOrdinary(run.substr(at, length)), static_cast<uint32_t>(at), length});
    }
    mergeSymbols(symbols,
                 [&](const MergeSymbol& left, const MergeSymbol& right) -> std::optional<Merge> {
                     const size_t length = size_t(left.length) + right.length;
                     if (length > m_vocabulary.longest())
                         return std::nullopt;
                     const TokenId id = m_vocabulary.findOrdinary(run.substr(left.at, length));
                     if (id < 0)
                         return std::nullopt;
                     return Merge{-m_scores[size_t(id)], id};
                 });
    for (const MergeSymbol& symbol : symbols) {
        if (symbol.length == 0)
            continue;
        if (symbol.id >= 0) {
            out.push_back(symbol.id);
            continue;
        }
        const std::string_view bytes = run.substr(symbol.at, symbol.length);
        const bool known = std::ranges::all_of(bytes, [&](char c) {
            return m_vocabulary.byteToken(static_cast<unsigned char>(c)) >= 0;
        });
        if (known)
            for (const char c : bytes)
                out.push_back(m_vocabulary.byteToken(static_cast<unsigned char>(c)));
        else if (m_info.unknown >= 0)
            out.push_back(m_info.unknown);
    }
}

void SpmTokenizer::putRules(Metadata& metadata) const {
    putEntry(metadata, "scores", m_scores, GgufType::Array, GgufType::Float32);
    putEntry(metadata, "add_space_prefix", m_prefix != SpacePrefix::None, GgufType::Boolean);
}

} // namespace nibble
