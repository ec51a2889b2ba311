#include "base/cpu.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

static uint64_t enabled_state(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool bit(uint32_t word, int n) { return (word >> n & 1) != 0; }

/* Tiles need the system's word. That it is refused is said once: then the fast mode is slower. */
static bool tiles_permitted(void)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0) return true;
    if (!atomic_flag_test_and_set(&said))
        log_line(LOG_WARN, "this processor has AMX, but the system does not permit it");
    return false;
}

uint32_t cpu_flags(void)
{
    uint32_t a, b, c, d, b7, c7, d7, a71 = 0, unused;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    if (a >= 1) __get_cpuid_count(7, 1, &a71, &unused, &unused, &unused);
    uint64_t state = enabled_state();
    uint32_t flags = 0;
    bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6;
    if (ymm && bit(b7, 5) && bit(b7, 8) && bit(c, 12) && bit(c, 29)) flags |= CPU_AVX2;
    if (zmm && bit(b7, 16) && bit(b7, 17) && bit(b7, 30) && bit(b7, 31)) {
        flags |= CPU_AVX512;
        if (bit(a71, 5)) flags |= CPU_AVX512_BF16;
        if (bit(c7, 11)) flags |= CPU_AVX512_VNNI;
    }
    bool tiles = (state >> 17 & 3) == 3 && bit(d7, 22) && bit(d7, 24) && bit(d7, 25);
    if (tiles && tiles_permitted()) flags |= CPU_AMX;
    return flags;
}
#else
uint32_t cpu_flags(void) { return 0; }
#endif

int cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}
