#include "core/runtime/vulkan/matrix_form.h"

#include "core/base/error.h"

#include <array>
#include <cstring>
#include <map>
#include <string_view>

namespace nibble {
namespace {

enum Opcode : uint32_t {
    kExtension = 10,
    kCapability = 17,
    kTypeInt = 21,
    kConstantTrue = 41,
    kConstantFalse = 42,
    kConstant = 43,
    kSpecConstantOp = 52,
    kTypeNv = 5358,
    kLoadNv = 5359,
    kStoreNv = 5360,
    kMulAddNv = 5361,
    kLengthNv = 5362,
    kTypeKhr = 4456,
    kLoadKhr = 4457,
    kStoreKhr = 4458,
    kMulAddKhr = 4459,
    kLengthKhr = 4460,
};
constexpr uint32_t kCapabilityNv = 5357, kCapabilityKhr = 6022;
constexpr uint32_t kAllSigned = 0xf; ///< the components of A, B, C and the result
constexpr size_t kHeader = 5;
constexpr uint32_t kAccumulator = 2;

/// The words of one instruction; the first is its opcode and length.
using Instruction = std::span<const uint32_t>;

uint32_t opcode(Instruction i) {
    return i[0] & 0xffffu;
}

class Rewriter {
public:
    explicit Rewriter(std::span<const uint32_t> module) : m_module(module) {
        if (module.size() < kHeader)
            damaged();
        for (size_t at = kHeader; at < module.size();) {
            const size_t length = module[at] >> 16;
            if (length == 0 || length > module.size() - at)
                damaged();
            m_instructions.push_back(module.subspan(at, length));
            at += length;
        }
    }

    std::vector<uint32_t> run() {
        collect();
        m_out.assign(m_module.begin(), m_module.begin() + kHeader);
        m_next = m_module[3];
        for (const Instruction& i : m_instructions)
            write(i);
        m_out[3] = m_next;
        return std::move(m_out);
    }

private:
    [[noreturn]] static void damaged() {
        fail(ErrorKind::Internal, "A kernel for matrix units is damaged.");
    }

    static void needs(Instruction i, size_t words) {
        if (i.size() < words)
            damaged();
    }

    void setUse(uint32_t value, uint32_t use) {
        const auto type = m_typeOf.find(value);
        if (type == m_typeOf.end())
            damaged();
        const auto [found, isNew] = m_uses.emplace(type->second, use);
        if (!isNew && found->second != use)
            fail(ErrorKind::Internal, "A kernel uses one matrix type in two ways.");
    }

    void collect() {
        std::map<uint32_t, bool> isMatrix;
        for (const Instruction& i : m_instructions) {
            if (opcode(i) == kTypeNv)
                needs(i, 6), isMatrix[i[1]] = true;
            else if (opcode(i) == kConstantTrue || opcode(i) == kConstantFalse)
                needs(i, 3), m_isTrue[i[2]] = opcode(i) == kConstantTrue;
            else if (opcode(i) == kTypeInt && i.size() == 4 && i[2] == 32 && i[3] == 0)
                m_uint = i[1];
            if (i.size() >= 3 && isMatrix.contains(i[1]))
                m_typeOf[i[2]] = i[1]; // whatever makes a matrix
        }
        for (const Instruction& i : m_instructions)
            if (opcode(i) == kMulAddNv) {
                needs(i, 6);
                for (uint32_t use = 0; use < 3; ++use)
                    setUse(i[3 + use], use);
                setUse(i[2], kAccumulator);
            }
    }

    void emit(uint32_t code, std::initializer_list<uint32_t> words, Instruction rest = {}) {
        m_out.push_back(static_cast<uint32_t>(1 + words.size() + rest.size()) << 16 | code);
        m_out.insert(m_out.end(), words);
        m_out.insert(m_out.end(), rest.begin(), rest.end());
    }

    /// The constant `value` (0, 1 or 2), as types and layouts name it.
    uint32_t constant(uint32_t value) const { return m_constants[value]; }

    uint32_t layout(uint32_t isColumnMajor) const {
        const auto found = m_isTrue.find(isColumnMajor);
        if (found == m_isTrue.end())
            damaged();
        return constant(found->second ? 1 : 0);
    }

    void writeType(Instruction i) {
        if (m_constants[0] == 0) {
            if (m_uint == 0)
                damaged();
            for (uint32_t value = 0; value < m_constants.size(); ++value) {
                m_constants[value] = m_next++;
                emit(kConstant, {m_uint, m_constants[value], value});
            }
        }
        const auto use = m_uses.find(i[1]);
        emit(kTypeKhr, {i[1], i[2], i[3], i[4], i[5],
                        constant(use == m_uses.end() ? kAccumulator : use->second)});
    }

    void write(Instruction i) {
        switch (opcode(i)) {
        case kCapability:
            emit(kCapability, {i[1] == kCapabilityNv ? kCapabilityKhr : i[1]});
            return;
        case kExtension:
            writeExtension(i);
            return;
        case kTypeNv:
            writeType(i);
            return;
        case kLoadNv:
            needs(i, 6);
            emit(kLoadKhr, {i[1], i[2], i[3], layout(i[5]), i[4]}, i.subspan(6));
            return;
        case kStoreNv:
            needs(i, 5);
            emit(kStoreKhr, {i[1], i[2], layout(i[4]), i[3]}, i.subspan(5));
            return;
        case kMulAddNv:
            emit(kMulAddKhr, {i[1], i[2], i[3], i[4], i[5], kAllSigned});
            return;
        case kLengthNv:
            emit(kLengthKhr, {}, i.subspan(1));
            return;
        case kSpecConstantOp:
            needs(i, 4);
            emit(kSpecConstantOp, {i[1], i[2], i[3] == kLengthNv ? uint32_t(kLengthKhr) : i[3]},
                 i.subspan(4));
            return;
        default:
            m_out.insert(m_out.end(), i.begin(), i.end());
        }
    }

    /// A string's words hold four characters each and end with a zero.
    void writeExtension(Instruction i) {
        constexpr std::string_view kNv = "SPV_NV_cooperative_matrix",
                                   kKhr = "SPV_KHR_cooperative_matrix";
        const size_t bytes = (i.size() - 1) * 4;
        if (bytes <= kNv.size() || std::memcmp(&i[1], kNv.data(), kNv.size() + 1) != 0) {
            m_out.insert(m_out.end(), i.begin(), i.end());
            return;
        }
        std::array<uint32_t, kKhr.size() / 4 + 1> name{};
        std::memcpy(name.data(), kKhr.data(), kKhr.size());
        emit(kExtension, {}, name);
    }

    std::span<const uint32_t> m_module;
    std::vector<Instruction> m_instructions;
    std::map<uint32_t, uint32_t> m_typeOf; ///< value → matrix type
    std::map<uint32_t, uint32_t> m_uses;   ///< matrix type → use
    std::map<uint32_t, bool> m_isTrue;     ///< of constants
    uint32_t m_uint = 0, m_next = 0;
    std::array<uint32_t, 3> m_constants{};
    std::vector<uint32_t> m_out;
};

} // namespace

std::vector<uint32_t> toKhrMatrices(std::span<const uint32_t> module) {
    return Rewriter(module).run();
}

} // namespace nibble
