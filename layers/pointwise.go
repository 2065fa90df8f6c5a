package layers

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// activation is a pointwise function.
type activation cpu.Activation

const (
	none      = activation(cpu.None)
	silu      = activation(cpu.SiLU)      // x sigmoid(x)
	gelu      = activation(cpu.GELU)      // x Phi(x), by erf
	quickGELU = activation(cpu.QuickGELU) // x sigmoid(1.702 x)
	geglu     = activation(cpu.GEGLU)     // first half times the GELU of the second (Shazeer 2020)
	geluTanh  = activation(cpu.GELUTanh)  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016)
	relu      = activation(cpu.ReLU)      // max(x, 0)
	tanh      = activation(cpu.Tanh)
)

func (a activation) String() string {
	return [...]string{none: "none", silu: "silu", gelu: "gelu", quickGELU: "quick_gelu", geglu: "geglu",
		geluTanh: "gelu_tanh", relu: "relu", tanh: "tanh"}[a]
}

// inEpilogues reports whether products can apply the function to their result: epilogue.h has it.
func (a activation) inEpilogues() bool { return a <= geglu }

// activations are the functions by the names that transformers' ACT2FN and diffusers' get_activation have for them.
var activations = map[string]activation{
	"silu": silu, "swish": silu, "gelu": gelu, "gelu_python": gelu, "quick_gelu": quickGELU, "relu": relu, "tanh": tanh,
	"gelu_new": geluTanh, "gelu_pytorch_tanh": geluTanh, "gelu_fast": geluTanh, "gelu_accurate": geluTanh,
}

func activationOf(name string) (activation, error) {
	act, ok := activations[name]
	if !ok {
		known := slices.Sorted(maps.Keys(activations))
		return none, fmt.Errorf("activation %q is not one of %s", name, strings.Join(known, ", "))
	}
	return act, nil
}

// define writes a(x) to y, which may be x.
func (a activation) define(y, x []float32) {
	for i := range y {
		v := float64(x[i])
		switch a {
		case none:
		case silu:
			v /= 1 + math.Exp(-v)
		case gelu:
			v *= 0.5 * math.Erfc(-v/math.Sqrt2)
		case quickGELU:
			v /= 1 + math.Exp(-1.702*v)
		case geglu:
			g := float64(x[len(x)/2+i])
			v *= g * 0.5 * math.Erfc(-g/math.Sqrt2)
		case geluTanh:
			v *= 0.5 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
		case relu:
			v = max(v, 0)
		case tanh:
			v = math.Tanh(v)
		}
		y[i] = float32(v)
	}
}

// activate applies a function to each element; geglu halves the last dimension.
//
//	x      [... C]
//	result [... C]   or C/2
type activate struct {
	plain
	act activation
}

func (k activate) String() string { return fmt.Sprintf("Activate{%v}", k.act) }
func (k activate) arity() int     { return 1 }

func (k activate) infer(in []tensor.Shape) (tensor.Shape, error) {
	out := in[0].Clone()
	if k.act == geglu {
		if last(out)%2 != 0 {
			return nil, shapeError(k, in)
		}
		out[len(out)-1] /= 2
	}
	return out, nil
}

func (k activate) define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, c := in[0].F32(), last(shape)
	wide := last(in[0].Shape)
	for r := range rows(shape) {
		k.act.define(out[r*c:][:c], x[r*wide:][:wide])
	}
}

func (k activate) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if k.act == geglu {
		k.define(out.F32(), out.Shape, in)
		return
	}
	p.Activate(out.F32(), in[0].F32(), cpu.Activation(k.act))
}

func (k activate) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	if !k.act.inEpilogues() {
		return pointwise("apply", out, func(p *pointwiseParams) { p.a, p.act = in[0].Ptr, int32(k.act) })
	}
	return elementwise("activate", out, in, func(p *elementwiseParams) { p.act = int32(k.act) })
}

func (k activate) InPlace() []int {
	if k.act == geglu {
		return nil
	}
	return []int{0}
}

// add is a + b.
//
//	a, b, result  [...]
type add struct{ plain }

func (k add) String() string { return "Add{}" }
func (k add) arity() int     { return 2 }
func (k add) InPlace() []int { return []int{0, 1} }

func (k add) infer(in []tensor.Shape) (tensor.Shape, error) {
	if !in[0].Eq(in[1]) {
		return nil, shapeError(k, in)
	}
	return sameShape(in)
}

func (k add) define(out []float32, _ tensor.Shape, in []program.Arg) {
	a, b := in[0].F32(), in[1].F32()
	for i := range out {
		out[i] = a[i] + b[i]
	}
}

func (k add) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Add(out.F32(), in[0].F32(), in[1].F32())
}

func (k add) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return elementwise("add", out, in, nil)
}

// addChannels adds one vector to every pixel of an image.
//
//	x      [B ... C]
//	ch     [B C]
//	result [B ... C]
type addChannels struct{ plain }

func (k addChannels) String() string { return "AddChannels{}" }
func (k addChannels) arity() int     { return 2 }
func (k addChannels) InPlace() []int { return []int{0} }

func (k addChannels) infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) < 3 || !in[1].Eq(tensor.Shape{x[0], last(x)}) {
		return nil, shapeError(k, in)
	}
	return sameShape(in)
}

func (k addChannels) define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, ch := in[0].F32(), in[1].F32()
	c := last(shape)
	image := len(out) / shape[0]
	for i := range out {
		out[i] = x[i] + ch[i/image*c+i%c]
	}
}

func (k addChannels) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	s := out.Shape
	p.AddChannels(out.F32(), in[0].F32(), s[0], rows(s)/s[0], last(s), in[1].F32())
}

func (k addChannels) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	return elementwise("add_channels", out, in, nil)
}
