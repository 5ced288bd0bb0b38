#ifndef NIBBLE_KERNEL_INTERFACE_H
#define NIBBLE_KERNEL_INTERFACE_H

/* What kernels and host agree on; read by GLSL and C++ alike. */

/* Rows and columns of a tile; invocations of a workgroup in kernels where they do not matter. */
#define TILE_ROWS 16
#define BLOCK 32
#define SMALL_WORKGROUP 64

/* Specialization constants of the weight planes (weights.glsl). */
#define ID_KIND 0
#define ID_LOW 1
#define ID_HIGH 2
#define ID_ZERO 3
#define ID_GROUP 4
#define ID_SCALE 5
#define ID_SCALE_BITS 6
#define ID_SCALE_ZERO 7
#define ID_OFFSET 8
#define ID_OFFSET_BITS 9
#define ID_SUPER 10
#define ID_TABLE0 11
#define ID_TABLE1 12
#define ID_TABLE2 13
#define ID_TABLE3 14
#define ID_UNIT 15
#define ID_EXACT 40 /* to 55: the table's entries as floats */
/* The kernel's own constants are 16 to 39, and 56 on. */

/* ID_KIND: how codes become values. */
#define KIND_UNIFORM 0
#define KIND_TABLE 1
#define KIND_F32 2
#define KIND_F16 3
#define KIND_BF16 4

/* ID_SCALE, in the order of ScaleKind. */
#define SCALE_NONE 0
#define SCALE_F32 1
#define SCALE_F16 2
#define SCALE_BF16 3
#define SCALE_E8M0 4
#define SCALE_E4M3 5
#define SCALE_CODE 6

/* ID_OFFSET, in the order of OffsetKind. */
#define OFFSET_NONE 0
#define OFFSET_VALUE 1
#define OFFSET_CODE 2
#define OFFSET_ZERO 3

/* product.comp, prepare.comp, attention.comp: invocations, a multiple of 64 that is a power of two.
 */
#define ID_WORKGROUP 26

/* product.comp */
#define ID_M 16
#define ID_FLOAT 17
#define ID_EPILOGUE 18
#define ID_BIAS 19
#define ID_KV 20
#define ID_TAIL 21
#define ID_TILES 23 /* of 16 matrix rows that a workgroup multiplies at once */
/* Sizes that are products of two constants are given as one: lavapipe gets them wrong. */
#define ID_SUMS 24     /* M · TILES */
#define ID_PARTIALS 27 /* WORKGROUP · M · TILES */
#define ID_AHEAD 28    /* blocks of a row that an invocation loads before it multiplies */
#define ID_RECORDS 29  /* AHEAD · TILES */
#define ID_SPREAD 31   /* whether neighbouring invocations read neighbouring blocks */
#define ID_OUTLIERS 25 /* also of embed.comp */
#define EPILOGUE_STORE 0
#define EPILOGUE_ADD 1
#define EPILOGUE_QUERY 2
#define EPILOGUE_KEY 3
#define EPILOGUE_VALUE 4

/* product_matrix.comp: invocations; activation rows and matrix rows of a workgroup and of a
   subgroup of 32; blocks between two barriers. */
#define MATRIX_WORKGROUP 128
#define MATRIX_ROWS 64
#define MATRIX_COLS 64
#define MATRIX_SUBGROUP_ROWS 32
#define MATRIX_SUBGROUP_COLS 32
#define MATRIX_STEP 2

/* prepare.comp, and the tails of product.comp and attention.comp: rows as the next product wants
   them. Activations: 0 float, 32 64 128 int8 per block, ACTIVATION_TOKEN int8 per row,
   ACTIVATION_STATIC int8 with the form's scale. */
#define ID_PREPARE 32
#define ID_ACTIVATION 33
#define ID_KEEP_FLOAT 34
#define ID_LOGIT_ROWS 35
#define ID_PREPARE_OUTLIERS 36
#define ID_NORM 38 /* in the order of NormKind */
#define ID_GATE 39 /* in the order of Activation */
#define PREPARE_PLAIN 0
#define PREPARE_NORM 1
#define PREPARE_GATED 2     /* activation(source) · second */
#define PREPARE_ACTIVATED 3 /* activation(source) */
#define NORM_RMS 0
#define NORM_LAYER 1
#define GATE_SILU 0
#define GATE_GELU_TANH 1
#define GATE_GELU 2
#define GATE_CLAMPED 3
#define ACTIVATION_TOKEN 1
#define ACTIVATION_STATIC 2

/* ID_OUTLIERS, ID_PREPARE_OUTLIERS: what is multiplied as floats beside the codes. */
#define OUTLIERS_COLUMNS 1 /* the same columns of every row, with weights of their own */
#define OUTLIERS_VALUES 2  /* whatever reaches the threshold */

/* A form buffer: what prepared rows of a form are made with, in words. From FORM_MASK on a bit for
   every column of each block, set for outlier columns; then the outlier columns. */
#define FORM_THRESHOLD 0
#define FORM_SCALE 1
#define FORM_COLUMNS 2
#define FORM_MASK 4

/* Outliers of prepared rows lie behind the numbers of their blocks, a list a row with room for
   every value, in words: the count of OUTLIERS_VALUES, then pairs (column, float), the outlier
   columns first. R = rows of the largest call. */
