package stack_test

import (
	"context"
	"errors"
	"image"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/profile"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Failures of runtimes and pipelines.
func init() {
	for name, f := range map[string]failure{
		"graphs.Open": {func(*testing.T) error {
			_, err := graphs.Open(graphs.WithThreads(-1))
			return err
		}, "graphs.Open", new(*graphs.OptionError), nil},
		"graphs.NewVM": {func(*testing.T) error {
			_, err := graphs.NewVM(nil)
			return err
		}, "graphs.NewVM", nil, nil},
		"graphs.Bind": {func(*testing.T) error {
			_, err := graphs.Bind[int32](G.NewVector(G.NewGraph(), G.Float32, G.WithShape(2), G.WithName("x")))
			return err
		}, "graphs.Bind", nil, nil},
		"profile.Measure": {func(*testing.T) error {
			_, err := profile.Measure(graphs.DeviceOption{})
			return err
		}, "profile.Measure", nil, nil},
		"graphs.Runtime.LinkRate": {func(t *testing.T) error {
			_, err := runtime(t).rt.LinkRate(context.Background(), 1)
			return err
		}, "graphs.(*Runtime).LinkRate", nil, nil},
		"graphs.Runtime.Compile": {func(t *testing.T) error {
			_, err := runtime(t).rt.Compile()
			return err
		}, "graphs.(*Runtime).Compile", nil, nil},
		"graphs.Runtime.CompileWith": {func(t *testing.T) error {
			_, err := runtime(t).rt.CompileWith(graphs.CompileOptions{}, nil)
			return err
		}, "graphs.(*Runtime).CompileWith", nil, nil},
		"graphs.Runtime.Begin": {func(t *testing.T) error {
			_, err := runtime(t).rt.Begin(context.Background(), nil)
			return err
		}, "graphs.(*Runtime).Begin", nil, nil},
		"graphs.Runtime.Plan": {func(t *testing.T) error {
			r := runtime(t, graphs.WithOffload(offload.Auto(64)))
			_, _, err := r.rt.Plan(context.Background(), r.stages)
			return err
		}, "graphs.(*Runtime).Plan", new(*offload.BudgetError), nil},
		"graphs.Runtime.Inventory": {func(t *testing.T) error {
			_, err := runtime(t).rt.Inventory(context.Background(), []graphs.Stage{{}})
			return err
		}, "graphs.(*Runtime).Inventory", nil, nil},
		"graphs.Runtime.Room": {func(t *testing.T) error {
			return runtime(t).rt.Room(context.Background(), 1<<60)
		}, "graphs.(*Runtime).Room", new(*graphs.MemoryError), nil},
		"graphs.Runtime.Run": {func(t *testing.T) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			r := runtime(t)
			_, err := r.rt.Run(ctx, r.stages)
			return err
		}, "graphs.(*Run", nil, context.Canceled},
		"graphs.Runtime.SetOffload": {func(t *testing.T) error {
			r := runtime(t)
			run, err := r.rt.Begin(context.Background(), r.stages)
			if err != nil {
				t.Fatal(err)
			}
			defer run.End()
			return r.rt.SetOffload(nil)
		}, "graphs.(*Runtime).SetOffload", nil, graphs.ErrRunning},
		"graphs.Run.Pass": {func(t *testing.T) error {
			r := runtime(t)
			run, err := r.rt.Begin(context.Background(), r.stages)
			if err != nil {
				t.Fatal(err)
			}
			defer run.End()
			return run.Pass(context.Background(), nil)
		}, "graphs.(*Run).Pass", new(*graphs.StageError), nil},
		"graphs.Run.End": {func(t *testing.T) error {
			r := runtime(t)
			run, err := r.rt.Begin(context.Background(), r.stages)
			if err != nil {
				t.Fatal(err)
			}
			run.End()
			_, err = run.End()
			return err
		}, "graphs.(*Run).End", nil, nil},
		"graphs.VM.Run": {func(t *testing.T) error {
			r := runtime(t, graphs.WithHooks(graphs.Hook{Before: func(graphs.Call) error { return errHook }}))
			return r.stages[0].VM.Run(context.Background())
		}, "graphs.(*Run).Pass", nil, errHook},
		"graphs.VM.RunAll": {func(t *testing.T) error {
			r := runtime(t)
			r.rt.Close()
			return r.stages[0].VM.RunAll()
		}, "graphs.(*Runtime).Begin", nil, graphs.ErrClosed},
		"graphs.Tensor.Set": {func(t *testing.T) error {
			return inHook(t, func(at *graphs.Tensors) error { return at.In[0].Set(nil) })
		}, "graphs.Tensor.Set", nil, nil},
		"graphs.Tensor.Float32": {func(t *testing.T) error {
			return inHook(t, func(at *graphs.Tensors) error { _, err := at.In[1].Float32(); return err })
		}, "graphs.Tensor.Float32", nil, nil},
		"graphs.Tensor.Summary": {func(t *testing.T) error {
			return inHook(t, func(at *graphs.Tensors) error { _, err := at.In[1].Summary(); return err })
		}, "graphs.Tensor.Summary", nil, nil},
		"loader.Sources.ReadTensor": {func(*testing.T) error {
			return loader.Sources{}.ReadTensor(context.Background(), "x", nil)
		}, "loader.Sources.ReadTensor", nil, nil},
		"pipeline.NewTextToImage": {func(*testing.T) error {
			_, err := pipeline.NewTextToImage(nil)
			return err
		}, "pipeline.NewTextToImage", nil, nil},
		"pipeline.TextToImage.Resolve": {func(t *testing.T) error {
			_, err := tiny(t).Resolve(pipeline.Request{Height: 3})
			return err
		}, "pipeline.(*TextToImage).Resolve", new(*pipeline.RequestError), nil},
		"pipeline.TextToImage.Generate": {func(t *testing.T) error {
			_, err := tiny(t).Generate(context.Background(), pipeline.Request{Height: 3})
			return err
		}, "pipeline.(*TextToImage).Resolve", new(*pipeline.RequestError), nil},
		"pipeline.TextToImage.Plan": {func(t *testing.T) error {
			_, _, err := tiny(t).Plan(pipeline.Request{}, nil)
			return err
		}, "pipeline.(*TextToImage).Plan", nil, nil},
		"pipeline.TextToImage.Inventory": {func(t *testing.T) error {
			_, err := tiny(t).Inventory(pipeline.Request{Scheduler: "none"})
			return err
		}, "pipeline.(*TextToImage)", new(*pipeline.RequestError), nil},
		"pipeline.TextToImage.NewJob": {func(t *testing.T) error {
			_, err := tiny(t).NewJob(pipeline.Request{Height: 3})
			return err
		}, "pipeline.(*TextToImage).Resolve", new(*pipeline.RequestError), nil},
		"pipeline.TextToImage.NewJobFrom": {func(t *testing.T) error {
			_, err := tiny(t).NewJobFrom(pipeline.Request{}, 99)
			return err
		}, "pipeline.", new(*pipeline.RequestError), nil},
		"pipeline.Job.Begin": {func(t *testing.T) error {
			j := job(t)
			return closed(t, j, func() error { _, err := j.Begin(context.Background()); return err })
		}, "graphs.(*Runtime).CompileWith", nil, graphs.ErrClosed},
		"pipeline.Job.Stages": {func(t *testing.T) error {
			j := job(t)
			return closed(t, j, func() error { _, err := j.Stages(); return err })
		}, "graphs.(*Runtime).CompileWith", nil, graphs.ErrClosed},
		"pipeline.Job.Prepare": {func(t *testing.T) error {
			return job(t).Prepare(context.Background(), nil, pipeline.Conditioning{})
		}, "pipeline.(*Job).Prepare", new(*pipeline.RequestError), nil},
		"pipeline.Job.EncodePrompt": {func(t *testing.T) error {
			return between(t, func(j *pipeline.Job, run *graphs.Run) error {
				_, err := j.EncodePrompt(context.Background(), run)
				return err
			})
		}, "graphs.(*Run).Pass", nil, nil},
		"pipeline.Job.Step": {func(t *testing.T) error {
			return between(t, func(j *pipeline.Job, run *graphs.Run) error { return j.Step(context.Background(), run, 0) })
		}, "pipeline.(*Job).Step", nil, nil},
		"pipeline.Job.Decode": {func(t *testing.T) error {
			return between(t, func(j *pipeline.Job, run *graphs.Run) error {
				_, err := j.Decode(context.Background(), run, j.Latents())
				return err
			})
		}, "graphs.(*Run).Pass", nil, nil},
		"pipeline.TextToImage.NewImageEncoder": {func(t *testing.T) error {
			_, err := tiny(t).NewImageEncoder(3, 64)
			return err
		}, "pipeline.(*TextToImage).NewImageEncoder", new(*pipeline.RequestError), nil},
		"pipeline.ImageEncoder.Encode": {func(t *testing.T) error {
			e, err := tiny(t).NewImageEncoder(64, 64)
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.Encode(context.Background(), nil, image.NewGray(image.Rect(0, 0, 1, 1)), nil)
			return err
		}, "pipeline.(*ImageEncoder).Encode", new(*pipeline.RequestError), nil},
	} {
		failures[name] = f
	}
	for _, name := range []string{"graphs.Runtime.Close", "graphs.VM.Close"} {
		exempt[name] = "fails where a device does"
	}
	exempt["graphs.DeviceError.Unwrap"], exempt["graphs.NonFiniteError.Unwrap"] = "what it wraps", "what it wraps"
}

