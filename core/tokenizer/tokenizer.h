#pragma once

#include "core/files/checkpoint.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

using TokenId = int32_t;

/// Text to token ids and back, by the model's own data. Immutable; safe from several threads.
class Tokenizer {
public:
    virtual ~Tokenizer() = default;

    /// Ids of `text`, without BOS. With `parseSpecial` control tokens written in the text
    /// ("<|im_start|>") become their ids; without, they are ordinary text.
    virtual std::vector<TokenId> encode(std::string_view text, bool parseSpecial) const = 0;

    /// The bytes of one token as decoding emits them (control tokens: empty unless `special`; ids
    /// that are no tokens, as padded output layers can produce: empty).
    virtual std::string piece(TokenId token, bool special = false) const = 0;

    /// Text of a sequence; the inverse of encode where the vocabulary allows (a leading space
    /// that SPM adds is removed).
    virtual std::string decode(std::span<const TokenId> tokens, bool special = false) const = 0;

    /// What the vocabulary is made of.
    struct Info {
        std::string model; ///< "llama" (SPM), "gpt2" (byte-level BPE) or "gemma4" (BPE on text)
        std::string preTokenizer; ///< name of the split rules, "" for SPM
        /// Sentences on what was unknown, so that text may become other tokens than those that the
        /// model was trained with and its answers may be worse. To be shown wherever it is used.
        std::vector<std::string> warnings;
        int32_t size = 0;
        TokenId bos = -1, eos = -1, eot = -1, unknown = -1;
        bool addBos = false;
        std::vector<TokenId> stops; ///< every token that ends an answer (eos, eot, eom…)
    };
    const Info& info() const { return m_info; }

    /// Writes the vocabulary as tokenizer.ggml.* entries of a GGUF file, for engines that read one.
    /// Merges on characters become SPM scores in the order of their ranks.
    virtual void putInto(Metadata& metadata) const = 0;

protected:
    Info m_info;
};

/// The tokenizer of a checkpoint: GGUF metadata, or a file beside config.json. Returns null when
/// the checkpoint has none. Error{BadInput} when its data is damaged.
std::shared_ptr<const Tokenizer> openTokenizer(const Checkpoint& checkpoint);
/// From one of the files that findTokenizerFile knows, alone, with what its folder says of it.
std::shared_ptr<const Tokenizer> openTokenizerFile(const std::filesystem::path& file);
/// From a tokenizer.json: BPE on bytes or on characters. Other kinds: Error{BadInput}.
std::shared_ptr<const Tokenizer> openTokenizerJson(const std::filesystem::path& file);
/// From a SentencePiece model (tokenizer.model): BPE by scores. Other kinds: Error{BadInput}.
std::shared_ptr<const Tokenizer> openSentencePiece(const std::filesystem::path& file);
/// From a vocabulary (vocab.json, encoder.json) with its merges beside it (merges.txt, vocab.bpe).
/// How text is split is known by the class that tokenizer_config.json names, or else guessed from
/// the vocabulary, with a warning.
std::shared_ptr<const Tokenizer> openVocabularyJson(const std::filesystem::path& file);
/// From ranked vocabulary and merges with a named pre-tokenizer ("llama-bpe", "qwen2", "gpt-2").
std::shared_ptr<const Tokenizer> makeBpeTokenizer(std::vector<std::string> tokens,
                                                  std::vector<int32_t> tokenTypes,
                                                  std::vector<std::string> merges,
                                                  std::string preTokenizer, Tokenizer::Info info);

/// Turns a stream of tokens into valid UTF-8: bytes of an unfinished character are kept back.
class TokenStream {
public:
    /// `previous`: the token that the stream continues (the prompt's last), so that a space between
    /// them is kept; −1 where it starts a text of its own.
    explicit TokenStream(std::shared_ptr<const Tokenizer> tokenizer, TokenId previous = -1);
    /// Text that is complete after this token; may be empty.
    std::string push(TokenId token);
    /// What is left at the end, invalid bytes replaced by U+FFFD.
    std::string finish();

private:
    std::shared_ptr<const Tokenizer> m_tokenizer;
    std::string m_pending;
    TokenId m_previous;
};

} // namespace nibble
