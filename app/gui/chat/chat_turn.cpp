#include "app/gui/chat/chat_turn.h"

#include <algorithm>
#include <iterator>

namespace nibble {

namespace {

/// Takes the turns from `at` on out, and with them all ways of the first, in their order.
std::vector<std::vector<ChatTurn>> takeWays(std::vector<ChatTurn>& turns, size_t at) {
    std::vector<ChatTurn> shown(std::make_move_iterator(turns.begin() + long(at)),
                                std::make_move_iterator(turns.end()));
    turns.resize(at);
    auto ways = std::move(shown.front().others);
    shown.front().others.clear();
    const auto place = std::clamp<long>(shown.front().place, 0, long(ways.size()));
    ways.insert(ways.begin() + place, std::move(shown));
    return ways;
}

} // namespace

void addWay(std::vector<ChatTurn>& turns, size_t at, ChatTurn fresh) {
    if (at >= turns.size()) {
        turns.push_back(std::move(fresh));
        return;
    }
    fresh.others = takeWays(turns, at);
    fresh.place = int(fresh.others.size());
    turns.push_back(std::move(fresh));
}

void showWay(std::vector<ChatTurn>& turns, size_t at, int place) {
    if (at >= turns.size() || place < 0 || place >= turns[at].ways())
        return;
    auto ways = takeWays(turns, at);
    std::vector<ChatTurn> shown = std::move(ways[size_t(place)]);
    ways.erase(ways.begin() + place);
    shown.front().others = std::move(ways);
    shown.front().place = place;
    turns.insert(turns.end(), std::make_move_iterator(shown.begin()),
                 std::make_move_iterator(shown.end()));
}

} // namespace nibble
