package graphs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/internal/stack"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// VM runs one expression graph. It is a gorgonia.VM: a graph that runs on Gorgonia's TapeMachine runs here and
// gives the same numbers, faster and in less memory. Graphs may mix nodes of package layers with plain
// Gorgonia operations; float32 and int32 values are run.
//
// Leaves are bound with gorgonia.Let, except those that a source of WithWeights has. After a run the
// output nodes hold their values, and gorgonia.Read works; other nodes hold none, since their memory is used
// again. A VM may be used from several goroutines, which take turns.
type VM struct {
	host    *host
	prog    *program.Program
	runner  *program.Runner // for runs without a plan; nil until the first, which loads the weights
	rt      *Runtime        // that it was compiled into
	owner   bool            // of the runtime: NewVM made it
	closed  atomic.Bool
	freed   int // of the host, when the runner was made
	outputs []*G.Node
	given   []*G.Node // see CompileOptions
	reads   []read
	kept    map[int]G.Value // outputs of Stage.Keep: memory that is used again, since nobody else has it
}

var _ G.VM = (*VM)(nil)

// WithOutputs names the nodes that NewVM computes; by default the graph's roots.
func WithOutputs(nodes ...*G.Node) Option {
	return option(func(o *options) { o.outputs = nodes; o.onlyFor("a VM", "WithOutputs") })
}

// NewVM compiles a graph into a runtime of its own: what Open, Compile and Run do for one graph that is run by
// itself. The graph must not change afterwards.
func NewVM(g *G.ExprGraph, opts ...Option) (vm *VM, err error) {
	defer stack.Add(&err)
	if g == nil {
		return nil, errors.New("the graph is nil")
	}
	rt, err := open("a VM", opts)
	if err != nil {
		return nil, err
	}
	vm, err = rt.compile(g, rt.opt.outputs, CompileOptions{})
	if err != nil {
		return nil, errors.Join(err, rt.Close())
	}
	vm.owner = true
	return vm, nil
}

// checkNodes refuses nodes that are nil or of another graph.
func checkNodes(what string, g *G.ExprGraph, nodes []*G.Node) error {
	for i, n := range nodes {
		switch {
		case n == nil:
			return fmt.Errorf("%s %d is nil", what, i)
		case n.Graph() != g:
			return fmt.Errorf("%s %d, %q, is of another graph", what, i, n.Name())
		}
	}
	return nil
}

// compile makes a VM for the outputs, by default the graph's roots, that shares the host's weights, threads and arena.
func (h *host) compile(g *G.ExprGraph, outputs []*G.Node, o CompileOptions) (vm *VM, err error) {
	defer panics.Recovered(&err)
	if err := checkNodes("output", g, outputs); err != nil {
		return nil, err
	}
	if err := checkNodes("given node", g, o.Given); err != nil {
		return nil, err
	}
	if outputs == nil {
		outputs = g.Roots()
		// Roots come from a map.
		slices.SortFunc(outputs, func(a, b *G.Node) int { return int(a.ID() - b.ID()) })
	}
	vm = &VM{host: h, given: o.Given}
	for _, n := range outputs {
		if into, child, ok := program.ReadNode(n); ok {
			vm.reads = append(vm.reads, read{len(vm.outputs), into})
			n = child
		}
		vm.outputs = append(vm.outputs, n)
	}
	vm.prog, err = program.Compile(h.target(o.Float32), vm.outputs, h.weights.Has, o.Given...)
	return vm, err
}

// RunAll runs the graph once.
func (vm *VM) RunAll() error { return vm.Run(context.Background()) }

// Run runs the graph once, as a list of one stage. The context is checked while it waits for other runs and before
// each operation.
func (vm *VM) Run(ctx context.Context) error {
	_, err := vm.rt.Run(ctx, []Stage{{VM: vm}})
	return err
}

// onHost is the runner for runs without a plan.
func (vm *VM) onHost(ctx context.Context) (*program.Runner, error) {
	h := vm.host
	if vm.runner != nil && vm.freed == h.freed {
		return vm.runner, nil
	}
	if err := h.checkMemory(vm.prog, max(0, vm.prog.Arena-h.arena.Bytes())); err != nil {
		return nil, err
	}
	r, err := program.NewRunner(ctx, vm.prog, h.pool, h.weights, h.arena)
	if err != nil {
		return nil, err
	}
	vm.runner, vm.freed = r, h.freed
	return r, nil
}

// checkMemory refuses a graph whose weights and more bytes cannot fit before anything is allocated: a system that
// promises more memory than it has may end the process later.
func (h *host) checkMemory(p *program.Program, more int) error {
	return h.memory.Room(int64(h.weights.Missing(p)) + int64(more))
}

// Reset does nothing: every run starts at the beginning.
func (vm *VM) Reset() {}

// Close ends the VM: every later run returns ErrClosed; values of nodes stay. That of NewVM ends its threads, too,
// and the current run. Close may be called from any goroutine, but not by an op, and more than once.
func (vm *VM) Close() error {
	vm.closed.Store(true)
	if vm.owner {
		return vm.rt.Close()
	}
	return nil
}

// Stats says what a compiled graph takes.
type Stats struct {
	Calls       int   // kernel calls per run
	FLOPs       int64 // of matrix products, convolutions and attention per run
	WeightBytes int   // weights held, by all VMs of the runtime
	ArenaBytes  int   // memory for activations
	BoundBytes  int   // the most bytes of activations alive at once: no arena can be smaller
}

// Stats is what the VM's graph takes; weights count once loaded.
func (vm *VM) Stats() Stats {
	s := Stats{
		Calls: len(vm.prog.Calls), ArenaBytes: vm.prog.Arena, BoundBytes: vm.prog.Bound,
		WeightBytes: vm.host.weights.Bytes(),
	}
	for _, c := range vm.prog.Calls {
		s.FLOPs += c.FLOPs
	}
	return s
}

// PanicError is a panic inside an op, Gorgonia or tensor that a call of this package ran into. VM and pipeline can
// be used afterwards.
type PanicError = panics.Error

// read is a gorgonia.Read of one output.
type read struct {
	output int
	into   *G.Value
}

// Bind gives a leaf memory of its own, zeros, and returns it: what is written there is the leaf's value in later runs.
func Bind[T float32 | int32](n *G.Node) ([]T, error) {
	if n == nil {
		return nil, stack.With(errors.New("the leaf is nil"))
	}
	data := make([]T, n.Shape().TotalSize())
	return data, stack.With(G.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(data))))
}
