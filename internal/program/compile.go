package program

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/size"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Program is a compiled graph: calls in execution order over values. It is data; Runner executes it.
type Program struct {
	Target  Target
	Values  []Value
	Calls   []Call
	Outputs []int // values that outlive the run
	Carried []carried
	Shared  int // bytes that come first in the device memory: see Share
	Arena   int // bytes of the activation arena
	Bound   int // the least any arena can be: the most bytes alive at once
}

// Kind is where a value comes from.
type Kind uint8

const (
	Activation Kind = iota // computed by a call
	Input                  // bound by the user before each run
	Weight                 // read from a source of weights, never written
	Constant               // part of the graph
)

// Value is one tensor of the program.
type Value struct {
	Node   *G.Node
	Name   string // the checkpoint name of a weight, the layer of anything else
	Kind   Kind
	Shape  tensor.Shape
	DType  dtype.Type
	Layout Layout
	Bytes  int  // as laid out, of all but weights: what they take depends on how they are stored, see Weights.WeightBytes
	Once   bool // an input whose value is the same in all passes of an image
	Shared bool // lies in what programs share
	Offset int  // in the arena, of activations; in what is shared
	Below  int  // its numbers are from 0 on and less; 0: whatever they are
	First  int  // call that writes it; of activations
	Last   int  // last call that reads it
}

// Call is one kernel call.
type Call struct {
	Op    G.Op
	Layer string // checkpoint name of the layer the call belongs to
	In    []int
	Out   int
	FLOPs int64

	Scratch int // an activation only this call uses, -1 for none
}

// Host returns the op's fast form, if it has one that the argument layouts allow.
func (c Call) Host() (Op, bool) {
	op, ok := c.Op.(Op)
	return op, ok
}

// Compile orders the nodes that outputs need, fuses neighbours, and plans the arena. isWeight says which leaf
// nodes a source of weights has. Nodes that are given are inputs, whatever computes them.
func Compile(t Target, outputs []*G.Node, isWeight func(name string) bool, given ...*G.Node) (*Program, error) {
	c := &compiler{value: map[place]int{}, isWeight: isWeight, given: given, prog: &Program{Target: t}}
	for _, n := range outputs {
		i, err := c.visit(n)
		if err != nil {
			return nil, err
		}
		c.prog.Outputs = append(c.prog.Outputs, i)
	}
	c.fuse()
	c.scratch()
	c.liveness()
	c.prog.place()
	return c.prog, c.bounds()
}

// bounds fills in what numbers leaves may hold, and checks those of constants.
func (c *compiler) bounds() error {
	p := c.prog
	for _, call := range p.Calls {
		op, ok := call.Host()
		for i, in := range call.In {
			if v := &p.Values[in]; ok && v.DType == dtype.I32 {
				if n := op.Below(i, p.shapes(call.In)); n > 0 && (v.Below == 0 || n < v.Below) {
					v.Below = n
				}
			}
		}
	}
	for i := range p.Values {
		v := &p.Values[i]
		if v.Kind != Constant || v.Below == 0 {
			continue
		}
		a, err := argOf(v.Node.Op().(constantOp).Value(), Plain)
		if err == nil {
			err = v.check(a)
		}
		if err != nil {
			return fmt.Errorf("constant %q: %w", v.Name, err)
		}
	}
	return nil
}

// check returns an error if a holds a number that is out of bounds.
func (v *Value) check(a Arg) error {
	if v.Below == 0 || a.DType != dtype.I32 {
		return nil
	}
	for i, n := range a.I32() {
		if n < 0 || int(n) >= v.Below {
			return fmt.Errorf("number %d, at place %d, is not from 0 to %d", n, i, v.Below-1)
		}
	}
	return nil
}

// place is a node in one layout.
type place struct {
	node   *G.Node
	layout Layout
}

type compiler struct {
	value    map[place]int
	isWeight func(string) bool
	given    []*G.Node
	prog     *Program
}

