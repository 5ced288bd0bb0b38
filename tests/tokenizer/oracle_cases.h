#pragma once

#include "core/files/checkpoint.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/support/shared_data.h"

#include <nlohmann/json.hpp>

#include <QElapsedTimer>
#include <QtTest>

#include <fstream>
#include <sstream>

namespace nibble::test {

/// A text and the ids that another engine gives it.
struct OracleCase {
    std::string text;
    std::vector<TokenId> ids;
};

inline std::string readWhole(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

/// BASE.inp (cases between marker lines) with BASE.out (a line of ids for each).
inline std::vector<OracleCase> readOracle(const char* base) {
    const std::string marker = "\n__ggml_vocab_test__\n";
    const std::string texts = readWhole(sharedPath(base).string() + ".inp");
    std::ifstream ids(sharedPath(base).string() + ".out");
    std::vector<OracleCase> cases;
    for (size_t at = 0; at <= texts.size();) {
        const size_t end = std::min(texts.find(marker, at), texts.size());
        OracleCase& next = cases.emplace_back();
        next.text = texts.substr(at, end - at);
        std::string line;
        if (!std::getline(ids, line))
            break;
        std::stringstream numbers(line);
        for (TokenId id; numbers >> id;)
            next.ids.push_back(id);
        at = end + marker.size();
    }
    return cases;
}

inline QString describeIds(const std::vector<TokenId>& ids) {
    QString text;
    for (const TokenId id : ids)
        text += QString::number(id) + ' ';
    return text;
}

/// Compares every case, and that decoding gives the text back.
inline void compareOracle(const Tokenizer& tokenizer, const char* base) {
    const auto cases = readOracle(base);
    QVERIFY(cases.size() > 40);
    for (const OracleCase& oracle : cases) {
        const auto ids = tokenizer.encode(oracle.text, false);
        QVERIFY2(ids == oracle.ids,
                 qPrintable(QString::fromStdString(oracle.text) + "\n found " + describeIds(ids) +
                            "\n expected " + describeIds(oracle.ids)));
        QCOMPARE(QByteArray::fromStdString(tokenizer.decode(ids)),
                 QByteArray::fromStdString(oracle.text));
    }
}

inline std::shared_ptr<const Tokenizer> openShared(const char* path) {
    return openTokenizer(*openCheckpoint(sharedPath(path)));
}

/// Llama 3's vocabulary from its encoder.json and vocab.bpe.
inline std::shared_ptr<const Tokenizer> openRanked(const char* vocabulary, const char* mergesFile,
                                                   const char* preTokenizer) {
    const auto json = nlohmann::json::parse(readWhole(sharedPath(vocabulary)));
    std::vector<std::string> tokens(json.size());
    for (const auto& [text, id] : json.items())
        tokens.at(id.get<size_t>()) = text;
    std::vector<std::string> merges;
    std::ifstream in(sharedPath(mergesFile));
    for (std::string line; std::getline(in, line);)
        if (!line.empty() && !line.starts_with("#version"))
            merges.push_back(line);
    return makeBpeTokenizer(std::move(tokens), {}, std::move(merges), preTokenizer, {});
}

/// Text of many scripts, with numbers, punctuation, runs of space and line breaks.
inline std::string mixedText(size_t bytes) {
    const std::string part = "The quick brown fox (3.14159) jumps over 12,345 lazy dogs — isn't "
                             "it?\n\n\tfor (int i = 0; i < n; ++i) "
                             "{ sum += a[i]; }  // 加法\nОднажды в студёную зимнюю пору… Ελληνικά, "
                             "العربية, हिन्दी 🚀🦙   ñandú\r\n";
    std::string text;
    while (text.size() < bytes)
        text += part;
    return text;
}

/// Reports how long a megabyte takes; a figure to read, not a limit.
inline void reportSpeed(const Tokenizer& tokenizer, const char* name) {
    const std::string text = mixedText(1'000'000);
    QElapsedTimer timer;
    timer.start();
    const auto ids = tokenizer.encode(text, true);
    qInfo("%s: 1 MB of mixed text to %zu tokens in %lld ms", name, ids.size(), timer.elapsed());
    QCOMPARE(tokenizer.decode(ids).size(), text.size());
}

} // namespace nibble::test
