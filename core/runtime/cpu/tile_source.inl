// What tile products read: tiles of 16 rows, a row in each lane. Whatever the format, a block of 32
// columns becomes bytes that are multiplied and, for each group, a float scale, a float offset and
// an integer zero point; those are exact, so that how they are stored is settled here.

namespace nibble {
namespace {

enum class Offsets { None, Value, Zero };

/// Half or all of a tile's rows: the lanes that a register holds.
struct Tile {
    const TiledPlanes& tiles;
    const Format* format;
    int64_t blocks, groups, supers;
    int groupShift; ///< log2 of the 16-value parts in a group
    int scaleWidth, offsetWidth;
    int lane = 0;                                   ///< of the tile's 16, the first
    const uint32_t *low = nullptr, *high = nullptr; ///< code planes, from the first lane on
    const uint8_t *scales = nullptr, *superScales = nullptr;
    const uint8_t *offsets = nullptr, *superOffsets = nullptr;

    explicit Tile(const TiledPlanes& from)
        : tiles(from), format(from.format), blocks(from.blocks()),
          groups(format->groupCount(from.cols)), supers(format->superCount(from.cols)),
          groupShift(format->group == 0 ? 62 : __builtin_ctz(format->group) - 4),
          scaleWidth(scaleBytes(*format)), offsetWidth(offsetBytes(*format)) {}
    /// To the lanes from `row` on.
    void moveTo(int64_t row) {
        const int64_t index = row / 16;
        lane = static_cast<int>(row % 16);
        const uint32_t* codes = tiles.codes.data() + lane;
        low = codes + index * blocks * format->lowBits() * 16;
        high = codes + int64_t(tiles.highPlane) + index * blocks * format->highBits() * 16;
        scales = tiles.scales.data() + index * groups * 16 * scaleWidth;
        offsets = tiles.offsets.data() + index * groups * 16 * offsetWidth;
        superScales = tiles.superScales.data() + index * supers * 32;
        superOffsets = tiles.superOffsets.data() + index * supers * 32;
    }
};

/// Adds one code plane to a block, its bits from `shift` on. The record order of Tensor: word
/// d mod bits, at bit bits · ⌊d / bits⌋ of each byte.
template <int bits, int shift, int d>
inline void addPlaneWord(const uint32_t* words, TileBlock& block) {
    constexpr int kMask = ((1 << bits) - 1) << shift;
    I word = loadWords(words + d % bits * 16);
    if constexpr (bits != 8)
        word = andi(shifted16<d / bits * bits - shift>(word), setBytes(kMask));
    block.words[d] = shift == 0 ? word : ori(block.words[d], word);
}
template <int bits, int shift>
inline void addPlane(const uint32_t* words, TileBlock& block) {
    addPlaneWord<bits, shift, 0>(words, block);
    addPlaneWord<bits, shift, 1>(words, block);
    addPlaneWord<bits, shift, 2>(words, block);
    addPlaneWord<bits, shift, 3>(words, block);
    addPlaneWord<bits, shift, 4>(words, block);
    addPlaneWord<bits, shift, 5>(words, block);
    addPlaneWord<bits, shift, 6>(words, block);
    addPlaneWord<bits, shift, 7>(words, block);
}

/// Format::highBits() of codes of so many bits.
template <int bits>
constexpr int kHighBits = bits == 3 || bits == 5 ? 1
                          : bits == 6            ? 2
                                                 : 0;

/// The raw codes of a block, counted from the tile's first.
template <int bits>
inline TileBlock loadCodes(const Tile& tile, int64_t block) {
    constexpr int kHigh = kHighBits<bits>, kLow = bits - kHigh;
    TileBlock codes;
    addPlane<kLow, 0>(tile.low + block * kLow * 16, codes);
    if constexpr (kHigh != 0)
        addPlane<kHigh, kLow>(tile.high + block * kHigh * 16, codes);
    return codes;
}

/// Asks for the codes of some blocks later: a product with one row waits for memory, and processors
/// stop prefetching by themselves at every 4 kB. Zen 4, two threads, 4-bit codes: 12 % more tokens;
/// from 1 to 8 kB ahead are alike.
template <int bits>
inline void fetchAhead(const Tile& tile, int64_t block) {
    constexpr int kLow = bits - kHighBits<bits>;
    constexpr uintptr_t kAhead = 2048;
    const auto next = reinterpret_cast<uintptr_t>(tile.low + block * kLow * 16) + kAhead;
#pragma GCC unroll 8
    for (uintptr_t line = 0; line < kLow; ++line)
        __builtin_prefetch(reinterpret_cast<const void*>(next + line * 64));
}

inline V halvesAt(const uint8_t* plane, int64_t field) {
    return loadHalf(reinterpret_cast<const uint16_t*>(plane) + field);
}

/// The numbers of a tile's groups, `kLanes` each: w = scale · (c − zero) + offset, with
/// Format::unit in the scale.
struct TileGroups {
    float *scales, *offsets;
    uint32_t* zeros;

