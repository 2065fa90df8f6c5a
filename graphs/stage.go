package graphs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/program"
	G "gorgonia.org/gorgonia"
)

// Note [Stages]
//
// What runs under one plan is a list of stages: compiled graphs, each with the number of its passes. The list is the
// run: it is planned, verified and executed from the same value. Between Begin and End a caller runs passes in the
// list's order, with any Go code in between. A loop may end before all of its passes are run, and stages may be left
// out; their copies are then left out too. A pass that the list does not have next is a *StageError.

// Stage is a compiled graph, and how often it runs before the next.
type Stage struct {
	VM     *VM
	Passes int // 0 is one
	// Component and Name are what plans, traces, hooks and errors call the stage; "graph" by default.
	Component, Name string

	// Carry lists inputs whose values are, in every pass but the first, what an output was in the pass before. The
	// value is written where the input has its own, and both nodes have it then; on a device it stays there until the
	// last pass, unless Fetch is set.
	Carry []Carry
	// Fetch has carried values come to the host after every pass, and go back before the next, for who wants to see or
	// change them, or may end the loop early.
	Fetch bool
	// Once lists inputs whose values are the same in all passes.
	Once []*G.Node
	// Keep lists outputs that are for this run alone: the next run's are written over them. Those that later stages are
	// given, by CompileOptions.Given, may stay on the device, and their nodes then hold no value.
	Keep []*G.Node

	// Faulty, if set, is called after each pass with WithOutputChecks, and names by the values of the outputs the layer
	// whose result is not finite; without it the outputs themselves are looked at.
	Faulty func() string
	// Bind and Read, if set, are called by Runtime.Run before and after each pass, to give the graph's leaves their
	// values and to see its outputs.
	Bind, Read func(pass int) error
}

// Carry is an output that is the value of an input in the next pass.
type Carry struct{ In, Out *G.Node }

// carried is the input that an output is carried to, nil if it is not.
func (s *Stage) carried(out *G.Node) *G.Node {
	for _, c := range s.Carry {
		if c.Out == out {
			return c.In
		}
	}
	return nil
}

// title names the stage.
func (s *Stage) title() string { return strings.TrimSpace(s.Component + " " + s.Name) }

// StageError is a pass that a list of stages does not have next.
type StageError struct {
	Want string // the stage that is next, empty at the end
	Got  string // the stage of the graph that was to run, empty if it is in no stage
	Pass int    // of Want, from 0
}

func (e *StageError) Error() string {
	got, want := "a graph of no stage", "no more"
	if e.Got != "" {
		got = "stage " + e.Got
	}
	if e.Want != "" {
		want = fmt.Sprintf("stage %s, pass %d", e.Want, e.Pass)
	}
	return fmt.Sprintf("a pass of %s is run; the list of stages has %s", got, want)
}

// check gives stages their defaults and refuses those that are not the runtime's.
func (rt *Runtime) check(stages []Stage) ([]Stage, error) {
	if len(stages) == 0 {
		return nil, errors.New("there are no stages")
	}
	stages = slices.Clone(stages)
	calls := 0
	for i := range stages {
		s := &stages[i]
		if s.Component == "" {
			s.Component = "graph"
		}
		if s.Passes == 0 {
			s.Passes = 1
		}
		switch {
		case s.VM == nil:
			return nil, fmt.Errorf("stage %d, %s: the VM is nil", i, s.title())
		case s.VM.host != rt.host:
			return nil, fmt.Errorf("stage %d, %s: its graph was compiled into another runtime", i, s.title())
		case s.Passes < 0:
			return nil, fmt.Errorf("stage %d, %s: %d passes", i, s.title(), s.Passes)
		}
		if err := s.checkNodes(); err != nil {
			return nil, fmt.Errorf("stage %d, %s: %w", i, s.title(), err)
		}
		if n := max(1, len(s.VM.prog.Calls)); s.Passes > (maxCalls-calls)/n {
			return nil, fmt.Errorf("stage %d, %s: %d passes make more than %d calls; a plan notes each", i, s.title(), s.Passes, maxCalls)
		} else {
			calls += s.Passes * n
		}
	}
	return stages, nil
}

// maxCalls bounds the calls of a run: plans and the engine keep some bytes for each. The most of a real model is a
// tenth.
const maxCalls = 4 << 20

// checkNodes refuses nodes that are not what the stage says of them.
func (s *Stage) checkNodes() error {
	for _, n := range s.Once {
		if err := s.VM.isInput(n); err != nil {
			return fmt.Errorf("Once: %w", err)
		}
	}
	for _, n := range s.Keep {
		if err := s.VM.isOutput(n); err != nil {
			return fmt.Errorf("Keep: %w", err)
		}
	}
	for _, c := range s.Carry {
		if err := errors.Join(s.VM.isInput(c.In), s.VM.isOutput(c.Out)); err != nil {
			return fmt.Errorf("Carry: %w", err)
		}
		if c.In.Dtype() != c.Out.Dtype() || !c.In.Shape().Eq(c.Out.Shape()) {
			return fmt.Errorf("Carry: %q is %v %v, and %q is %v %v", c.Out.Name(), c.Out.Dtype(), c.Out.Shape(),
				c.In.Name(), c.In.Dtype(), c.In.Shape())
		}
	}
	return nil
}

func (vm *VM) isInput(n *G.Node) error {
	switch {
	case n == nil:
		return errors.New("an input is nil")
	case !slices.ContainsFunc(vm.prog.Values, func(v program.Value) bool { return v.Node == n && v.Kind == program.Input }):
		return fmt.Errorf("%q is no input of the graph", n.Name())
	}
	return nil
}

func (vm *VM) isOutput(n *G.Node) error {
	switch {
	case n == nil:
		return errors.New("an output is nil")
	case !slices.Contains(vm.outputs, n):
		return fmt.Errorf("%q is no output of the graph", n.Name())
	}
	return nil
}
