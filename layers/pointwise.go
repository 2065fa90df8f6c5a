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
	None      = activation(cpu.None)
	SiLU      = activation(cpu.SiLU)      // x sigmoid(x)
	GELU      = activation(cpu.GELU)      // x Phi(x), by erf
	QuickGELU = activation(cpu.QuickGELU) // x sigmoid(1.702 x)
	GEGLU     = activation(cpu.GEGLU)     // first half times the GELU of the second (Shazeer 2020)
	GELUTanh  = activation(cpu.GELUTanh)  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016)
	ReLU      = activation(cpu.ReLU)      // max(x, 0)
	Tanh      = activation(cpu.Tanh)
)

func (a activation) String() string {
	return [...]string{None: "none", SiLU: "silu", GELU: "gelu", QuickGELU: "quick_gelu", GEGLU: "geglu",
		GELUTanh: "gelu_tanh", ReLU: "relu", Tanh: "tanh"}[a]
}

// InEpilogues reports whether products can apply the function to their result: epilogue.h has it.
func (a activation) InEpilogues() bool { return a <= GEGLU }

// activations are the functions by the names that transformers' ACT2FN and diffusers' get_activation have for them.
var activations = map[string]activation{
	"silu": SiLU, "swish": SiLU, "gelu": GELU, "gelu_python": GELU, "quick_gelu": QuickGELU, "relu": ReLU, "tanh": Tanh,
	"gelu_new": GELUTanh, "gelu_pytorch_tanh": GELUTanh, "gelu_fast": GELUTanh, "gelu_accurate": GELUTanh,
}

func activationOf(name string) (activation, error) {
	act, ok := activations[name]
	if !ok {
		known := slices.Sorted(maps.Keys(activations))
		return None, fmt.Errorf("activation %q is not one of %s", name, strings.Join(known, ", "))
	}
	return act, nil
}

// Define writes a(x) to y, which may be x.
func (a activation) Define(y, x []float32) {
	for i := range y {
		v := float64(x[i])
		switch a {
		case None:
		case SiLU:
			v /= 1 + math.Exp(-v)
		case GELU:
			v *= 0.5 * math.Erfc(-v/math.Sqrt2)
		case QuickGELU:
			v /= 1 + math.Exp(-1.702*v)
		case GEGLU:
			g := float64(x[len(x)/2+i])
			v *= g * 0.5 * math.Erfc(-g/math.Sqrt2)
		case GELUTanh:
			v *= 0.5 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
		case ReLU:
			v = max(v, 0)
		case Tanh:
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
	Act activation
}

func (k activate) String() string { return fmt.Sprintf("Activate{%v}", k.Act) }
func (k activate) Arity() int     { return 1 }

func (k activate) Infer(in []tensor.Shape) (tensor.Shape, error) {
	out := in[0].Clone()
	if k.Act == GEGLU {
		if last(out)%2 != 0 {
			return nil, shapeError(k, in)
		}
		out[len(out)-1] /= 2
	}
	return out, nil
}

func (k activate) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	x, c := in[0].F32(), last(shape)
	wide := last(in[0].Shape)
	for r := range rows(shape) {
		k.Act.Define(out[r*c:][:c], x[r*wide:][:wide])
	}
}

func (k activate) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	if k.Act == GEGLU {
		k.Define(out.F32(), out.Shape, in)
		return
	}
	p.Activate(out.F32(), in[0].F32(), cpu.Activation(k.Act))
}

func (k activate) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	if !k.Act.InEpilogues() {
		return pointwise("apply", out, func(p *pointwiseParams) { p.a, p.act = in[0].Ptr, int32(k.Act) })
	}
	return elementwise("activate", out, in, func(p *elementwiseParams) { p.Act = int32(k.Act) })
}

func (k activate) InPlace() []int {
	if k.Act == GEGLU {
		return nil
	}
	return []int{0}
}

// add is a + b.
//
//	a, b, result  [...]
type add struct{ plain }

func (k add) String() string { return "Add{}" }
func (k add) Arity() int     { return 2 }
func (k add) InPlace() []int { return []int{0, 1} }

func (k add) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if !in[0].Eq(in[1]) {
		return nil, shapeError(k, in)
	}
	return sameShape(in)
}

func (k add) Define(out []float32, _ tensor.Shape, in []program.Arg) {
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
func (k addChannels) Arity() int     { return 2 }
func (k addChannels) InPlace() []int { return []int{0} }

func (k addChannels) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if len(x) < 3 || !in[1].Eq(tensor.Shape{x[0], last(x)}) {
		return nil, shapeError(k, in)
	}
	return sameShape(in)
}

func (k addChannels) Define(out []float32, shape tensor.Shape, in []program.Arg) {
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