#define OUTLIER_LISTS(R, blocks) (4 * (R) * (blocks))
#define OUTLIER_LIST_WORDS(blocks) (4 + 64 * (blocks))
#define OUTLIER_PAIRS 4

/* attention.comp: ID_KV is the format of the keys. */
#define ID_HEAD_SIZE 16
#define ID_VALUES 22
#define ID_PAIRS_EACH 30 /* pairs of values of a head that an invocation sums */

#define ID_SINKS 37 /* also: whether route.comp weighs a shared expert, and add.comp adds one */

/* Mixtures of experts. A slot is one of the experts that a row chose: row · used + its place.
   product.comp: whether its input is that of the slot's row, or the slot's own. */
#define ID_EXPERTS 56
#define EXPERTS_NONE 0
#define EXPERTS_OF_ROWS 1
#define EXPERTS_OF_SLOTS 2
#define ID_EXPERTS_USED 57
/* route.comp: how many there are, and whether the weights of the chosen ones sum to 1. */
#define ID_EXPERT_COUNT 58
#define ID_EXPERT_NORM 59
/* route.comp, add.comp, heads.comp: what is normed. */
#define ID_NORMED 60
#define NORMED_NOTHING 0
#define NORMED_ROW 1
#define NORMED_HEAD 2
/* convolution.comp: whether it keeps what later calls need, or computes. */
#define ID_KEEPS 61

/* probe_read.comp, probe_rate.comp */
#define PROBE_WORKGROUP 256
#define PROBE_READS 16
#define PROBE_CHAINS 8

/* Keys and values, in the order of KvFormat. A page holds 32 tokens of a head: their values, then,
   for integers, a 16-bit scale for every 32 values of a token. */
#define KV_F32 0
#define KV_F16 1
#define KV_INT8 2
#define KV_INT4 3
#define PAGE_TOKENS 32
#define KV_BLOCK 32

/* The step buffer: what changes from call to call, in words. R = rows of the largest call. */
#define STEP_ROW_COUNT 0
#define STEP_LOGIT_COUNT 1
#define STEP_TOKENS 4
#define STEP_POSITIONS(R) (4 + (R))
#define STEP_PAGES(R) (4 + 2 * (R))
#define STEP_LOGIT_ROWS(R) (4 + 3 * (R))
#define STEP_ROPE(R) (4 + 4 * (R))
#define STEP_PAGE_LISTS(R, ropeWords) (4 + 4 * (R) + (R) * (ropeWords))

#ifdef __cplusplus
#include <cstdint>
namespace nibble::kernels {
using uint = std::uint32_t;
#endif

/* Where a tensor's planes lie in its buffer, in words, and how many records they hold. */
struct Planes {
    uint blocks;
    uint groups;
    uint supers;
    uint lowAt;
    uint highAt;
    uint scaleAt;
    uint superScaleAt;
    uint offsetAt;
    uint superOffsetAt;
    uint outliersAt; /* f16, [row tile][outlier column][16 rows] */
    uint columnsAt;  /* the outlier columns */
    uint columns;    /* how many */
    uint firstRow;   /* of the whole tensor: this part's */
    uint rows;       /* of the whole tensor, in this part */
};

struct PrepareArguments {
    uint width;
    uint sourceStride;
    uint blocks;
    uint stepRows;
    float epsilon;
};

struct ProductArguments {
    Planes planes;
    uint outStride;
    uint stepRows;
    uint headSize;
    uint ropeDims;
    uint ropeAt;  /* of the step buffer: cosines and sines of its rows; 0 = nothing rotates */
    uint listsAt; /* of the step buffer: its page lists */
    uint kvHeads;
    uint workgroups;  /* of all dispatches that share the tail */
    uint rows;        /* that the tail prepares */
    float scale;      /* of what is added */
    uint firstExpert; /* in the buffer, of how many, and their words each */
    uint experts;
    uint expertWords;
    PrepareArguments tail;
};

struct AttentionArguments {
    uint stepRows;
    uint listsAt;
    uint heads;
    uint kvHeads;
    uint queryStride;
    uint outStride;
    float scale;
    float cap;   /* scores become cap · tanh(score / cap); 0 = they stay */
    uint window; /* tokens that are attended to; 0 = all */
    uint workgroups;
    uint rows;
    PrepareArguments tail;
};

struct AddArguments {
    uint width;
    float scale;
    float epsilon;
    uint slots; /* that the shared expert's weights lie behind */
};

struct RouteArguments {
    uint width;
    float epsilon;
    float scale;
    uint slots;
};

struct ConvolutionArguments {
    uint width;
    uint taps;
    uint stepRows;
    uint listsAt;
};

struct StoreKvArguments {
    uint stepRows;
    uint listsAt;
    uint heads; /* of keys or values */
    uint headSize;
};

struct ProbeArguments {
    uint count; /* vectors of the buffer, or links of a chain */
    uint never; /* a value that no sum is likely to have */
};

struct EmbedArguments {
    Planes planes;
    uint outStride;
    uint stepRows;
    float scale;
};

#ifdef __cplusplus
} // namespace nibble::kernels
#endif
#endif
