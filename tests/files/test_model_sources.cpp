#include "core/base/error.h"
#include "core/files/checkpoint.h"
#include "core/files/file_kind.h"
#include "core/files/model_sources.h"
#include "tests/files/gguf_bytes.h"

#include <QTemporaryDir>
#include <QTest>
#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <unistd.h>

using namespace nibble;
using nibble::test::GgufBytes;
namespace fs = std::filesystem;

namespace {

const std::string kGguf = GgufBytes(0, 0).bytes();
const std::string kDigest(64, 'a'), kOther(64, 'b');

std::string manifest(const std::string& digest) {
    return "{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"application/"
           "vnd.ollama.image.license\","
           "\"digest\":\"sha256:0\"},{\"mediaType\":\"application/vnd.ollama.image.model\","
           "\"digest\":\"" +
           digest + "\",\"size\":24}]}";
}

} // namespace

/// Trees of folders as other programs make them, each in a home of its own.
class TestModelSources : public QObject {
    Q_OBJECT
    std::unique_ptr<QTemporaryDir> m_root;
    std::map<std::string, std::string> m_variables;

    fs::path root() const { return m_root->path().toStdString(); }
    fs::path home() const { return root() / "home"; }
    static void write(const fs::path& path, const std::string& bytes = kGguf) {
        fs::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary) << bytes;
    }
    UserPlaces user() {
        UserPlaces user;
        user.home = home();
        user.root = root();
        user.variable = [this](const char* name) -> std::optional<std::string> {
            const auto at = m_variables.find(name);
            return at == m_variables.end() ? std::nullopt : std::optional(at->second);
        };
        return user;
    }
    /// "source: name" of everything that was found.
    QStringList found(const SearchLimits& limits = {}) {
        QStringList lines;
        for (const FoundFile& model : findModels(user(), limits).models)
            lines << QString::fromStdString(model.source + ": " + model.name);
        return lines;
    }
    /// Every path and its size and time below the root.
    std::map<std::string, std::pair<uint64_t, fs::file_time_type>> everything() const {
        std::map<std::string, std::pair<uint64_t, fs::file_time_type>> all;
        for (const auto& entry : fs::recursive_directory_iterator(root()))
            all[entry.path().string()] = {entry.is_regular_file() ? entry.file_size() : 0,
                                          entry.is_symlink() ? fs::file_time_type{}
                                                             : entry.last_write_time()};
        return all;
    }

