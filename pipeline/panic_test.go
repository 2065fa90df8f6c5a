package pipeline_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/pipeline"
	"gorgonia.org/tensor"
)

var errMine = errors.New("an error of the user's own")

// What is nil is named, and no thread is left behind.
func TestNilArgumentsAreErrors(t *testing.T) {
	before := runtime.NumGoroutine()
	for name, build := range map[string]func() error{
		"no model": func() error { _, err := pipeline.NewTextToImage(nil); return err },
	} {
		if err := build(); err == nil || errors.As(err, new(*graphs.PanicError)) || !strings.Contains(err.Error(), "nil") {
			t.Errorf("%s: %v", name, err)
		}
	}
	testkit.NoMoreGoroutines(t, before)
}

// A panic of the caller's own function does not leave the pipeline locked.
func TestPanicsInCallbacksAreErrors(t *testing.T) {
	p := openGolden(t, "sd1")
	want := generate(t, p, pipeline.Request{Prompt: red})
	_, err := p.Generate(t.Context(), pipeline.Request{Prompt: red, NumInferenceSteps: 2, OnStepEnd: func(pipeline.Step) error { panic(errMine) }})
	if !errors.As(err, new(*graphs.PanicError)) || !errors.Is(err, errMine) {
		t.Errorf("error %v", err)
	}
	if got := generate(t, p, pipeline.Request{Prompt: red}); !equal(got, want) {
		t.Error("the run after it gives another picture")
	}
	if _, err := p.Resolve(pipeline.Request{Latents: new(tensor.Dense)}); err == nil {
		t.Error("an empty tensor is taken for latents")
	}
}
