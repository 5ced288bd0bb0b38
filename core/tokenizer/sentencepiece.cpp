#include "core/tokenizer/sentencepiece.h"

#include "core/base/error.h"
#include "core/base/limits.h"

#include <bit>
#include <limits>
#include <string_view>

namespace nibble {
namespace {

/// One field after the other of a protocol buffers message.
class Fields {
public:
    Fields(std::string_view message, const std::string& source)
        : m_rest(message), m_source(source) {}

    uint64_t number = 0;    ///< of the field
    uint64_t value = 0;     ///< of a varint or a fixed-size field
    std::string_view bytes; ///< of a field with a length

    /// Reads the next field; false at the end.
    bool next() {
        if (m_rest.empty())
            return false;
        const uint64_t tag = varint();
        number = tag >> 3;
        m_wire = tag & 7;
        value = 0;
        bytes = {};
        switch (m_wire) {
        case 0:
            value = varint();
            break;
        case 1:
            value = fixed(8);
            break;
        case 2:
            bytes = take(varint());
            break;
        case 5:
            value = fixed(4);
            break;
        default: // groups were given up before SentencePiece was written
            damaged();
        }
        return true;
    }

    bool flag() const { return whole() != 0; }
    uint64_t whole() const { return m_wire == 0 ? value : damaged(); }
    /// Negative numbers are written as 64-bit ones.
    int32_t signedWhole() const {
        const auto whole64 = static_cast<int64_t>(whole());
        if (whole64 < std::numeric_limits<int32_t>::min() ||
            whole64 > std::numeric_limits<int32_t>::max())
            damaged();
        return static_cast<int32_t>(whole64);
    }
    float real() const {
        if (m_wire != 5)
            damaged();
        return std::bit_cast<float>(static_cast<uint32_t>(value));
    }
    std::string_view text() const {
        if (m_wire != 2)
            damaged();
        return bytes;
    }

private:
    [[noreturn]] uint64_t damaged() const {
        fail(ErrorKind::BadInput,
             "{}: it is not a SentencePiece model, or is cut off or damaged ({} bytes before its "
             "end). Download it again.",
             m_source, m_rest.size());
    }
    std::string_view take(uint64_t count) {
        if (count > m_rest.size())
            damaged();
        const std::string_view taken = m_rest.substr(0, count);
        m_rest.remove_prefix(count);
        return taken;
    }
    uint64_t fixed(size_t count) {
        uint64_t out = 0;
        const std::string_view raw = take(count);
        for (size_t i = 0; i < count; ++i)
            out |= uint64_t(static_cast<unsigned char>(raw[i])) << (8 * i);
        return out;
    }
    uint64_t varint() {
        uint64_t out = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            const auto byte = static_cast<unsigned char>(take(1)[0]);
            out |= uint64_t(byte & 0x7F) << shift;
            if (byte < 0x80)
                return out;
        }
        damaged();
    }

    std::string_view m_rest;
    const std::string& m_source;
    uint64_t m_wire = 0;
};

void readPiece(Fields piece, SentencePieceModel& model) {
    std::string text;
    float score = 0;
    int32_t type = 1;
    while (piece.next()) {
        if (piece.number == 1)
            text = piece.text();
        else if (piece.number == 2)
            score = piece.real();
        else if (piece.number == 3)
            type = piece.signedWhole();
    }
    model.texts.push_back(std::move(text));
    model.scores.push_back(score);
    model.types.push_back(type);
}

void readTrainer(Fields trainer, SentencePieceModel& model) {
    while (trainer.next()) {
        if (trainer.number == 3)
            model.kind = trainer.signedWhole();
        else if (trainer.number == 24)
            model.spaceBehindWords = trainer.flag();
        else if (trainer.number == 40)
            model.unknown = trainer.signedWhole();
        else if (trainer.number == 41)
            model.bos = trainer.signedWhole();
        else if (trainer.number == 42)
            model.eos = trainer.signedWhole();
    }
}

void readNormalizer(Fields normalizer, SentencePieceModel& model) {
    while (normalizer.next()) {
        if (normalizer.number == 2)
            model.characterMap = normalizer.text();
        else if (normalizer.number == 3)
            model.addSpacePrefix = normalizer.flag();
        else if (normalizer.number == 4)
            model.removeExtraSpaces = normalizer.flag();
        else if (normalizer.number == 5)
            model.escapeSpaces = normalizer.flag();
    }
}

} // namespace

SentencePieceModel readSentencePiece(std::span<const std::byte> file, const std::string& source) {
    SentencePieceModel model;
    Fields fields({reinterpret_cast<const char*>(file.data()), file.size()}, source);
    while (fields.next()) {
        if (fields.number == 1) {
            if (model.texts.size() == limits::kVocabulary)
                fail(ErrorKind::BadInput,
                     "{}: the vocabulary has more than {} tokens; no more are accepted.", source,
                     limits::kVocabulary);
            readPiece(Fields(fields.text(), source), model);
        } else if (fields.number == 2) {
            readTrainer(Fields(fields.text(), source), model);
        } else if (fields.number == 3) {
            readNormalizer(Fields(fields.text(), source), model);
        }
    }
    if (model.texts.empty())
        fail(ErrorKind::BadInput,
             "{}: there are no tokens in it; expected a SentencePiece model. Download it again.",
             source);
    return model;
}

} // namespace nibble
