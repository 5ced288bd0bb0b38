// ctest: LABELS=quick TIMEOUT=60
#include "core/base/error.h"
#include "core/runtime/vulkan/matrix_form.h"
#include "vulkan_kernels/include/kernel_table.h"

#include <QTest>

#include <cstring>
#include <map>
#include <set>

using namespace nibble;

namespace {

using Words = std::vector<uint32_t>;

/// The instructions of a module by opcode, read anew from the SPIR-V specification.
std::map<uint32_t, std::vector<Words>> instructionsOf(const Words& module) {
    std::map<uint32_t, std::vector<Words>> all;
    for (size_t at = 5; at < module.size();) {
        const size_t length = module[at] >> 16;
        if (length == 0 || at + length > module.size())
            return {};
        const auto first = module.begin() + static_cast<std::ptrdiff_t>(at);
        all[module[at] & 0xffff].emplace_back(first, first + static_cast<std::ptrdiff_t>(length));
        at += length;
    }
    return all;
}

Words kernel(std::string_view name) {
    for (const auto& module : kernels::kernelModules())
        if (module.name == name)
            return {module.words.begin(), module.words.end()};
    return {};
}

} // namespace

/// The rewriting of NV's cooperative matrices to KHR's, which no driver of a test machine can
/// check.
class TestMatrixForm : public QObject {
    Q_OBJECT

private slots:
    void everythingIsRewritten() {
        const Words nv = kernel("product_matrix");
        if (nv.empty())
            QSKIP("this build's compiler has left the kernel out");
        const Words khr = toKhrMatrices(nv);
        const auto before = instructionsOf(nv), after = instructionsOf(khr);
        QVERIFY(!before.empty() && !after.empty());
        for (const uint32_t opcode : {5358u, 5359u, 5360u, 5361u, 5362u})
            QVERIFY2(!after.contains(opcode), qPrintable(QString::number(opcode)));
        for (const auto& [old, now] :
             std::map<uint32_t, uint32_t>{{5358, 4456}, {5359, 4457}, {5360, 4458}, {5361, 4459}}) {
            QVERIFY(before.contains(old));
            QCOMPARE(after.at(now).size(), before.at(old).size());
        }
        // All other instructions are as they were, but three constants more.
        for (const auto& [opcode, all] : before)
            if (opcode != 43 && opcode != 17 && opcode != 10 && opcode != 52 &&
                (opcode < 5358 || opcode > 5362))
                QCOMPARE(after.at(opcode), all);
        QCOMPARE(after.at(43).size(), before.at(43).size() + 3);
        QCOMPARE(khr[3], nv[3] + 3);
        const std::string text(reinterpret_cast<const char*>(khr.data()), khr.size() * 4);
        QVERIFY(text.find("SPV_KHR_cooperative_matrix") != text.npos);
        QVERIFY(text.find("SPV_NV_cooperative_matrix") == text.npos);
        bool khrCapability = false, nvCapability = false;
        for (const Words& i : after.at(17)) {
            khrCapability |= i[1] == 6022;
            nvCapability |= i[1] == 5357;
        }
        QVERIFY(khrCapability && !nvCapability);
    }

    /// Uses of matrix types are those of the multiplications' operands, layouts those of the flags.
    void usesAndLayoutsAreRight() {
        const Words nv = kernel("product_matrix");
        if (nv.empty())
            QSKIP("this build's compiler has left the kernel out");
        const auto before = instructionsOf(nv), after = instructionsOf(toKhrMatrices(nv));
        std::map<uint32_t, uint32_t> constants, useOf, typeOf;
        for (const Words& i : after.at(43))
            constants[i[2]] = i[3];
        for (const Words& i : after.at(4456)) {
            QCOMPARE(i.size(), size_t(7));
            useOf[i[1]] = constants.at(i[6]);
        }
        for (const auto& [opcode, all] : after)
            for (const Words& i : all)
                if (i.size() > 2 && useOf.contains(i[1]))
                    typeOf[i[2]] = i[1];
        for (const Words& i : after.at(4459)) {
            QCOMPARE(useOf.at(typeOf.at(i[3])), 0u);
            QCOMPARE(useOf.at(typeOf.at(i[4])), 1u);
            QCOMPARE(useOf.at(typeOf.at(i[5])), 2u);
            QCOMPARE(useOf.at(i[1]), 2u);
            QCOMPARE(i[6], 15u); // all signed, not saturating
        }
        std::set<uint32_t> columnMajor;
        for (const Words& i : before.at(41))
            columnMajor.insert(i[2]);
        for (size_t k = 0; k < after.at(4457).size(); ++k) {
            const Words &old = before.at(5359)[k], &now = after.at(4457)[k];
            QCOMPARE(now[3], old[3]);
            QCOMPARE(constants.at(now[4]), columnMajor.contains(old[5]) ? 1u : 0u);
            QCOMPARE(now[5], old[4]);
        }
    }

    void damagedModulesAreRefused() {
        Words nv = kernel("product_matrix");
        if (nv.empty())
            QSKIP("this build's compiler has left the kernel out");
        QVERIFY_THROWS_EXCEPTION(Error, toKhrMatrices({}));
        nv.resize(6); // in the midst of an instruction
        QVERIFY_THROWS_EXCEPTION(Error, toKhrMatrices(nv));
        nv = kernel("product_matrix");
        nv[5] = 0; // no length
        QVERIFY_THROWS_EXCEPTION(Error, toKhrMatrices(nv));
    }
};

QTEST_GUILESS_MAIN(TestMatrixForm)
#include "test_matrix_form.moc"
