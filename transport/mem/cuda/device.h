/* device.h - NVIDIA's GPUs; the table is all of it. */
#ifndef FAR_TRANSPORT_MEM_CUDA_DEVICE_H
#define FAR_TRANSPORT_MEM_CUDA_DEVICE_H

#include "transport/mem/device.h"

extern const struct far_device_ops far_cuda_device_ops;

#endif
