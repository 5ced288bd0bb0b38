#include "core/base/error.h"
#include "core/base/random.h"
#include "core/quant/folder_tensors.h"
#include "core/tensor/planes.h"

#include <QTest>
#include <numeric>

using namespace nibble;

namespace {

constexpr int64_t kRows = 7;

/// Every field of every plane is random, so that a part that is mislaid is seen.
Tensor randomTensor(const Format& format) {
    const int64_t cols = std::lcm<int64_t>(
        64, format.super == Format::kWholeRow ? int64_t(format.group) : format.rowUnit());
    Random random(3);
    TensorBuilder builder("t", format, kRows, cols);
    std::vector<uint8_t> codes(static_cast<size_t>(cols));
    for (int64_t row = 0; row < kRows; ++row) {
        for (uint8_t& code : codes)
            code = static_cast<uint8_t>((random.next() >> 40) & ((1u << format.bits) - 1));
        builder.setCodes(row, codes.data());
        const auto bits = [&] { return static_cast<uint16_t>(random.next() >> 48); };
        for (int64_t k = 0; k < format.groupCount(cols) && scaleBytes(format) > 0; ++k)
            builder.setScale(row, k, bits());
        for (int64_t k = 0; k < format.groupCount(cols) && offsetBytes(format) > 0; ++k)
            builder.setOffset(row, k, bits());
        for (int64_t k = 0; k < format.superCount(cols); ++k) {
            if (format.scale == ScaleKind::Code)
                builder.setSuperScale(row, k, bits());
            if (format.offset == OffsetKind::Code)
                builder.setSuperOffset(row, k, bits());
        }
    }
    return builder.finish();
}

std::vector<Tensor> cutInThree(const Tensor& whole) {
    std::vector<Tensor> parts;
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 2}, {2, 3}, {3, kRows}}) {
        std::vector<int64_t> rows(static_cast<size_t>(end - begin));
        std::iota(rows.begin(), rows.end(), begin);
        parts.push_back(gatherRows(whole, rows));
    }
    return parts;
}

bool same(const Bytes& a, const Bytes& b) {
    return std::ranges::equal(a.view(), b.view());
}

} // namespace

/// Tensors that lie in one of a folder.
class TestFolderTensors : public QObject {
    Q_OBJECT
private slots:
    void partsBecomeTheWhole() {
        int compared = 0;
        for (const Format* format : coveringFormats()) {
            if (format->isFloat())
                continue;
            const Tensor whole = randomTensor(*format), out = joined(cutInThree(whole));
            QCOMPARE(out.rows, kRows);
            QCOMPARE(out.cols, whole.cols);
            QVERIFY2(same(out.codes, whole.codes), format->name);
            QVERIFY2(same(out.scales, whole.scales), format->name);
            QVERIFY2(same(out.superScales, whole.superScales), format->name);
            QVERIFY2(same(out.offsets, whole.offsets), format->name);
            QVERIFY2(same(out.superOffsets, whole.superOffsets), format->name);
            ++compared;
        }
        QVERIFY(compared > 20);
    }

    void vectorsAreOneVector() {
        const Format& f16 = getFormat("f16");
        const std::vector<float> first{1, 2, 3}, second{4, 5};
        const Tensor parts[] = {makeFloatTensor("a", f16, 1, 3, first),
                                makeFloatTensor("b", f16, 1, 2, second)};
        const Tensor out = joined(parts);
        QCOMPARE(out.rows, int64_t(1));
        QVERIFY(decode(out) == (std::vector<float>{1, 2, 3, 4, 5}));
    }

    void ordersOfColumnsMustAgree() {
        std::vector<Tensor> parts = cutInThree(randomTensor(getFormat("int4_g32")));
        std::vector<int32_t> order(static_cast<size_t>(parts.front().cols));
        std::iota(order.rbegin(), order.rend(), 0);
        for (Tensor& part : parts)
            part.columnOrder = std::make_shared<const std::vector<int32_t>>(order);
        QVERIFY(*joined(parts).columnOrder == order);
        std::swap(order[0], order[1]);
        parts[1].columnOrder = std::make_shared<const std::vector<int32_t>>(order);
        QVERIFY_EXCEPTION_THROWN(joined(parts), Error);
        parts[1].columnOrder = nullptr;
        QVERIFY_EXCEPTION_THROWN(joined(parts), Error);
    }
};

QTEST_GUILESS_MAIN(TestFolderTensors)
#include "test_folder_tensors.moc"