private slots:
    void init() {
        m_root = std::make_unique<QTemporaryDir>();
        m_variables.clear();
        fs::create_directories(home());
    }
    void cleanup() { fs::remove_all(root()); }

    void lmStudio() {
        write(home() / ".lmstudio/models/person/Model-GGUF/Model-Q4_K_M.gguf");
        write(home() / ".lmstudio/models/person/Model-GGUF/mmproj-Model-f16.gguf");
        write(home() / ".cache/lm-studio/models/a/b/Old.GGUF");
        write(home() / ".lmstudio/settings.json",
              "{\"downloadsFolder\":\"" + (root() / "elsewhere").string() + "\"}");
        write(root() / "elsewhere/person/repo/Chosen.gguf");
        write(home() / ".lmstudio/models/person/Model-GGUF/downloading_X.gguf");
        QCOMPARE(found(), QStringList({"LM Studio: Chosen", "LM Studio: Model-Q4_K_M",
                                       "LM Studio: mmproj-Model-f16", "LM Studio: Old"}));
        const auto models = findModels(user()).models;
        QVERIFY(models[2].kind == FoundFile::Kind::Projector);
        QVERIFY(models[1].kind == FoundFile::Kind::Model);
        QCOMPARE(models[1].bytes, kGguf.size());
        write(home() / ".lmstudio/settings.json", "not JSON");
        QCOMPARE(found().size(), 3);
        // Its home was moved.
        write(home() / ".lmstudio-home-pointer", (root() / "moved").string() + "\n");
        write(root() / "moved/models/p/r/Moved.gguf");
        QCOMPARE(found().first(), QString("LM Studio: Moved"));
    }

    void ollama() {
        const fs::path models = home() / ".ollama/models", tags = models / "manifests";
        write(models / "blobs" / ("sha256-" + kDigest));
        write(tags / "registry.ollama.ai/library/llama3.2/3b", manifest("sha256:" + kDigest));
        write(tags / "registry.ollama.ai/library/llama3.2/latest", manifest("sha256:" + kDigest));
        write(tags / "registry.ollama.ai/person/tuned/v1", manifest("sha256:" + kOther));
        write(tags / "hf.co/org/Model-GGUF/Q8_0", manifest("sha256:../../../etc/passwd"));
        write(tags / "registry.ollama.ai/library/cut/1b", "{\"layers\":");
        write(tags / "registry.ollama.ai/library/odd/1b", "{\"layers\":3}");
        write(tags / "registry.ollama.ai/library/empty/1b", "{\"layers\":[{}]}");
        std::map<std::string, FoundFile> byName;
        for (const FoundFile& model : findModels(user()).models)
            byName[model.name] = model;
        QCOMPARE(byName.size(), size_t(6));
        const FoundFile& whole = byName.at("llama3.2:3b, llama3.2:latest");
        QCOMPARE(whole.path, models / "blobs" / ("sha256-" + kDigest));
        QCOMPARE(whole.bytes, kGguf.size());
        QVERIFY(whole.problem.empty());
        QCOMPARE(openCheckpoint(whole.path)->fileBytes, kGguf.size());
        const auto says = [&](const char* name, const char* words) {
            const std::string& problem = byName.at(name).problem;
            QVERIFY2(problem.find(words) != std::string::npos, problem.c_str());
            QVERIFY(byName.at(name).path.string().find("manifests") != std::string::npos);
        };
        says("person/tuned:v1", "which is not there. Pull the model again");
        says("hf.co/org/Model-GGUF:Q8_0", "64 digits are expected");
        says("cut:1b", "not valid JSON");
        says("odd:1b", "no list \"layers\"");
        says("empty:1b", "names no model file");
    }

    void ollamaOfTheSystemAndElsewhere() {
        const auto put = [](const fs::path& models, const std::string& name,
                            const std::string& digest) {
            write(models / "blobs" / ("sha256-" + digest));
            write(models / "manifests/registry.ollama.ai/library" / name / "1b",
                  manifest("sha256:" + digest));
        };
        put(root() / "usr/share/ollama/.ollama/models", "system", kDigest);
        put(root() / "var/lib/ollama", "service", kOther);
        put(root() / "disk", "own", std::string(64, 'c'));
        m_variables["OLLAMA_MODELS"] = (root() / "disk").string();
        QCOMPARE(found(),
                 QStringList({"Ollama: own:1b", "Ollama: system:1b", "Ollama: service:1b"}));
    }

    void huggingFace() {
        const fs::path hub = home() / ".cache/huggingface/hub";
        const fs::path repository = hub / "models--org--Model";
        write(repository / "blobs/aaa", "weights");
        write(repository / "blobs/bbb.incomplete", "wei");
        write(repository / "refs/main", "new\n");
        for (const char* revision : {"old", "new"}) {
            const fs::path snapshot = repository / "snapshots" / revision;
            write(snapshot / "config.json", "{}");
            fs::create_symlink("../../blobs/aaa", snapshot / "model.safetensors");
            fs::create_symlink("../../blobs/gone", snapshot / "other.safetensors");
        }
        write(hub / "models--org--Files-GGUF/snapshots/1/Q4/Files-00001-of-00002.gguf");
        write(hub / "models--org--Files-GGUF/snapshots/1/Q4/Files-00002-of-00002.gguf");
        write(hub / "models--org--Files-GGUF/snapshots/1/Files-Q8.gguf");
        fs::create_symlink("../../blobs/gone",
                           hub / "models--org--Files-GGUF/snapshots/1/Dangling.gguf");
        write(hub / "models--org--Tune/snapshots/1/adapter_config.json", "{}");
        write(hub / "models--org--Tune/snapshots/1/adapter_model.safetensors", "x");
        write(hub / "models--org--Pictures/snapshots/1/model_index.json", "{}");
        write(hub / "models--org--Pictures/snapshots/1/unet/config.json", "{}");
        write(hub / "models--org--Pictures/snapshots/1/unet/model.safetensors", "x");
        write(hub / "datasets--org--Texts/snapshots/1/text.gguf");
        const auto models = findModels(user()).models;
        QCOMPARE(found(),
                 QStringList({"Hugging Face cache: Files-Q8", "Hugging Face cache: Files",
                              "Hugging Face cache: org/Model", "Hugging Face cache: org/Tune"}));
        QCOMPARE(models[1].parts, 2);
        QCOMPARE(models[1].bytes, 2 * kGguf.size());
        QCOMPARE(models[2].path, repository / "snapshots/new");
        QCOMPARE(models[2].bytes, uint64_t(7));
        QVERIFY(models[3].kind == FoundFile::Kind::Adapter);
        // Without a ref the revision that was written last.
        fs::remove(repository / "refs/main");
        fs::last_write_time(repository / "snapshots/new",
                            fs::file_time_type::clock::now() - std::chrono::hours(5));
        QCOMPARE(findModels(user()).models[2].path, repository / "snapshots/old");
        // A ref that leads elsewhere is not followed.
        write(repository / "refs/main", "../../../../..");
        QCOMPARE(findModels(user()).models[2].path, repository / "snapshots/old");
        m_variables["HF_HOME"] = (root() / "hf").string();
        m_variables["HF_HUB_CACHE"] = (root() / "hub").string();
        write(root() / "hf/hub/models--a--B/snapshots/1/B.gguf");
        write(root() / "hub/models--a--C/snapshots/1/C.gguf");
        QCOMPARE(found().first(2), QStringList({"Hugging Face cache: C", "Hugging Face cache: B"}));
    }

    void llamaCppAndOthers() {
        write(home() / ".cache/llama.cpp/org_repo_Model-Q4_0.gguf");
        write(home() / ".cache/llama.cpp/org_repo_Model-Q4_0.gguf.json", "{}");
        write(home() / ".cache/llama.cpp/manifest=org=repo=Q4_0.json", "{}");
        write(home() / ".cache/llama.cpp/Half-Q4_0.gguf.downloadInProgress");
        write(home() / ".cache/llama.cpp/Going.gguf");
        write(home() / ".cache/llama.cpp/Going.gguf.aria2");
        write(home() / ".cache/llama.cpp/Part.gguf.part");
        for (const int number : {2, 3})
            write(home() / fmt::format(".cache/llama.cpp/Split-{:05}-of-00003.gguf", number));
        write(home() / ".local/share/nomic.ai/GPT4All/Four.gguf");
        write(home() / "jan/models/Jans-Model/model.gguf");
        write(home() / "models/Mine.gguf");
        m_variables["LLAMA_CACHE"] = (root() / "cache").string();
        write(root() / "cache/First.gguf");
        const auto models = findModels(user()).models;
        QCOMPARE(found(), QStringList({"llama.cpp cache: First", "llama.cpp cache: Split",
                                       "llama.cpp cache: org_repo_Model-Q4_0", "GPT4All: Four",
                                       "Jan: Jans-Model", "Models: Mine"}));
        QVERIFY(
            QString::fromStdString(models[1].problem).contains("Of its 3 parts only 2 are there"));
        QCOMPARE(models[1].path.filename().string(), std::string("Split-00002-of-00003.gguf"));
    }

    void aFileIsListedOnce() {
        write(home() / ".lmstudio/models/p/r/One.gguf");
        fs::create_directories(home() / "models");
        fs::create_hard_link(home() / ".lmstudio/models/p/r/One.gguf", home() / "models/Hard.gguf");
        fs::create_symlink(home() / ".lmstudio/models/p/r/One.gguf", home() / "models/Link.gguf");
        fs::create_directory_symlink(home() / ".lmstudio/models", home() / "models/all");
        QCOMPARE(found(), QStringList({"LM Studio: One"}));
    }

    void loopsEnd() {
        write(home() / "models/a/b/Deep.gguf");
        fs::create_directory_symlink(home() / "models", home() / "models/a/b/up");
        fs::create_directory_symlink("/", home() / "models/zz-all"); // bounded, not refused
        SearchLimits limits;
        limits.entries = 400;
        QVERIFY(found(limits).contains("Models: Deep"));
    }

    void limitsAreKeptAndTold() {
        for (int i = 0; i < 20; ++i)
            write(home() / fmt::format("models/{:02}.gguf", i));
        const auto last = [&](const SearchLimits& limits, size_t count, const char* words) {
            const FoundFiles found = findModels(user(), limits);
            QCOMPARE(found.models.size(), count);
            QCOMPARE(found.notes.size(), size_t(words ? 1 : 0));
            if (words)
                QVERIFY2(found.notes[0].find(words) != std::string::npos, found.notes[0].c_str());
        };
        last({}, 20, nullptr);
        SearchLimits few;
        few.models = 5;
        last(few, 5, "5 models were found");
        SearchLimits short_;
        short_.time = std::chrono::milliseconds(0);
        last(short_, 0, "0 s had passed");
        write(home() / "models/1/2/3/4/Deep.gguf");
        SearchLimits shallow;
        shallow.depth = 3;
        last(shallow, 20, nullptr);
        Progress cancelled;
        cancelled.cancel = std::make_shared<std::atomic<bool>>(true);
        QVERIFY_EXCEPTION_THROWN(findModels(user(), {}, cancelled), Error);
    }

    void whatCannotBeReadIsTold() {
        write(home() / "models/Fine.gguf");
        write(home() / "models/Bad\xff\n.gguf");
        FoundFiles files = findModels(user());
        QCOMPARE(files.models.size(), size_t(1));
        QCOMPARE(files.notes.size(), size_t(1));
        QVERIFY2(files.notes[0].find("not valid UTF-8") != std::string::npos &&
                     files.notes[0].find('\n') == std::string::npos,
                 files.notes[0].c_str());
        if (geteuid() == 0)
            QSKIP("root may read everything");
        write(home() / "models/secret/Hidden.gguf");
        fs::permissions(home() / "models/secret", fs::perms::none);
        files = findModels(user());
        fs::permissions(home() / "models/secret", fs::perms::owner_all);
        QVERIFY(std::ranges::any_of(files.notes, [](const std::string& note) {
            return note.find("secret cannot be read") != std::string::npos;
        }));
    }

    void nothingIsWrittenThere() {
        const fs::path models = home() / ".ollama/models";
        write(models / "blobs" / ("sha256-" + kDigest));
        write(models / "manifests/registry.ollama.ai/library/a/1b", manifest("sha256:" + kDigest));
        write(home() / ".lmstudio/models/p/r/One.gguf");
        write(home() / ".cache/huggingface/hub/models--o--M/snapshots/1/Two.gguf");
        const auto before = everything();
        QCOMPARE(found().size(), 3);
        QVERIFY(everything() == before);
    }

    void kindsAreTold() {
        const auto kind = [&](const char* key, const char* value) {
            write(root() / "k.gguf", GgufBytes(0, 1).key(key, 8).text(value).bytes());
            return fileKind(*openCheckpoint(root() / "k.gguf"));
        };
        QVERIFY(kind("general.architecture", "llama") == FileKind::Model);
        QVERIFY(kind("general.architecture", "clip") == FileKind::Projector);
        QVERIFY(kind("general.type", "adapter") == FileKind::Adapter);
        QVERIFY(kind("general.type", "model") == FileKind::Model);
        QVERIFY(whyNotRunnable(FileKind::Model).empty());
        write(root() / "lora/adapter_config.json", "{}");
        write(root() / "lora/adapter_model.safetensors", std::string("\2\0\0\0\0\0\0\0{}", 10));
        try {
            openCheckpoint(root() / "lora");
            QFAIL("opened");
        } catch (const Error& e) {
            QVERIFY2(std::string_view(e.what()).find("LoRA adapter") != std::string_view::npos,
                     e.what());
        }
    }
};

QTEST_GUILESS_MAIN(TestModelSources)
#include "test_model_sources.moc"
