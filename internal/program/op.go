// Package program compiles a Gorgonia expression graph into a linear list of kernel calls over one arena, and
// runs it on the host.
package program

import (
	"fmt"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Layout is how an argument of an op lies in memory.
type Layout uint8

const (
	Plain        Layout = iota // row-major float32 or int32, as the node's shape says
	Table                      // row-major in the stored dtype; rows are looked up
	LinearPanels               // a [out in] matrix in cpu.Panels
	ConvPanels                 // an [out in kh kw] or [out in k] filter in cpu.Panels

	// On a device with kernels.
	Rows    // row-major in the target's type
	Taps    // an [out in kh kw] filter as [out kh kw in] in the target's type, [out in k] as [out k in]
	Plain32 // row-major float32, of an input
)

// Target is what a program is compiled for. The zero value is the host: float32, and ops' host forms.
type Target struct {
	Kernels device.Kernels
	DType   dtype.Type // of activations and matrices; F32 on the host
}

func (t Target) float() dtype.Type {
	if t.Kernels.Any() {
		return t.DType
	}
	return dtype.F32
}

// layout is how an op wants its argument i stored.
func (t Target) layout(op Op, i int) Layout {
	if t.Kernels.Any() {
		return op.DeviceLayout(i)
	}
	return op.Layout(i)
}

// Op is a Gorgonia op with a fast host form and a device form. Its Do stays the definition.
type Op interface {
	G.Op

	// Layout says how the op wants argument i stored.
	Layout(i int) Layout
	// Host computes out from in. The shapes have been checked.
	Host(p *cpu.Pool, out Arg, in []Arg)

	// DeviceLayout is Layout for kernels.
	DeviceLayout(i int) Layout
	// Float reports that kernels read argument i as float32 whatever the target's type. Weights in layout Plain are.
	Float(i int) bool
	// FloatResult reports that kernels write float32 whatever the target's type.
	FloatResult() bool
	// Scratch is the bytes that kernels use besides arguments and result. The arguments are Device's, without places.
	Scratch(k device.Kernels, out device.Arg, in []device.Arg) int
	// Device lists the launches that compute out from in.
	Device(k device.Kernels, out device.Arg, in []device.Arg, scratch device.Ptr) ([]device.Kernel, error)

	// Below bounds the numbers of argument i, which are not negative: they are places in another argument. 0: there is no
	// bound.
	Below(i int, in []tensor.Shape) int
	// FLOPs counts a multiply-add as two; data movement and pointwise work count nothing.
	FLOPs(out tensor.Shape, in []tensor.Shape) int64
	// InPlace lists the arguments whose memory the result may take over.
	InPlace() []int
	// Fuse returns the op that does this one and then next, which reads this one's result as argument arg.
	// Its arguments are this op's and then next's others.
	Fuse(next Op, arg int, out tensor.Shape) (Op, bool)
}

// Arg is one argument of a kernel call: a shape and the bytes behind it.
type Arg struct {
	Shape tensor.Shape
	DType dtype.Type
	Data  []byte
}

// F32 views the argument's bytes as float32.
func (a Arg) F32() []float32 { return view[float32](a, dtype.F32) }

// I32 views the argument's bytes as int32.
func (a Arg) I32() []int32 { return view[int32](a, dtype.I32) }

// Panels views a packed weight. Every dimension but the first is summed over.
func (a Arg) Panels() cpu.Panels {
	n := a.Shape[0]
	return cpu.Panels{Data: a.Data, DType: a.DType, N: n, K: a.Shape.TotalSize() / n}
}

func view[T float32 | int32](a Arg, want dtype.Type) []T {
	if a.DType != want {
		panic(fmt.Sprintf("program: a %v argument read as %v", a.DType, want))
	}
	if len(a.Data) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&a.Data[0])), len(a.Data)/4)
}

// Bytes views a float32 or int32 slice as bytes.
func Bytes[T float32 | int32](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), 4*len(s))
}

// taps is the number of pixels that a filter [out in kh kw] or [out in k] sees.
func taps(filter tensor.Shape) int { return filter[2:].TotalSize() }

// Packed is the number of bytes a weight of this shape and dtype takes in a layout. Vectors are kept in
// float32, since every kernel adds them in float32.
func Packed(l Layout, shape tensor.Shape, t dtype.Type) int {
	switch l {
	case LinearPanels, ConvPanels:
		return cpu.PanelBytes(shape[0], shape.TotalSize()/shape[0], t)
	case Table, Rows, Taps:
		return shape.TotalSize() * t.Size()
	}
	return shape.TotalSize() * 4
}

// held is the type in which the target holds a weight stored as t.
func (t Target) held(l Layout, stored dtype.Type) dtype.Type {
	switch {
	case l == Plain:
		return dtype.F32
	case t.Kernels.Any():
		return t.DType
	}
	return stored
}

// pack lays the stored bytes of a weight out as a kernel of the target reads them.
func (t Target) pack(pool *cpu.Pool, dst, src []byte, l Layout, shape tensor.Shape, stored dtype.Type) dtype.Type {
	if !t.Kernels.Any() || l == Plain {
		return Pack(dst, src, l, shape, stored)
	}
	if l == Taps && taps(shape) > 1 {
		pool.Taps(dst, t.DType, src, stored, shape[0], shape[1], taps(shape))
		return t.DType
	}
	pool.Convert(dst, t.DType, src, stored)
	return t.DType
}

// Pack lays the stored bytes of a weight out for its kernel and returns the dtype they then have.
func Pack(dst, src []byte, l Layout, shape tensor.Shape, t dtype.Type) dtype.Type {
	switch l {
	case LinearPanels:
		cpu.PackLinear(dst, src, t, shape[0], shape.TotalSize()/shape[0])
	case ConvPanels:
		cpu.PackConv(dst, src, t, shape[0], shape[1], taps(shape), 1) // only their number counts
	case Table:
		copy(dst, src)
	default:
		dtype.ToF32(Arg{DType: dtype.F32, Data: dst}.F32(), src, t)
		return dtype.F32
	}
	return t
}
