#include "core/template/chat_template.h"

/// Templates for models that come without one. All take a system message and any order of turns:
/// a model's own template may be stricter, these are for those that say nothing.
namespace nibble {
namespace {

constexpr const char* kChatml = R"(
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
)";

constexpr const char* kLlama3 = R"(
{{- bos_token -}}
{%- for message in messages -%}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' -}}
    {{- message.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%}
)";

// Every question starts a text of its own.
constexpr const char* kLlama2 = R"(
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- set ns.system = '<<SYS>>\n' + message.content + '\n<</SYS>>\n\n' -%}
    {%- elif message.role == 'assistant' -%}
        {{- ' ' + message.content | trim + ' ' ~ eos_token -}}
    {%- else -%}
        {{- bos_token ~ '[INST] ' + (ns.system + message.content) | trim + ' [/INST]' -}}
        {%- set ns.system = '' -%}
    {%- endif -%}
{%- endfor -%}
)";

constexpr const char* kMistral = R"(
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- set ns.system = message.content + '\n\n' -%}
    {%- elif message.role == 'assistant' -%}
        {{- message.content ~ eos_token -}}
    {%- else -%}
        {{- '[INST]' -}}
        {%- if loop.last -%}
            {{- ns.system -}}
        {%- endif -%}
        {{- message.content + '[/INST]' -}}
    {%- endif -%}
{%- endfor -%}
)";

constexpr const char* kMistralV1 = R"(
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- set ns.system = message.content + '\n\n' -%}
    {%- elif message.role == 'assistant' -%}
        {{- ' ' + message.content ~ eos_token -}}
    {%- else -%}
        {{- '[INST] ' + ns.system + message.content + ' [/INST]' -}}
        {%- set ns.system = '' -%}
    {%- endif -%}
{%- endfor -%}
)";

constexpr const char* kGemma = R"(
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- set ns.system = message.content + '\n\n' -%}
    {%- else -%}
        {%- set role = 'model' if message.role == 'assistant' else message.role -%}
        {{- '<start_of_turn>' + role + '\n' -}}
        {%- if role != 'model' -%}
            {{- ns.system -}}
            {%- set ns.system = '' -%}
        {%- endif -%}
        {{- message.content | trim + '<end_of_turn>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<start_of_turn>model\n' -}}
{%- endif -%}
)";

constexpr const char* kPhi3 = R"(
{%- for message in messages -%}
    {{- '<|' + message.role + '|>\n' + message.content + '<|end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>\n' -}}
{%- endif -%}
)";

constexpr const char* kZephyr = R"(
{%- for message in messages -%}
    {{- '<|' + message.role + '|>\n' + message.content ~ eos_token ~ '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>\n' -}}
{%- endif -%}
)";

constexpr const char* kAlpaca = R"(
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {{- message.content + '\n\n' -}}
    {%- elif message.role == 'assistant' -%}
        {{- '### Response:\n' + message.content + '\n\n' -}}
    {%- else -%}
        {{- '### Instruction:\n' + message.content + '\n\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '### Response:\n' -}}
{%- endif -%}
)";

// The text itself, which the model continues; every message but an answer starts a line.
constexpr const char* kPlain = R"(
{%- set ns = namespace(open=false) -%}
{%- for message in messages -%}
    {%- if ns.open and message.role != 'assistant' -%}
        {{- '\n' -}}
    {%- endif -%}
    {{- message.content -}}
    {%- set ns.open = message.content[-1:] != '\n' and (ns.open or message.content != '') -%}
{%- endfor -%}
)";

const std::vector<BuiltInTemplate>& rows() {
    // In this order a vocabulary is searched for their marks.
    static const std::vector<BuiltInTemplate> table = {
        {"chatml", "Qwen, Yi, Hermes and many others", {"<|im_start|>", "<|im_end|>"}, kChatml},
        {"llama-3", "Llama 3 and later", {"<|start_header_id|>", "<|eot_id|>"}, kLlama3},
        {"gemma", "Gemma 1 to 3", {"<start_of_turn>", "<end_of_turn>"}, kGemma},
        {"phi-3", "Phi-3 and 3.5", {"<|user|>", "<|assistant|>", "<|end|>"}, kPhi3},
        {"mistral", "Mistral with a tokenizer of version 3", {"[INST]", "[/INST]"}, kMistral},
        {"zephyr", "Zephyr, StableLM, TinyLlama", {"<|user|>", "<|assistant|>"}, kZephyr},
        {"llama-2", "Llama 2", {}, kLlama2},
        {"mistral-v1", "Mistral 7B 0.1 and 0.2, Mixtral", {}, kMistralV1},
        {"alpaca", "Alpaca and its relatives", {}, kAlpaca},
        {"plain", "no marks: the text is continued", {}, kPlain},
    };
    return table;
}

} // namespace

std::span<const BuiltInTemplate> builtInTemplates() {
    return rows();
}

const BuiltInTemplate* findBuiltInTemplate(std::string_view name) {
    for (const BuiltInTemplate& row : rows())
        if (name == row.name)
            return &row;
    return nullptr;
}

} // namespace nibble
