package program

import (
	"strings"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Note [Ops of a program's own]
//
// Any Gorgonia op runs: Do is its definition. An op may say more, by the interfaces below. One with a HostForm is fast on
// the processor, one with a DeviceForm stays on a CUDA device; without that its definition runs on the host in between.
// What the op's String says must differ where its fields do, for Gorgonia merges nodes whose ops hash alike.

// HostForm is an op with a fast form for the processor.
type HostForm interface {
	G.Op
	// Host computes out from in, whose shapes are those that InferShape said. It must write all of out, which holds what
	// was in its place before.
	Host(t Threads, out Array, in []Array)
}

// Threads are those of the runtime. For calls body for every i from 0 to n-1; worker, below Threads, is a number that no two
// bodies running at the same time share.
type Threads interface {
	For(n int, body func(worker, i int))
	Threads() int
}

// Array is an argument or result of a HostForm, in row-major order.
type Array struct {
	Shape  tensor.Shape
	F32    []float32 // of float32 values
	I32    []int32   // of int32 values
	Stored []byte    // of a weight that the op wants AsStored, little-endian
	DType  string    // "f32", "i32"; of Stored what it is stored in: "f16", "bf16"
}

// DeviceForm is an op with kernels for CUDA devices, from the PTX of WithKernels.
type DeviceForm interface {
	G.Op
	// Kernels lists the launches that compute out from in, in order. It is called when a plan has given everything its
	// place, not in each pass.
	Kernels(out DeviceArray, in []DeviceArray) ([]Launch, error)
}

// DeviceArray is an argument or result of a DeviceForm, in row-major order in the device's memory.
type DeviceArray struct {
	Shape tensor.Shape
	DType string // "f16", "bf16", "f32" as DeviceOption has it; "i32"
	Ptr   uint64
}

// Launch is one launch of a kernel.
type Launch struct {
	Kernel string // .visible .entry of the PTX; it has one parameter, a struct
	Grid   [3]int // blocks; 0 is 1
	Block  int    // threads
	Shared int    // bytes of dynamic shared memory
	Params []byte // the struct: see Params
}

// Counted is an op whose work strategies and hooks know. A multiply-add is two.
type Counted interface {
	FLOPs(out tensor.Shape, in []tensor.Shape) int64
}

// InPlace is an op with a HostForm or a DeviceForm whose result may lie where an argument does, if nothing else reads
// that: those that InPlace lists.
type InPlace interface{ InPlace() []int }

// AsStored is an op with a HostForm or DeviceForm that reads a weight, argument i, as its source stores it, in place of
// float32. On a device weights are of the type it was opened for.
type AsStored interface{ AsStored(i int) bool }

// InFloat32 is an op with a DeviceForm whose argument i, or for i = -1 whose result, is float32 whatever type the device
// was opened for.
type InFloat32 interface{ InFloat32(i int) bool }

// Adapt makes an op of the user's one that programs run by its form for a target.
func Adapt(op G.Op, kernels bool) G.Op {
	if _, ok := op.(Op); ok {
		return op
	}
	_, host := op.(HostForm)
	_, dev := op.(DeviceForm)
	if host && !kernels || dev && kernels {
		return own{op}
	}
	return op
}

// own is an op of the user's as a Op.
type own struct{ G.Op }

func (o own) stored(i int) bool {
	s, ok := o.Op.(AsStored)
	return ok && s.AsStored(i)
}

func (o own) float32(i int) bool {
	f, ok := o.Op.(InFloat32)
	return ok && f.InFloat32(i)
}

func (o own) Layout(i int) Layout {
	if o.stored(i) {
		return Table
	}
	return Plain
}

func (o own) DeviceLayout(int) Layout { return Plain }
func (o own) Float(i int) bool        { return o.float32(i) }
func (o own) FloatResult() bool       { return o.float32(-1) }

func (o own) Scratch(device.Kernels, device.Arg, []device.Arg) int { return 0 }
func (o own) Below(int, []tensor.Shape) int                        { return 0 }

func (o own) Fuse(Op, int, tensor.Shape) (Op, bool) { return nil, false }

func (o own) FLOPs(out tensor.Shape, in []tensor.Shape) int64 {
	if c, ok := o.Op.(Counted); ok {
		return c.FLOPs(out, in)
	}
	return 0
}

func (o own) InPlace() []int {
	if p, ok := o.Op.(InPlace); ok {
		return p.InPlace()
	}
	return nil
}

func (o own) Host(p *cpu.Pool, out Arg, in []Arg) {
	arrays := make([]Array, len(in))
	for i := range in {
		arrays[i] = arrayOf(in[i], o.stored(i))
	}
	o.Op.(HostForm).Host(p, arrayOf(out, false), arrays)
}

func arrayOf(a Arg, stored bool) Array {
	r := Array{Shape: a.Shape, DType: strings.ToLower(a.DType.String())}
	switch {
	case stored:
		r.Stored = a.Data
	case a.DType == dtype.I32:
		r.I32 = a.I32()
	default:
		r.F32 = a.F32()
	}
	return r
}

func (o own) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	arrays := make([]DeviceArray, len(in))
	for i, a := range in {
		arrays[i] = DeviceArray{a.Shape, strings.ToLower(a.DType.String()), uint64(a.Ptr)}
	}
	launches, err := o.Op.(DeviceForm).Kernels(DeviceArray{out.Shape, strings.ToLower(out.DType.String()), uint64(out.Ptr)}, arrays)
	if err != nil {
		return nil, err
	}
	kernels := make([]device.Kernel, len(launches))
	for i, l := range launches {
		kernels[i] = device.Kernel{Name: l.Kernel, Block: l.Block, Shared: l.Shared, Params: l.Params}
		for k, n := range l.Grid {
			kernels[i].Grid[k] = max(n, 1)
		}
	}
	return kernels, nil
}
