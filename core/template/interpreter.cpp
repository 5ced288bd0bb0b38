#include "core/template/interpreter.h"

#include "core/base/limits.h"
#include "core/template/template_error.h"
#include "core/template/unicode.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

namespace nibble::jinja {

using Kind = Value::Kind;

Value* Scope::find(std::string_view name) {
    for (auto& [known, value] : names)
        if (known == name)
            return &value;
    return nullptr;
}

void Scope::set(std::string_view name, Value value) {
    if (Value* known = find(name))
        *known = std::move(value);
    else
        names.emplace_back(name, std::move(value));
}

namespace {

/// What this thread has computed so far: a busy machine takes nothing from a template.
double threadSeconds() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

} // namespace

Interpreter::Interpreter(const Tree& tree, const RenderOptions& options)
    : m_tree(tree), m_options(options), m_root(std::make_shared<Scope>()),
      m_start(threadSeconds()) {}

/// Macros refer to the variables around them, which hold the macros: both circles are cut here.
Interpreter::~Interpreter() {
    for (const ScopePtr& scope : m_kept)
        scope->names.clear();
    for (const auto& space : m_namespaces)
        space->names.clear();
    m_root->names.clear();
}

std::string Interpreter::run(const Json& variables) {
    addGlobals(*this, m_globals);
    // The variables lie outside the template's own, which may hide them.
    const auto context = std::make_shared<Scope>();
    if (variables.is_object())
        for (const auto& [name, value] : variables.items())
            context->names.emplace_back(name, fromJson(value));
    m_root->parent = context;
    for (const std::string& name : m_tree.hidden)
        m_root->set(name, undefinedName(name));
    std::string out;
    execute(m_tree.body, m_root, out);
    return out;
}

void Interpreter::fail(const std::string& message, bool refused) const {
    throw TemplateError(m_tree.name, m_line, message, refused);
}

void Interpreter::step(int64_t count) {
    m_steps += count;
    if (m_steps > limits::kTemplateSteps)
        fail(fmt::format("it does not come to an end within {} steps, which is the limit",
                         limits::kTemplateSteps));
    if (m_steps < m_nextLook)
        return;
    m_nextLook = m_steps + 4096;
    if (threadSeconds() - m_start > limits::kTemplateSeconds)
        fail(fmt::format("it does not come to an end within {} seconds, which is the limit",
                         limits::kTemplateSeconds));
}

void Interpreter::checkSize(uint64_t bytes) const {
    if (bytes > static_cast<uint64_t>(limits::kTemplateMemory - m_memory))
        fail(fmt::format("it needs more than {} MiB of memory, which is the limit",
                         limits::kTemplateMemory >> 20));
}

void Interpreter::checkDepth(int depth) const {
    if (depth > limits::kTemplateValueDepth)
        fail(fmt::format("a value holds more than {} values inside each other, which is the limit",
                         limits::kTemplateValueDepth));
}

void Interpreter::enter() {
    if (++m_depth > limits::kTemplateRunDepth) {
        --m_depth; // the Level that called is never made, so it does not leave either
        fail("it calls itself too deeply (maximum recursion depth exceeded)");
    }
}

Value Interpreter::text(std::string text) {
    checkSize(text.size());
    step(1 + static_cast<int64_t>(text.size() / 1024));
    auto object = std::make_shared<Text>(m_memory, text.capacity() + sizeof(Text));
    object->text = std::move(text);
    return {Kind::String, std::move(object)};
}

Value Interpreter::list(std::vector<Value> items, Kind kind) {
    checkSize(items.size() * sizeof(Value));
    auto object = std::make_shared<Items>(m_memory, items.size() * sizeof(Value) + sizeof(Items));
    step(1 + static_cast<int64_t>(items.size() / 64));
    for (const Value& item : items)
        object->depth = std::max(object->depth, item.depth() + 1);
    checkDepth(object->depth);
    object->items = std::move(items);
    return {kind, std::move(object)};
}

Value Interpreter::view(std::vector<Value> items, const char* typeName) {
    Value out = list(std::move(items), Kind::View);
    out.as<Items>().typeName = typeName;
    return out;
}

std::shared_ptr<Dict> Interpreter::newDict(size_t entries) {
    const size_t bytes = sizeof(Dict) + entries * (2 * sizeof(Value) + 48);
    checkSize(bytes);
    step(1 + static_cast<int64_t>(entries / 16));
    return std::make_shared<Dict>(m_memory, bytes);
}

Value Interpreter::dict(std::shared_ptr<Dict> dict) const {
    checkDepth(dict->depth);
    return {Kind::Dict, std::move(dict)};
}

Value Interpreter::undefined(std::string message) const {
    auto reason = std::make_shared<UndefinedReason>();
    reason->message = std::move(message);
    return {Kind::Undefined, std::move(reason)};
}

Value Interpreter::undefinedName(std::string_view name) const {
    return undefined(reprOf(name) + " is undefined");
}

void Interpreter::require(const Value& value) const {
    if (value.isUndefined())
        fail(value.object() ? value.as<UndefinedReason>().message : "a value is undefined");
}

Value Interpreter::generator(const Value& source, std::function<std::optional<Value>()> next) {
    checkSize(sizeof(Generator) + 128);
    auto object = std::make_shared<Generator>(m_memory, sizeof(Generator) + 128);
    object->depth = source.depth() + 1;
    checkDepth(object->depth);
    object->next = std::move(next);
    return {Kind::Generator, std::move(object)};
}

Value Interpreter::generator(std::vector<Value> items) {
    const Value all = list(std::move(items));
    return generator(all, [all, at = size_t{0}]() mutable -> std::optional<Value> {
        return at < all.items().size() ? std::optional(all.items()[at++]) : std::nullopt;
    });
}

Value Interpreter::deferred(const Value& source, std::function<std::vector<Value>()> make) {
    return generator(source,
                     [this, make = std::move(make), all = std::optional<Value>(),
                      at = size_t{0}]() mutable -> std::optional<Value> {
                         if (!all)
                             all = list(make());
                         return at < all->items().size() ? std::optional(all->items()[at++])
                                                         : std::nullopt;
                     });
}

Value Interpreter::function(std::string name,
                            std::function<Value(Interpreter&, const Arguments&)> call,
                            const char* typeName) {
    checkSize(sizeof(Callable) + 128);
    auto object = std::make_shared<Callable>(m_memory, sizeof(Callable) + 128);
    object->name = std::move(name);
    object->typeName = typeName;
    object->call = std::move(call);
    return {Kind::Callable, std::move(object)};
}

std::shared_ptr<Namespace> Interpreter::newNamespace() {
    checkSize(sizeof(Namespace) + 128);
    m_namespaces.push_back(std::make_shared<Namespace>(m_memory, sizeof(Namespace) + 128));
    return m_namespaces.back();
}

Value Interpreter::fromJson(const Json& json) {
    const Level level(*this);
    step();
    switch (json.type()) {
    case Json::value_t::boolean:
        return Value::boolean(json.get<bool>());
    case Json::value_t::number_integer:
        return Value::integer(json.get<int64_t>());
    case Json::value_t::number_unsigned:
        if (json.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX))
            return Value::integer(json.get<int64_t>());
        [[fallthrough]];
    case Json::value_t::number_float:
        return Value::real(json.get<double>());
    case Json::value_t::string:
        if (const auto& text = json.get_ref<const std::string&>(); isValidUtf8(text))
            return this->text(text);
        fail("a text of the conversation is not UTF-8");
    case Json::value_t::array: {
        std::vector<Value> items;
        for (const Json& item : json)
            items.push_back(fromJson(item));
        return list(std::move(items));
    }
    case Json::value_t::object: {
        auto dict = newDict(json.size());
        for (const auto& [key, value] : json.items())
            dict->set(text(key), fromJson(value));
        return this->dict(std::move(dict));
    }
    default:
        return Value::none();
    }
}

