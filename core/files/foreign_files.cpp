#include "core/base/error.h"
#include "core/files/openers.h"

#include <algorithm>
#include <string>

namespace nibble {
namespace {

using namespace std::string_view_literals;

constexpr const char* kAccepted =
    "A GGUF file, or a folder with config.json and *.safetensors, is accepted.";

/// First bytes of files that people open by mistake.
struct Signature {
    std::string_view magic;
    const char* what;
};
constexpr Signature kSignatures[] = {
    {"version https://git-lfs"sv,
     "a Git LFS pointer, not the file itself: run \"git lfs pull\" in its folder"},
    {"<!DOCTYPE"sv, "a web page, perhaps the login or error page of a download"},
    {"<!doctype"sv, "a web page, perhaps the login or error page of a download"},
    {"<html"sv, "a web page, perhaps the login or error page of a download"},
    {"lmgg"sv, "a model in llama.cpp's format of before GGUF (ggml); look for a GGUF version"},
    {"fmgg"sv, "a model in llama.cpp's format of before GGUF (ggmf); look for a GGUF version"},
    {"tjgg"sv, "a model in llama.cpp's format of before GGUF (ggjt); look for a GGUF version"},
    {"\x89HDF\r\n"sv, "an HDF5 file (Keras)"},
    {"PK\x03\x04"sv, "a zip archive or a PyTorch file, whose pickle would execute code"},
    {"\x80\x02"sv, "a Python pickle, which would execute code"},
    {"\x80\x03"sv, "a Python pickle, which would execute code"},
    {"\x80\x04"sv, "a Python pickle, which would execute code"},
    {"\x80\x05"sv, "a Python pickle, which would execute code"},
    {"\x1f\x8b"sv, "a gzip archive; unpack it first"},
    {"\x28\xb5\x2f\xfd"sv, "a zstd archive; unpack it first"},
    {"\xfd"
     "7zXZ"sv,
     "an xz archive; unpack it first"},
    {"\x93NUMPY"sv, "a NumPy array"},
    {"\x7f"
     "ELF"sv,
     "a program"},
    {"MZ"sv, "a program"},
    {"\x89PNG"sv, "a picture"},
    {"\xff\xd8\xff"sv, "a picture"},
    {"{"sv, "a JSON file; choose the folder that it is in"},
};

bool isText(std::string_view head) {
    return std::all_of(head.begin(), head.end(), [](char c) {
        return static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\r' || c == '\t';
    });
}

} // namespace

bool isPickleName(const std::filesystem::path& path) {
    const std::string extension = path.extension().string();
    return extension == ".bin" || extension == ".pt" || extension == ".pth" ||
           extension == ".ckpt" || extension == ".pkl";
}

void refuseForeign(const std::filesystem::path& path, std::span<const std::byte> head) {
    const std::string name = printable(path.filename().string());
    if (isPickleName(path))
        fail(ErrorKind::BadInput,
             "{}: PyTorch files of this kind are Python pickles, and loading one can execute code "
             "hidden in "
             "it, so they are never opened. Look for a *.safetensors or GGUF version of the model.",
             name);
    const std::string_view bytes(reinterpret_cast<const char*>(head.data()), head.size());
    if (bytes.empty())
        fail(ErrorKind::BadInput, "{}: the file is empty. {}", name, kAccepted);
    for (const Signature& signature : kSignatures)
        if (bytes.starts_with(signature.magic))
            fail(ErrorKind::BadInput, "{}: this is {}. {}", name, signature.what, kAccepted);
    fail(ErrorKind::BadInput, "{}: this is {}, not a model that can be opened here. {}", name,
         isText(bytes) ? "a text" : "a file of unknown kind", kAccepted);
}

} // namespace nibble
