#include "core/tokenizer/spm_tokenizer.h"

#include "core/base/error.h"
#include "core/tokenizer/bigram_merge.h"
#include "core/tokenizer/space_cuts.h"
#include "core/tokenizer/utf8.h"

#include <algorithm>
#include <cmath>

namespace nibble {
SpmTokenizer::SpmTokenizer(Vocabulary vocabulary, std::vector<float> scores, SpmOptions options,
                           Info info, const Matchings& matchings)
    : VocabularyTokenizer(std::move(vocabulary), options.prefix, std::move(info)),
      m_options(std::move(options)), m_scores(std::move(scores)), m_cuts(kSpmSpace) {
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

    for (TokenId id = 0; id < m_info.size; ++id)
        if (const std::string_view text = m_vocabulary.text(id);
            m_vocabulary.findOrdinary(text) >= 0)
            m_cuts.add(text);
    finish(matchings);
}

std::string SpmTokenizer::ordinaryPiece(const std::string& text) const {
    return replaceAll(text, kSpmSpace, " ");
}

std::string SpmTokenizer::normalized(std::string_view text) const {
    return replaceAll(text, " ", kSpmSpace);
}

void SpmTokenizer::encodeText(std::string_view text, bool prefixed,
                              std::vector<TokenId>& out) const {
    std::string changed;
    if (m_options.normalize) {
        changed = m_options.normalize(text);
        text = changed;
    }
    if (text.empty())
        return;
    const std::string escaped = (prefixed ? std::string(kSpmSpace) : "") + normalized(text);
    for (const Fragment& fragment : m_inNormalized.split(escaped, false)) {
        if (fragment.token >= 0)
            out.push_back(fragment.token);
        else
            m_cuts.forEachWord(fragment.text, [&](std::string_view word) { encodeRun(word, out); });
    }
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
        else if (m_info.unknown >= 0 &&
                 !(m_options.fuseUnknown && !out.empty() && out.back() == m_info.unknown))
            out.push_back(m_info.unknown);
    }
}

void SpmTokenizer::putRules(Metadata& metadata) const {
    putEntry(metadata, "scores", m_scores, GgufType::Array, GgufType::Float32);
    putEntry(metadata, "add_space_prefix", m_prefix != SpacePrefix::None, GgufType::Boolean);
}

} // namespace nibble