Iteration::Iteration(Interpreter& in, const Value& value) : m_in(in), m_value(value) {
    if (!in.isIterable(value))
        in.fail("'" + typeName(value) + "' object is not iterable");
}

std::optional<Value> Iteration::next() {
    m_in.step();
    switch (m_value.kind()) {
    case Kind::String: {
        const std::string& text = m_value.text();
        if (m_at >= text.size())
            return {};
        const size_t start = m_at;
        m_at = std::min(m_at + characterBytes(text[m_at]), text.size());
        return Value::string(text.substr(start, m_at - start));
    }
    case Kind::List:
    case Kind::Tuple:
    case Kind::View:
        return m_at < m_value.items().size() ? std::optional(m_value.items()[m_at++])
                                             : std::nullopt;
    case Kind::Dict: {
        const auto& items = m_value.as<Dict>().items;
        return m_at < items.size() ? std::optional(items[m_at++].first) : std::nullopt;
    }
    case Kind::Range: {
        const auto& range = m_value.as<RangeObject>();
        if (static_cast<int64_t>(m_at) >= range.size())
            return {};
        return Value::integer(range.start + static_cast<int64_t>(m_at++) * range.step);
    }
    case Kind::Generator: {
        const Interpreter::Level level(m_in);
        return m_value.as<Generator>().next();
    }
    default:
        return {};
    }
}

bool Interpreter::isIterable(const Value& value) const {
    switch (value.kind()) {
    case Kind::Undefined: // reads as nothing, unless it stands for what may not be touched
    case Kind::String:
    case Kind::List:
    case Kind::Tuple:
    case Kind::View:
    case Kind::Dict:
    case Kind::Range:
    case Kind::Generator:
        return true;
    default:
        return false;
    }
}

std::vector<Value> Interpreter::toList(const Value& value) {
    Iteration iteration(*this, value);
    std::vector<Value> out;
    while (auto item = iteration.next()) {
        if (out.size() == out.capacity())
            checkSize(2 * out.size() * sizeof(Value));
        out.push_back(std::move(*item));
    }
    return out;
}

int64_t Interpreter::length(const Value& value) {
    switch (value.kind()) {
    case Kind::Undefined:
        return 0;
    case Kind::String:
        step(static_cast<int64_t>(value.text().size() / 1024));
        return countCharacters(value.text());
    case Kind::List:
    case Kind::Tuple:
    case Kind::View:
        return static_cast<int64_t>(value.items().size());
    case Kind::Dict:
        return static_cast<int64_t>(value.as<Dict>().items.size());
    case Kind::Range:
        return value.as<RangeObject>().size();
    default:
        fail("object of type '" + typeName(value) + "' has no len()");
    }
}

} // namespace nibble::jinja
