#include "core/template/template.h"

#include "core/template/interpreter.h"

namespace nibble {

Template::Template(std::string_view source, std::string name)
    : m_tree(std::make_unique<const jinja::Tree>(jinja::parse(source, name))) {}

Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

std::string Template::render(const OrderedJson& variables,
                             const jinja::RenderOptions& options) const {
    return jinja::Interpreter(*m_tree, options).run(variables);
}

} // namespace nibble
