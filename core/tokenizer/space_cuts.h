#pragma once

#include <array>
#include <string>
#include <string_view>

namespace nibble {

/// Where a text can be cut before a run of spaces without changing what becomes of it: wherever no
/// token that merging can form has a space behind the byte that stands there. Words are then
/// short, and most of them known from before.
class SpaceCuts {
public:
    explicit SpaceCuts(std::string_view space) : m_space(space) {
        m_joined[static_cast<unsigned char>(m_space.back())] = true; // a run of spaces stays whole
    }

    /// Takes note of a token that merging can form.
    void add(std::string_view token) {
        for (size_t at = 0; (at = token.find(m_space, at)) != std::string_view::npos;
             at += m_space.size())
            if (at > 0)
                m_joined[static_cast<unsigned char>(token[at - 1])] = true;
    }

    /// Hands on the words of `text`, each with the spaces before it.
    template <typename Found>
    void forEachWord(std::string_view text, Found&& found) const {
        size_t begin = 0;
        for (size_t at = 0; (at = text.find(m_space, at)) != std::string_view::npos;
             at += m_space.size()) {
            if (at == begin || m_joined[static_cast<unsigned char>(text[at - 1])])
                continue;
            found(text.substr(begin, at - begin));
            begin = at;
        }
        if (begin < text.size())
            found(text.substr(begin));
    }

private:
    std::string m_space;
    std::array<bool, 256> m_joined{}; ///< bytes that a token has before a space
};

} // namespace nibble
