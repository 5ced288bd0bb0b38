#include "core/runtime/session.h"

#include <utility>

namespace nibble {

Session::Pages::Pages(int32_t count, bool holdsStates)
    : owners(static_cast<size_t>(count)), holdStates(holdsStates) {
    free.reserve(owners.size());
    for (int32_t page = count; page-- > 0;)
        free.push_back(page);
}

int32_t Session::Pages::take() {
    const int32_t page = free.back();
    free.pop_back();
    owners[static_cast<size_t>(page)] = 1;
    return page;
}

void Session::Pages::release(int32_t page) {
    if (--owners[static_cast<size_t>(page)] == 0)
        free.push_back(page);
}

Session::Session(Session&& other) noexcept
    : m_pool(std::move(other.m_pool)), m_pages(std::exchange(other.m_pages, {})),
      m_length(std::exchange(other.m_length, 0)) {}

Session& Session::operator=(Session&& other) noexcept {
    if (this != &other) {
        truncate(0);
        m_pool = std::move(other.m_pool);
        m_pages = std::exchange(other.m_pages, {});
        m_length = std::exchange(other.m_length, 0);
    }
    return *this;
}

Session::~Session() {
    truncate(0);
}

Session Session::fork() const {
    Session copy;
    copy.m_pool = m_pool;
    copy.m_pages = m_pages;
    copy.m_length = m_length;
    for (const int32_t page : m_pages)
        m_pool->share(page);
    return copy;
}

void Session::truncate(int32_t length) {
    if (length < 0 || length > m_length)
        return;
    if (length < m_length)
        m_length = m_pool->rewound(length);
    const auto needed = static_cast<size_t>((m_length + kPageTokens - 1) / kPageTokens);
    while (m_pages.size() > needed) {
        m_pool->release(m_pages.back());
        m_pages.pop_back();
    }
}

} // namespace nibble
