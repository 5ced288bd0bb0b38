#pragma once

#include <QString>

#include <vector>

namespace nibble {

/// One prompt or answer. Where it was asked or written in several ways, `others` keeps each other
/// way together with all that followed it; nothing that was written is lost by asking again.
struct ChatTurn {
    QString role; ///< "user" or "assistant"
    QString text;
    // Of an answer:
    QString variant, device;
    int tokens = 0;
    double tokensPerSecond = 0, firstTokenMs = 0;
    qulonglong seed = 0;
    QString ending; ///< a sentence when it did not end by itself ("Stopped")
    bool finished = true;

    std::vector<std::vector<ChatTurn>> others;
    int place = 0; ///< of this one among all, as "‹ 2/3 ›" counts them from 1

    bool isPrompt() const { return role == QLatin1String("user"); }
    int ways() const { return int(others.size()) + 1; }
};

/// Sets what follows from turn `at` on aside as another way, and puts `fresh` in its place.
void addWay(std::vector<ChatTurn>& turns, size_t at, ChatTurn fresh);
/// Shows way `place` of turn `at` with all that followed it.
void showWay(std::vector<ChatTurn>& turns, size_t at, int place);

} // namespace nibble
