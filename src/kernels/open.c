/* open.c: the devices. The only file that sees every folder of kernels. */
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"
#include "tensor/device.h"

/* ---- host memory, shared by "ref" and "cpu" ---------------------------------------------------- */

static void *host_take(struct device *device, size_t bytes)
{
    (void)device;
    return mem_take(bytes);
}

static void host_give(struct device *device, void *block)
{
    (void)device;
    mem_give(block);
}

static void host_copy(struct device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
}

static void host_clear(struct device *device, void *to, size_t bytes)
{
    (void)device;
    memset(to, 0, bytes);
}

static bool host_arena_open(struct device *device, struct arena *arena, size_t bytes)
{
    (void)device;
    return arena_open(arena, bytes);
}

static void host_arena_close(struct device *device, struct arena *arena)
{
    (void)device;
    arena_close(arena);
}

static void fill_host(struct device *device)
{
    device->take = host_take;
    device->give = host_give;
    device->upload = device->download = device->copy = host_copy;
    device->clear = host_clear;
    device->arena_open = host_arena_open;
    device->arena_close = host_arena_close;
}

/* ---- the two host devices ------------------------------------------------------------------------ */

static void fill_ref(struct device *device, uint32_t mask)
{
    (void)mask;
    device->name = "ref";
    device->wide = DTYPE_F64;
    device->anchor_elements = ref_anchor_elements;
    device->anchor_pack = ref_anchor_pack;
    device->anchor_unpack = ref_anchor_unpack;
    ref_fill(device);
}

/* Slots stay the reference's until a kernel of its own fills them. */
static void fill_cpu(struct device *device, uint32_t mask)
{
    device->name = "cpu";
    device->wide = DTYPE_F32;
    device->anchor_elements = cpu_anchor_elements;
    device->anchor_pack = cpu_anchor_pack;
    device->anchor_unpack = cpu_anchor_unpack;
    device->isa = cpu_flags() & mask;
    ref_fill(device);
    cpu_fill(device, device->isa);
}

struct device *device_open(const char *name, int threads, uint32_t mask, struct gdn_error *err)
{
    const bool cpu = strcmp(name, "cpu") == 0;
    if (!cpu && strcmp(name, "ref") != 0) {
        error_set(err, strcmp(name, "cuda") == 0 ? GDN_ERR_UNSUPPORTED : GDN_ERR_USAGE,
                  "device: found '%s', this build has 'cpu' and 'ref'", name);
        return NULL;
    }
    if (threads <= 0) threads = cpu_count();
    struct device *device = mem_take(sizeof *device);
    if (!device) {
        error_set(err, GDN_ERR_MEMORY, "no memory for a device");
        return NULL;
    }
    fill_host(device);
    (cpu ? fill_cpu : fill_ref)(device, mask);
    device->pool = pool_open(cpu ? threads : 1);
    if (!device->pool) {
        mem_give(device);
        error_set(err, GDN_ERR_MEMORY, "no memory or threads for a pool of %d", threads);
        return NULL;
    }
    return device;
}

void device_close(struct device *device)
{
    if (!device) return;
    pool_close(device->pool);
    mem_give(device);
}
