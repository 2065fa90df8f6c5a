// Package op says what an op is: a Gorgonia op whose Do is its readable definition, with a host form and a device form
// beside it. The ops themselves are in packages ops and elem. Activations are channels-last.
//
// Shapes use one alphabet: B batch, H height, W width, C channels, S sequence, D head dimension; "..." stands
// for any number of leading dimensions.
package op

import (
	"fmt"
	"hash"
	"hash/fnv"
	"slices"

	"github.com/chewxy/hm"
	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/program"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Kind is one sort of op: a comparable value without state. Its String prints every field, since that is what
// Gorgonia hashes: nodes whose ops hash alike are merged.
type Kind interface {
	fmt.Stringer
	Arity() int
	Rank() int // of the result; 0: that of the first argument
	Infer(in []tensor.Shape) (tensor.Shape, error)
	Define(out []float32, shape tensor.Shape, in []program.Arg) // the definition; out is zero

	Layout(i int) program.Layout
	Host(p *cpu.Pool, out program.Arg, in []program.Arg)
	DeviceLayout(i int) program.Layout
	Float(i int) bool
	FloatResult() bool
	Scratch(k device.Kernels, out device.Arg, in []device.Arg) int
	Device(k device.Kernels, out device.Arg, in []device.Arg, scratch device.Ptr) ([]device.Kernel, error)
	Below(i int, in []tensor.Shape) int
	FLOPs(out tensor.Shape, in []tensor.Shape) int64
	InPlace() []int
	Fuse(next Kind, arg int, out tensor.Shape) Kind // nil: no fused form
}

// Plain is what most kinds answer.
type Plain struct{}

func (Plain) Rank() int                                            { return 0 }
func (Plain) Layout(int) program.Layout                            { return program.Plain }
func (Plain) DeviceLayout(int) program.Layout                      { return program.Plain }
func (Plain) Float(int) bool                                       { return false }
func (Plain) FloatResult() bool                                    { return false }
func (Plain) Scratch(device.Kernels, device.Arg, []device.Arg) int { return 0 }
func (Plain) Below(int, []tensor.Shape) int                        { return 0 }
func (Plain) FLOPs(tensor.Shape, []tensor.Shape) int64             { return 0 }
func (Plain) InPlace() []int                                       { return nil }
func (Plain) Fuse(Kind, int, tensor.Shape) Kind                    { return nil }

// SameShape is the result of kinds that keep the shape of their first argument.
func SameShape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

// Op makes a kind a Gorgonia op.
type Op struct{ Kind }

var _ program.Op = Op{}

func (o Op) ReturnsPtr() bool           { return false }
func (o Op) CallsExtern() bool          { return false }
func (o Op) OverwritesInput() int       { return -1 }
func (o Op) WriteHash(h hash.Hash)      { fmt.Fprint(h, o.String()) }
func (o Op) Hashcode() uint32           { h := fnv.New32a(); o.WriteHash(h); return h.Sum32() }
func (o Op) Format(f fmt.State, _ rune) { fmt.Fprint(f, o.String()) }

// Type takes tensors of any rank and type: shapes are checked by InferShape, which can say what is wrong.
// The variables stay clear of 'b, which Gorgonia's inference uses for the result.
func (o Op) Type() hm.Type {
	var t []hm.Type
	for i := range o.Arity() {
		t = append(t, hm.TypeVariable('p'+rune(i)))
	}
	if r := o.Rank(); r > 0 {
		return hm.NewFnType(append(t, G.TensorType{Dims: r, Of: tensor.Float32})...)
	}
	return hm.NewFnType(append(t, hm.TypeVariable('p'))...)
}

func (o Op) InferShape(ds ...G.DimSizer) (tensor.Shape, error) {
	in, err := G.DimSizersToShapes(ds)
	if err != nil {
		return nil, err
	}
	if len(in) != o.Arity() {
		return nil, fmt.Errorf("%v takes %d arguments, got %d", o.Kind, o.Arity(), len(in))
	}
	return o.Infer(in)
}

// Do runs the definition.
func (o Op) Do(vals ...G.Value) (G.Value, error) {
	in := make([]program.Arg, len(vals))
	shapes := make([]tensor.Shape, len(vals))
	for i, v := range vals {
		in[i].Shape, shapes[i] = v.Shape(), v.Shape()
		switch data := v.Data().(type) {
		case []float32:
			in[i].DType, in[i].Data = dtype.F32, program.Bytes(data)
		case []int32:
			in[i].DType, in[i].Data = dtype.I32, program.Bytes(data)
		default:
			return nil, fmt.Errorf("%v: argument %d is %T, want []float32 or []int32", o.Kind, i, data)
		}
	}
	shape, err := o.Infer(shapes)
	if err != nil {
		return nil, err
	}
	out := make([]float32, shape.TotalSize())
	o.Define(out, shape, in)
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(out)), nil
}

func (o Op) Fuse(next program.Op, arg int, out tensor.Shape) (program.Op, bool) {
	n, ok := next.(Op)
	if !ok {
		return nil, false
	}
	k := o.Kind.Fuse(n.Kind, arg, out)
	return Op{k}, k != nil
}

// Rows is the number of vectors of the last dimension.
func Rows(s tensor.Shape) int { return s.TotalSize() / s[len(s)-1] }

// Last is the size of the last dimension.
func Last(s tensor.Shape) int { return s[len(s)-1] }

// BadShapes reports shapes an op cannot take.
func BadShapes(k Kind, in []tensor.Shape) error {
	return fmt.Errorf("%v does not take shapes %v", k, in)
}

// Misfit is BadShapes with the shapes that are wanted.
func Misfit(k Kind, in []tensor.Shape, want string, args ...any) error {
	return fmt.Errorf("%w: want %s", BadShapes(k, in), fmt.Sprintf(want, args...))
}

// Count is how many are set: of settings, the arguments that they add.
func Count(bs ...bool) (n int) {
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}

// ShapeError reports an argument of an op that is not of a shape the op takes.
type ShapeError struct {
	Op, Arg string // the op with its settings, and the name that its documentation gives the argument
	Got     []int
	Want    string
}

func (e *ShapeError) Error() string {
	return fmt.Sprintf("%s: %s has shape %v, want %s", e.Op, e.Arg, e.Got, e.Want)
}

// WrongShape is a ShapeError of a kind.
func WrongShape(k Kind, arg string, got tensor.Shape, want string, a ...any) error {
	return &ShapeError{Op: k.String(), Arg: arg, Got: got.Clone(), Want: fmt.Sprintf(want, a...)}
}

// Same reports whether two shapes are equal in every dimension; Eq takes [1 C] and [C] for equal.
func Same(a, b tensor.Shape) bool { return slices.Equal(a, b) }
