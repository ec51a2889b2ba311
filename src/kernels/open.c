/* open.c: the devices. The only file that sees every folder of kernels. */
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/cuda.h"
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

static size_t host_room(struct device *device)
{
    (void)device;
    return 0;
}

static void host_finish(struct device *device) { (void)device; }

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
    device->host = true;
    device->take = device->stage = host_take;
    device->give = device->unstage = host_give;
    device->room = host_room;
    device->finish = host_finish;
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
    const bool cpu = strcmp(name, "cpu") == 0, cuda = strcmp(name, "cuda") == 0;
    if (!cpu && !cuda && strcmp(name, "ref") != 0) {
        error_set(err, GDN_ERR_USAGE, "device: found '%s', need 'cpu', 'cuda' or 'ref'", name);
        return NULL;
    }
    if (threads <= 0) threads = cpu_count();
    struct device *device = mem_take(sizeof *device);
    if (!device) {
        error_set(err, GDN_ERR_MEMORY, "no memory for a device");
        return NULL;
    }
    if (cuda) {
        if (cuda_open(device, err) != GDN_OK) {
            mem_give(device);
            return NULL;
        }
    } else {
        fill_host(device);
        (cpu ? fill_cpu : fill_ref)(device, mask);
    }
    device->pool = pool_open(cpu ? threads : 1);
    if (device->pool) return device;
    device_close(device);
    error_set(err, GDN_ERR_MEMORY, "no memory or threads for a pool of %d", threads);
    return NULL;
}

void device_close(struct device *device)
{
    if (!device) return;
    pool_close(device->pool);
    if (!device->host) cuda_close(device);
    mem_give(device);
}
