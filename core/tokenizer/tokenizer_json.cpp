#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/files/json_text.h"
#include "core/tokenizer/json_pipeline.h"
#include "core/tokenizer/token_table.h"

#include <algorithm>

namespace nibble {
namespace {

using Json = nlohmann::json;

TokenTable readVocabulary(const Json& document, const Json& model, const std::string& source) {
    const Json* vocab = findMember(model, "vocab");
    if (!vocab || !vocab->is_object() || vocab->empty())
        fail(ErrorKind::BadInput, "{}: model.vocab is not a table of tokens; the file is damaged.",
             source);
    const Json* added = findMember(document, "added_tokens");
    if (added && !added->is_array())
        fail(ErrorKind::BadInput, "{}: added_tokens is not an array; the file is damaged.", source);
    const bool bytes = flagOr(model, "byte_fallback", false, source);
    TokenTable out{source, vocab->size() + (added ? added->size() : 0)};
    for (const auto& [text, id] : vocab->items())
        out.put(out.idOf(id, text), text,
                bytes && byteTokenValue(text) >= 0 ? TokenType::Byte : TokenType::Normal);
    if (!added)
        return out;
    for (const Json& token : *added) {
        if (!token.is_object() || !findMember(token, "id"))
            fail(ErrorKind::BadInput, "{}: an added token has no id; the file is damaged.", source);
        out.putAdded(out.idOf(token["id"], textOr(token, "content", "", source)), token);
    }
    return out;
}

BpeTokenizer::Merges readMerges(const Json& model, const std::string& source) {
    const Json* list = findMember(model, "merges");
    if (!list || !list->is_array())
        fail(ErrorKind::BadInput, "{}: model.merges is not an array; the file is damaged.", source);
    BpeTokenizer::Merges merges;
    merges.reserve(list->size());
    for (const Json& merge : *list) {
        const bool pair =
            merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
        if (pair)
            merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
        else if (merge.is_string())
            merges.push_back(parseMerges({merge.get_ptr<const std::string*>(), 1}, source).front());
        else
            fail(ErrorKind::BadInput, "{}: merge {} is neither a text nor a pair of texts.", source,
                 merges.size());
        if (merges.back().first.empty() || merges.back().second.empty())
            fail(ErrorKind::BadInput, "{}: merge {} has an empty side; the file is damaged.",
                 source, merges.size() - 1);
    }
    return merges;
}

// The token that the post-processor puts first, or −1.
TokenId firstByTemplate(const Json& processor, const Vocabulary& vocabulary) {
    if (!processor.is_object())
        return -1;
    const Json* inner = findMember(processor, "processors");
    if (inner && inner->is_array()) {
        for (const Json& part : *inner)
            if (const TokenId id = firstByTemplate(part, vocabulary); id >= 0)
                return id;
        return -1;
    }
    // BERT's and RoBERTa's: ["<s>", 0].
    if (const Json* first = findMember(processor, "cls");
        first && first->is_array() && !first->empty() && first->front().is_string())
        return vocabulary.find(first->front().get_ref<const std::string&>());
    const Json* single = findMember(processor, "single");
    if (!single || !single->is_array() || single->empty() || !single->front().is_object())
        return -1;
    const Json* special = findMember(single->front(), "SpecialToken");
    const Json* name = special && special->is_object() ? findMember(*special, "id") : nullptr;
    return name && name->is_string() ? vocabulary.find(name->get_ref<const std::string&>()) : -1;
}

void readSpecials(const std::filesystem::path& file, const Json& document, const Json& model,
                  const Vocabulary& vocabulary, Tokenizer::Info& info) {
    const FolderNotes notes(file.parent_path());
    notes.readSpecials(vocabulary, info);
    if (const std::string name = textOr(model, "unk_token", "", vocabulary.source()); !name.empty())
        if (info.unknown = vocabulary.find(name); info.unknown < 0)
            info.warnings.push_back(
                fmt::format("The unk_token \"{}\" is not in the vocabulary.", printable(name)));

    const Json* processor = findMember(document, "post_processor");
    const TokenId first = processor ? firstByTemplate(*processor, vocabulary) : -1;
    if (info.bos < 0)
        info.bos = first;
    const bool llamaClass = notes.tokenizerClass().starts_with("Llama");
    info.addBos = notes.addBosOr(first >= 0 || (llamaClass && !processor)) && info.bos >= 0;
}

} // namespace

std::shared_ptr<const Tokenizer> openTokenizerJson(const std::filesystem::path& file) {
    const std::string source = printable(file.filename().string());
    const Json document = readJson(file.string(), limits::kJsonDepth);
    const Json* model = document.is_object() ? findMember(document, "model") : nullptr;
    if (!model || !model->is_object())
        fail(ErrorKind::BadInput,
             "{}: there is no \"model\"; expected a Hugging Face tokenizer.json.", source);
    const std::string type = textOr(*model, "type", "BPE", source);
    if (type != "BPE")
        fail(ErrorKind::BadInput,
             "{}: the model type is \"{}\"; only BPE is supported. Unigram and WordPiece belong to "
             "models of other kinds (T5, BERT).",
             source, printable(type));
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (!textOr(*model, key, "", source).empty())
            fail(ErrorKind::BadInput, "{}: model.{} is set, which is not supported.", source, key);

    TokenTable tokens = readVocabulary(document, *model, source);
    const auto merges = readMerges(*model, source);
    JsonPipeline pipeline =
        readJsonPipeline(document, flagOr(*model, "ignore_merges", false, source), source);
    pipeline.options.fuseUnknown = flagOr(*model, "fuse_unk", false, source);
    Vocabulary vocabulary(std::move(tokens.texts), tokens.types, source);
    for (const auto& [id, matching] : tokens.matchings)
        if (!model->at("vocab").contains(vocabulary.text(id)))
            vocabulary.setAdded(id);

    Tokenizer::Info info;
    info.model = pipeline.options.byteLevel ? "gpt2" : "llama";
    info.preTokenizer = pipeline.preTokenizer;
    info.warnings = pipeline.warnings;
    readSpecials(file, document, *model, vocabulary, info);
    return std::make_shared<BpeTokenizer>(std::move(vocabulary), merges,
                                          std::move(pipeline.options), std::move(info),
                                          tokens.matchings);
}

} // namespace nibble