    V scale(int64_t group) const { return load(scales + group * kLanes); }
    V offset(int64_t group) const { return load(offsets + group * kLanes); }
    I zero(int64_t group) const { return loadWords(zeros + group * kLanes); }
};

/// The same of plain formats, read from the planes as they are: for one input row some 10 % faster
/// than numbers that were written down first (Zen 4, int4_g32).
template <bool wide>
struct PlainGroups {
    const uint8_t *scales, *offsets; ///< of the tile, from the first lane on

    explicit PlainGroups(const Tile& tile)
        : scales(tile.scales + tile.lane * (wide ? 4 : 2)),
          offsets(tile.offsets + tile.lane * tile.offsetWidth) {}
    V scale(int64_t group) const {
        if constexpr (wide)
            return load(reinterpret_cast<const float*>(scales) + group * 16);
        else
            return halvesAt(scales, group * 16);
    }
    V offset(int64_t group) const { return halvesAt(offsets, group * 16); }
    I zero(int64_t group) const { return loadBytesAsInts(offsets + group * 16); }
};

/// The scale in field `at` of a tile, without Format::unit.
template <ScaleKind kind>
inline V scaleAt(const Tile& tile, int64_t at, V superScale) {
    const uint8_t* bytes = tile.scales + at;
    if constexpr (kind == ScaleKind::F32) {
        return load(reinterpret_cast<const float*>(tile.scales) + at);
    } else if constexpr (kind == ScaleKind::F16) {
        return halvesAt(tile.scales, at);
    } else if constexpr (kind == ScaleKind::BF16) {
        return loadBfloat(reinterpret_cast<const uint16_t*>(tile.scales) + at);
    } else if constexpr (kind == ScaleKind::E8M0) {
        // 2^(e − 128): the factor 2 comes with the unit, so that e = 255 stays finite.
        const I e = loadBytesAsInts(bytes), half = shifted32<1>(e);
        return mul(asFloat(shifted32<-23>(addi(half, set1i(63)))),
                   asFloat(shifted32<-23>(addi(subi(e, half), set1i(63)))));
    } else if constexpr (kind == ScaleKind::E4M3) {
        // Bits at float32's place are 2^120 too small; see e4m3ToFloat.
        const I e = andi(loadBytesAsInts(bytes), set1i(127));
        return mul(asFloat(shifted32<-20>(clearedWhere(e, 127))), set1(0x1p120f));
    } else if constexpr (kind == ScaleKind::Code) {
        // Eight bits are two's complement: (x ^ 128) − 128.
        const int32_t flip = tile.format->scaleBits == 8 ? 128 : 0;
        const I code =
            subi(xori(loadBytesAsInts(bytes), set1i(flip)), set1i(flip + tile.format->scaleZero));
        return mul(toFloat(code), superScale);
    } else {
        return set1(1);
    }
}

/// `count` scales from field `at` on; those that are codes share `superScale`.
template <ScaleKind kind>
inline void loadScales(const Tile& tile, int64_t at, int64_t count, V superScale, float* scales) {
    const V unit = set1(tile.format->unit * (kind == ScaleKind::E8M0 ? 2 : 1));
    for (int64_t i = 0; i < count; ++i)
        store(scales + i * kLanes, mul(unit, scaleAt<kind>(tile, at + i * 16, superScale)));
}
inline void loadScales(const Tile& tile, int64_t at, int64_t count, V superScale, float* scales) {
    switch (tile.format->scale) {
    case ScaleKind::None:
        return loadScales<ScaleKind::None>(tile, at, count, superScale, scales);
    case ScaleKind::F32:
        return loadScales<ScaleKind::F32>(tile, at, count, superScale, scales);
    case ScaleKind::F16:
        return loadScales<ScaleKind::F16>(tile, at, count, superScale, scales);
    case ScaleKind::BF16:
        return loadScales<ScaleKind::BF16>(tile, at, count, superScale, scales);
    case ScaleKind::E8M0:
        return loadScales<ScaleKind::E8M0>(tile, at, count, superScale, scales);
    case ScaleKind::E4M3:
        return loadScales<ScaleKind::E4M3>(tile, at, count, superScale, scales);
    case ScaleKind::Code:
        return loadScales<ScaleKind::Code>(tile, at, count, superScale, scales);
    }
}

/// Fills `groups` from the tile.
__attribute__((noinline)) void loadGroups(const Tile& tile, const TileGroups& groups) {
    const Format& format = *tile.format;
    const int64_t perSuper = format.super == 0 || format.super == Format::kWholeRow
                                 ? tile.groups
                                 : format.super / format.group;
    for (int64_t first = 0, super = 0; first < tile.groups; first += perSuper, ++super) {
        const int64_t left = tile.groups - first, count = left < perSuper ? left : perSuper;
        const int64_t at = first * 16 + tile.lane, superAt = super * 16 + tile.lane;
        V superScale = zero();
        if (format.scale == ScaleKind::Code)
            superScale = halvesAt(tile.superScales, superAt);
        loadScales(tile, at, count, superScale, groups.scales + first * kLanes);
        float* offsets = groups.offsets + first * kLanes;
        if (format.offset == OffsetKind::Value)
            for (int64_t i = 0; i < count; ++i)
                store(offsets + i * kLanes, halvesAt(tile.offsets, at + i * 16));
        if (format.offset == OffsetKind::Code) {
            const V superOffset = halvesAt(tile.superOffsets, superAt);
            for (int64_t i = 0; i < count; ++i)
                store(offsets + i * kLanes,
                      mul(toFloat(loadBytesAsInts(tile.offsets + at + i * 16)), superOffset));
        }
    }
    if (format.offset == OffsetKind::Zero)
        for (int64_t i = 0; i < tile.groups; ++i)
            storeWords(groups.zeros + i * kLanes,
                       loadBytesAsInts(tile.offsets + i * 16 + tile.lane));
}

/// Floats that the groups of a tile take. A row may end amid a block, whose other group has nothing
/// to count: one more group of zeros.
inline int64_t groupRoom(const TiledPlanes& tiles) {
    return (tiles.format->groupCount(tiles.cols) + 1) * kLanes * 3;
}
inline TileGroups placeGroups(const TiledPlanes& tiles, float* room) {
    const int64_t each = groupRoom(tiles) / 3;
    for (int i = 1; i <= 3; ++i)
        store(room + i * each - kLanes, zero());
    return {room, room + each, reinterpret_cast<uint32_t*>(room + 2 * each)};
}

/// Lanes' results to the rows that exist.
inline void storeRows(float* to, V lanes, int64_t count) {
    if (count >= kLanes) {
        store(to, lanes);
        return;
    }
    float values[kLanes];
    store(values, lanes);
    for (int64_t r = 0; r < count; ++r)
        to[r] = values[r];
}

} // namespace
} // namespace nibble
