#pragma once

#include <chrono>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace nibble {

/// JSON whose objects keep the order they were written in: templates write them out again.
using OrderedJson = nlohmann::ordered_json;

namespace jinja {
struct Tree;
using Json = OrderedJson;

struct RenderOptions {
    /// What strftime_now() takes for today; unset = the present moment.
    std::optional<std::chrono::year_month_day> date;
};
} // namespace jinja

/// A Jinja template as chat models carry it, read once and rendered often, from any thread: the
/// language of Jinja2 3.1 as transformers sets it up (trim_blocks, lstrip_blocks, loop controls,
/// generation blocks, its own tojson, sandboxed and immutable). No input or output; bounded in
/// time and memory by limits.h.
class Template {
public:
    /// `name` is what errors call it. Error{BadInput} (TemplateError) for what is not a template.
    Template(std::string_view source, std::string name);
    ~Template();
    Template(Template&&) noexcept;
    Template& operator=(Template&&) noexcept;

    /// The text that it makes of these variables (an object). Error{BadInput} (TemplateError) when
    /// it fails or refuses, or asks for more than the limits allow.
    std::string render(const OrderedJson& variables,
                       const jinja::RenderOptions& options = {}) const;

private:
    std::unique_ptr<const jinja::Tree> m_tree;
};

} // namespace nibble
