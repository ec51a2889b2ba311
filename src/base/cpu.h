/* cpu.h: what this processor can do, and what it is allowed to use. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

#include <stdint.h>

enum cpu_flag {
    CPU_AVX2 = 1 << 0,   /* with FMA, BMI2 and F16C */
    CPU_AVX512 = 1 << 1, /* F, BW, DQ, VL */
    CPU_AVX512_BF16 = 1 << 2,
    CPU_AVX512_VNNI = 1 << 3,
    CPU_AMX = 1 << 4 /* tile, bf16, int8, and the kernel's permission */
};

/* The flags of this machine, found once; safe from any thread. */
uint32_t cpu_flags(void);

/* Cores this process may run on. */
int cpu_count(void);

#endif
