/* nocuda.c: what stands for kernels/cuda in a build without nvcc. */
#include "kernels/cuda/cuda.h"

enum gdn_status cuda_open(struct device *device, struct gdn_error *err)
{
    (void)device;
    return error_set(err, GDN_ERR_UNSUPPORTED, "device: found 'cuda', this build has 'cpu' and "
                     "'ref' (it was made without nvcc)");
}

void cuda_close(struct device *device) { (void)device; }
