//go:build gpu

package cuda

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include "include/cuda_tensor_map.h"

// Drivers older than CUDA 12.0 lack the function, so it is no symbol that a binary needs: it is looked up when asked for.
static void *find_encode(void) { return dlsym(RTLD_DEFAULT, "cuTensorMapEncodeTiled"); }

static CUresult encode(void *found, void *map, int type, CUdeviceptr at, cuuint64_t columns, cuuint64_t rows, cuuint32_t box_rows) {
	CUtensorMap m; // aligned as the driver wants it, which Go memory need not be
	cuuint64_t dims[] = {columns, rows}, strides[] = {columns * 2};
	cuuint32_t box[] = {64, box_rows}, steps[] = {1, 1};
	CUresult r = ((__typeof__(cuTensorMapEncodeTiled) *)found)(&m, (CUtensorMapDataType)type, 2, (void *)at, dims, strides, box, steps,
		CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	memcpy(map, &m, sizeof m);
	return r;
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
)

// wantHopper has the kernels for compute capability 9.0 loaded. They are asked for, so that they cannot be is an error.
func (d *Device) wantHopper(ordinal, major, minor int) error {
	if major != 9 || minor != 0 {
		return fmt.Errorf("EURYALE_HOPPER=1 asks for kernels of compute capability 9.0; cuda:%d, a %s, has %d.%d", ordinal, d.name, major, minor)
	}
	encode := C.find_encode()
	if encode == nil {
		return fmt.Errorf("EURYALE_HOPPER=1 needs a driver for CUDA 12.0 or newer: that of cuda:%d has no cuTensorMapEncodeTiled", ordinal)
	}
	d.hopper = true
	d.kernels.Boxes = func(m device.Matrix) (t device.TensorMap, err error) {
		types := map[dtype.Type]C.int{dtype.F16: C.CU_TENSOR_MAP_DATA_TYPE_FLOAT16, dtype.BF16: C.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16}
		typ, ok := types[m.DType]
		if !ok {
			return t, fmt.Errorf("no tensor map of %v", m.DType)
		}
		err = d.within(func() error {
			return d.result("cuTensorMapEncodeTiled", C.encode(encode, unsafe.Pointer(&t), typ, C.CUdeviceptr(m.Ptr),
				C.cuuint64_t(m.Columns), C.cuuint64_t(m.Rows), C.cuuint32_t(m.BoxRows)))
		})
		return t, err
	}
	return nil
}