var errHook = errors.New("a hook's own error")

// own is a runtime with one stage: x [1 2] times a weight.
type own struct {
	rt     *graphs.Runtime
	stages []graphs.Stage
}

func runtime(t *testing.T, opts ...graphs.Option) own {
	t.Helper()
	w := loader.Values{"net.fc.weight": {Shape: []int{2, 2}, F32: []float32{1, 2, 3, 4}}, "net.fc.bias": {Shape: []int{2}, F32: []float32{1, 2}}}
	rt, err := graphs.Open(append(opts, graphs.WithWeights(w), graphs.WithThreads(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	s := layers.NewScope(G.NewGraph(), "net", layers.Declared{})
	x := s.Input("x", G.Float32, 1, 2)
	y, err := s.On(x).Linear("fc", 2).Node()
	if err != nil {
		t.Fatal(err)
	}
	if err := G.Let(x, tensor.New(tensor.WithShape(1, 2), tensor.WithBacking([]float32{1, 2}))); err != nil {
		t.Fatal(err)
	}
	vm, err := rt.Compile(y)
	if err != nil {
		t.Fatal(err)
	}
	return own{rt, []graphs.Stage{{VM: vm}}}
}

// inHook is the error of what a hook does with the tensors of the call.
func inHook(t *testing.T, f func(*graphs.Tensors) error) (err error) {
	r := runtime(t, graphs.WithHooks(graphs.Hook{See: func(_ graphs.Call, at *graphs.Tensors) error {
		err = f(at)
		return nil
	}}))
	if e := r.stages[0].VM.RunAll(); e != nil {
		t.Fatal(e)
	}
	return err
}

// pipelines are those of jobs.
var pipelines = map[*pipeline.Job]*pipeline.TextToImage{}

func job(t *testing.T) *pipeline.Job {
	t.Helper()
	p := tiny(t)
	j, err := p.NewJob(pipeline.Request{NumInferenceSteps: 1})
	if err != nil {
		t.Fatal(err)
	}
	pipelines[j] = p
	return j
}

// closed is what a job does when its pipeline is closed.
func closed(t *testing.T, j *pipeline.Job, f func() error) error {
	t.Helper()
	if err := pipelines[j].Close(); err != nil {
		t.Fatal(err)
	}
	return f()
}

// between is what a job does with a run that has ended.
func between(t *testing.T, f func(*pipeline.Job, *graphs.Run) error) error {
	t.Helper()
	j := job(t)
	run, err := j.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.End(); err != nil {
		t.Fatal(err)
	}
	return f(j, run)
}

func tiny(t *testing.T) *pipeline.TextToImage {
	t.Helper()
	m, err := loader.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	p, err := pipeline.NewTextToImage(m, graphs.WithThreads(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