// visit adds n after its children, depth first, so calls come in the order a reader of the model expects.
func (c *compiler) visit(n *G.Node) (int, error) {
	if i, ok := c.value[place{n, Plain}]; ok {
		return i, nil
	}
	v := Value{Node: n, Name: n.Name(), Shape: n.Shape(), Last: -1, First: -1}
	var err error
	if v.DType, err = nodeType(n); err != nil {
		return 0, err
	}
	op := n.Op()
	if op != nil {
		op = Adapt(op, c.prog.Target.Kernels.Any())
	}
	if own, ok := op.(Op); v.DType == dtype.F32 && !(ok && own.FloatResult()) {
		v.DType = c.prog.Target.float()
	}
	var ok bool
	if v.Bytes, ok = size.Product(v.Shape...).Mul(size.Of(v.DType.Size())).Int(); !ok {
		return 0, fmt.Errorf("node %q of shape %v is too large", v.Name, v.Shape)
	}
	if op == nil || isConstant(op) || slices.Contains(c.given, n) {
		switch {
		case slices.Contains(c.given, n):
			v.Kind = Input
		case op != nil:
			v.Kind = Constant
		case c.isWeight(v.Name):
			v.Kind = Weight
		default:
			v.Kind = Input
		}
		return c.add(v), nil
	}

	call := Call{Op: op, Layer: v.Name, Scratch: -1}
	for it := n.Graph().From(n.ID()); it.Next(); {
		in, err := c.visit(it.Node().(*G.Node))
		if err != nil {
			return 0, err
		}
		call.In = append(call.In, in)
	}
	call = c.layouts(call)
	call.Out = c.add(v)
	c.prog.Calls = append(c.prog.Calls, call)
	return call.Out, nil
}

func (c *compiler) add(v Value) int {
	c.prog.Values = append(c.prog.Values, v)
	c.value[place{v.Node, v.Layout}] = len(c.prog.Values) - 1
	return len(c.prog.Values) - 1
}

// layouts gives each packed argument its layout: a leaf read in two layouts becomes two values. A matrix that
// is computed cannot be packed ahead, so a call that wants it packed runs on its definition.
func (c *compiler) layouts(call Call) Call {
	op, ok := call.Op.(Op)
	if !ok {
		return call
	}
	in := append([]int(nil), call.In...)
	for i := range in {
		v := c.prog.Values[in[i]]
		want := c.prog.Target.layout(op, i)
		if want == Plain && v.Kind == Weight && c.prog.Target.Kernels.Any() && !op.Float(i) {
			want = Rows // Plain would be float32, and the kernel reads the target's type
		}
		switch {
		case v.Kind == Activation && v.DType == dtype.I32 && op.Below(i, c.prog.shapes(call.In)) > 0:
			call.Op = plainOp{call.Op} // nobody but the definition checks what is computed
			return call
		case want == Plain && v.Kind == Activation && v.DType == dtype.F32 && c.prog.Target.float() != dtype.F32 && !op.Float(i):
			call.Op = plainOp{call.Op} // the kernel reads the target's type
			return call
		case want == Plain && op.Float(i) && v.DType.Float() && v.DType != dtype.F32 && v.Kind != Weight:
			if v.Kind == Activation {
				call.Op = plainOp{call.Op}
				return call
			}
			in[i] = c.leaf(v, Plain32)
		case want == Plain:
		case v.Kind == Activation:
			call.Op = plainOp{call.Op}
			return call
		default:
			in[i] = c.leaf(v, want)
		}
	}
	call.In = in
	return call
}

// leaf returns the value that holds v's node in the given layout.
func (c *compiler) leaf(v Value, l Layout) int {
	if i, ok := c.value[place{v.Node, l}]; ok {
		return i
	}
	v.Layout = l
	if l == Plain32 {
		v.DType, v.Bytes = dtype.F32, 4*v.Shape.TotalSize()
	}
	return c.add(v)
}

// scratch adds the memory that kernels need for themselves.
func (c *compiler) scratch() {
	if !c.prog.Target.Kernels.Any() {
		return
	}
	for i := range c.prog.Calls {
		call := &c.prog.Calls[i]
		op, ok := call.Host()
		if !ok {
			continue
		}
		args := make([]device.Arg, len(call.In))
		for k, v := range call.In {
			args[k] = c.arg(v)
		}
		if n := op.Scratch(c.prog.Target.Kernels, c.arg(call.Out), args); n > 0 {
			c.prog.Values = append(c.prog.Values, Value{Name: call.Layer, Shape: tensor.Shape{n}, Bytes: n, First: i, Last: i})
			call.Scratch = len(c.prog.Values) - 1
		}
	}
}

// arg is a value as kernels see it, without its place.
func (c *compiler) arg(i int) device.Arg {
	v := c.prog.Values[i]
	return device.Arg{Shape: v.Shape, DType: v.DType}
}

// plainOp hides an op's fast form.
type plainOp struct{ G.Op }

type constantOp interface{ Value() G.Value }

func isConstant(op G.Op) bool { _, ok := op.(constantOp); return ok }

func nodeType(n *G.Node) (dtype.Type, error) {
	switch n.Dtype() {
	case tensor.Float32:
		return dtype.F32, nil
	case tensor.Int32:
		return dtype.I32, nil
	}
	return dtype.Invalid, fmt.Errorf("node %q has element type %v; the VM runs float32 and int32", n.Name(), n.Dtype())
}
