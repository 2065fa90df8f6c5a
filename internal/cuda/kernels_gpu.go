//go:build gpu

package cuda

// #include <stdlib.h>
// #include <cuda.h>
// static CUresult get_function(CUfunction *f, CUmodule m, const char *name) { return cuModuleGetFunction(f, m, name); }
// static CUresult load(CUmodule *m, const char *image) { return cuModuleLoadData(m, image); }
// static CUresult unload(CUmodule m) { return cuModuleUnload(m); }
import "C"

import (
	"embed"
	"fmt"
	"strings"
	"unsafe"
)

// The driver compiles PTX for the GPU it finds, and keeps the result in its cache.
//
//go:embed kernels/*.ptx
var ptx embed.FS

// loadKernels looks every kernel up, once.
func (d *Device) loadKernels() error {
	files, err := ptx.ReadDir("kernels")
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_tensor.ptx") && !d.kernels.TensorCore {
			continue
		}
		if strings.HasSuffix(f.Name(), "_hopper.ptx") && !d.hopper {
			continue
		}
		text, err := ptx.ReadFile("kernels/" + f.Name())
		if err != nil {
			return err
		}
		if err := d.loadModule(string(text)); err != nil {
			return fmt.Errorf("kernels/%s: %w", f.Name(), err)
		}
	}
	return nil
}

func (d *Device) loadModule(text string) error {
	image := C.CString(text)
	defer C.free(unsafe.Pointer(image))
	var m C.CUmodule
	if err := d.result("cuModuleLoadData", C.load(&m, image)); err != nil {
		return err
	}
	d.free = append(d.free, func() error { return d.result("cuModuleUnload", C.unload(m)) })
	for _, name := range entries(text) {
		c := C.CString(name)
		f := &function{}
		err := d.result("cuModuleGetFunction", C.get_function(&f.f, m, c))
		C.free(unsafe.Pointer(c))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		d.functions[name] = f
		d.kernels.Names[name] = true
	}
	return nil
}

// entries are the names of the kernels in a text of PTX.
func entries(text string) []string {
	parts := strings.Split(text, "\n.visible .entry ")
	for i, p := range parts[1:] {
		parts[i], _, _ = strings.Cut(p, "(")
	}
	return parts[:len(parts)-1]
}
