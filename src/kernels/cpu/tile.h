/* tile.h: the eight AMX tiles as eight numbered registers, all of one shape: 16 rows of 64 bytes.
 *
 *     tile_dp(c, a, b):   c[i][j] += sum over p < 16 of a[i][2p] b[p][2j] + a[i][2p+1] b[p][2j+1]
 *
 * a holds bf16 rows, b holds bf16 pairs of rows ("pair p of column j"), c holds f32. Every tile is
 * written by inline assembly that clobbers memory: gcc 12's intrinsics tell the compiler about 8
 * of the 64 bytes of a configuration and nothing about a tile's memory, and then read stale data.
 * Tile numbers must be constants after inlining.
 *
 * With GDN_TILE_EMULATED the same names are plain C: the tests of the algebra run everywhere. */
#ifndef KERNELS_CPU_TILE_H
#define KERNELS_CPU_TILE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TILE_ROWS = 16, TILE_BYTES = 64, TILE_SIZE = TILE_ROWS * TILE_BYTES };

#define TILE_INLINE static inline __attribute__((always_inline))

#ifndef GDN_TILE_EMULATED

/* Palette 1, eight tiles of 16 rows of 64 bytes. Every thread, before its first tile. Rows of a product
 * are its time: where c and a have few, tiles 0, 1 and 5 are opened with so many. */
TILE_INLINE void tile_open_few(int rows)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.row_bytes[i] = TILE_BYTES, config.rows[i] = TILE_ROWS;
    config.rows[0] = config.rows[1] = config.rows[5] = (uint8_t)rows;
    __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

TILE_INLINE void tile_open(void) { tile_open_few(TILE_ROWS); }

/* Back to the state in which the system has no tiles to save. */
TILE_INLINE void tile_close(void) { __asm__ volatile("tilerelease" : : : "memory"); }

TILE_INLINE void tile_zero(int t) { __asm__ volatile("tilezero %%tmm%c0" : : "i"(t)); }

/* 16 rows of 64 bytes, `stride` bytes apart. */
TILE_INLINE void tile_load(int t, const void *at, size_t stride)
{
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(t), "r"(at), "r"(stride) : "memory");
}

/* The same for operands that are read once: they pass by L1, where the state lives. */
TILE_INLINE void tile_load_once(int t, const void *at, size_t stride)
{
    __asm__ volatile("tileloaddt1 (%1,%2,1), %%tmm%c0" : : "i"(t), "r"(at), "r"(stride) : "memory");
}

TILE_INLINE void tile_store(int t, void *at, size_t stride)
{
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(t), "r"(at), "r"(stride) : "memory");
}

TILE_INLINE void tile_dp(int c, int a, int b)
{
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
}

#else

static _Thread_local union {
    uint8_t byte[TILE_SIZE];
    uint16_t half[TILE_ROWS][TILE_BYTES / 2];
    float f32[TILE_ROWS][TILE_BYTES / 4];
} tile_emulated[8];

static inline void tile_open(void) { memset(tile_emulated, 0, sizeof tile_emulated); }
static inline void tile_open_few(int rows) { (void)rows, tile_open(); } /* the other rows are 16's */
static inline void tile_close(void) {}
static inline void tile_zero(int t) { memset(&tile_emulated[t], 0, TILE_SIZE); }

static inline void tile_load(int t, const void *at, size_t stride)
{
    for (size_t r = 0; r < TILE_ROWS; r++)
        memcpy(tile_emulated[t].byte + r * TILE_BYTES, (const char *)at + r * stride, TILE_BYTES);
}

static inline void tile_load_once(int t, const void *at, size_t stride)
{
    tile_load(t, at, stride);
}

static inline void tile_store(int t, void *at, size_t stride)
{
    for (size_t r = 0; r < TILE_ROWS; r++)
        memcpy((char *)at + r * stride, tile_emulated[t].byte + r * TILE_BYTES, TILE_BYTES);
}

static inline float tile_wide(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void tile_dp(int c, int a, int b)
{
    enum { COLUMNS = TILE_BYTES / 4 };
    float wide[2 * TILE_ROWS][COLUMNS];
    for (int p = 0; p < 2 * TILE_ROWS; p++)
        for (int j = 0; j < COLUMNS; j++)
            wide[p][j] = tile_wide(tile_emulated[b].half[p / 2][2 * j + p % 2]);
    for (int i = 0; i < TILE_ROWS; i++)
        for (int p = 0; p < 2 * TILE_ROWS; p++) {
            const float x = tile_wide(tile_emulated[a].half[i][p]);
            for (int j = 0; j < COLUMNS; j++) tile_emulated[c].f32[i][j] += x * wide[p][j];
        }
}

#endif
#endif
