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
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// The driver compiles PTX for the GPU it finds, which takes seconds for all there is, and keeps the result in its cache. So
// a file is loaded when the first of its kernels is wanted.
//
//go:embed kernels/*.ptx
var ptx embed.FS

type function struct {
	file   string       // of ptx, or what AddPTX named its text
	text   string       // of AddPTX
	f      C.CUfunction // nil until the file is loaded
	shared int          // bytes of dynamic shared memory it may use
}

// listKernels says which kernels the device has.
func (d *Device) listKernels() error {
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
		for _, name := range entries(string(text)) {
			d.functions[name] = &function{file: "kernels/" + f.Name()}
			d.kernels.Names[name] = true
		}
	}
	d.kernels.Load = func(name string) error {
		return d.within(func() error { _, err := d.function(name); return err })
	}
	return nil
}

// function is a kernel, its file loaded.
func (d *Device) function(name string) (*function, error) {
	f, ok := d.functions[name]
	if !ok {
		return nil, fmt.Errorf("there is no kernel %s", name)
	}
	d.loading.Lock()
	defer d.loading.Unlock()
	if f.f != nil {
		return f, nil
	}
	if err := d.loadModule(f); err != nil {
		return nil, fmt.Errorf("%s: %w", f.file, err)
	}
	return f, nil
}

// AddPTX adds kernels of a program's own. They are loaded when they are wanted, too.
func (d *Device) AddPTX(text string) error {
	names := entries(text)
	if len(names) == 0 {
		return errors.New("the PTX has no .visible .entry")
	}
	for _, name := range names {
		if d.kernels.Names[name] {
			return fmt.Errorf("there is a kernel %s already", name)
		}
		d.functions[name] = &function{file: "the program's PTX", text: text}
		d.kernels.Names[name] = true
	}
	return nil
}

func (d *Device) loadModule(f *function) error {
	text := f.text
	if text == "" {
		b, err := ptx.ReadFile(f.file)
		if err != nil {
			return err
		}
		text = string(b)
	}
	image := C.CString(text)
	defer C.free(unsafe.Pointer(image))
	var m C.CUmodule
	if err := d.result("cuModuleLoadData", C.load(&m, image)); err != nil {
		return err
	}
	d.free = append(d.free, func() error { return d.result("cuModuleUnload", C.unload(m)) })
	for _, name := range entries(text) {
		c := C.CString(name)
		err := d.result("cuModuleGetFunction", C.get_function(&d.functions[name].f, m, c))
		C.free(unsafe.Pointer(c))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
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
