/* ops.c: the context of gdn/ops.h. */
#include "api/ops_frame.h"
#include "base/cpu.h"
#include "base/memory.h"

_Static_assert((int)GDN_ISA_AVX2 == (int)CPU_AVX2 && (int)GDN_ISA_AVX512 == (int)CPU_AVX512 &&
                   (int)GDN_ISA_AVX512_BF16 == (int)CPU_AVX512_BF16 &&
                   (int)GDN_ISA_AVX512_VNNI == (int)CPU_AVX512_VNNI &&
                   (int)GDN_ISA_AMX == (int)CPU_AMX,
               "the public bits are those of base/cpu.h");
_Static_assert((int)GDN_F16 != (int)GDN_F32 && (int)GDN_F16 != (int)GDN_BF16 &&
                   (int)GDN_F16 != (int)GDN_F64,
               "a type of its own");

enum gdn_status gdn_ops_open(const char *device, int threads, uint32_t isa, gdn_ops **ops,
                             struct gdn_error *err)
{
    struct gdn_error own = {0};
    if (!err) err = &own;
    if (!ops) return error_set(err, GDN_ERR_USAGE, "ops: found NULL, need a place for the context");
    *ops = NULL;
    TRY(count_check("threads", threads, 0, 1024, err));
    struct gdn_ops *made = mem_take(sizeof *made);
    if (!made) return error_set(err, GDN_ERR_MEMORY, "no memory for a context");
    made->device = device_open(device ? device : "cpu", threads, isa, err);
    if (!made->device) {
        mem_give(made);
        return err->status;
    }
    if (!made->device->host) {
        error_set(err, GDN_ERR_UNSUPPORTED, "ops: found device '%s', need 'cpu' or 'ref': the "
                  "arrays are the host's", device);
        gdn_ops_close(made);
        return GDN_ERR_UNSUPPORTED;
    }
    *ops = made;
    return GDN_OK;
}

uint32_t gdn_ops_isa(const gdn_ops *ops) { return ops ? ops->device->isa : 0; }

void gdn_ops_close(gdn_ops *ops)
{
    if (!ops) return;
    device_close(ops->device);
    mem_give(ops);
}
