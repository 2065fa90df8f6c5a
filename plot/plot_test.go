package plot_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/plot"
)

// inventory is two layers of 1 MiB each, run three times.
func inventory() *offload.Inventory {
	return &offload.Inventory{
		Weights: []offload.Weight{{Name: "unet.a.weight", Bytes: 1 << 20}, {Name: "unet.b.weight", Bytes: 1 << 20}},
		Phases: []offload.Phase{{Component: "unet", Passes: 3, Activations: 256, Calls: []offload.Call{
			{Layer: "unet.a", FLOPs: 1e6, Weights: []int{0}, Top: 256},
			{Layer: "unet.b", FLOPs: 1e6, Weights: []int{1}, Top: 256},
		}}},
	}
}

func trace(t *testing.T, s offload.Strategy) []offload.Event {
	t.Helper()
	inv := inventory()
	plan, err := s.Plan(inv)
	if err != nil {
		t.Fatal(err)
	}
	return offload.Trace(plan, inv, offload.Profile{FLOPs: 1e9, Memory: 1e12, Link: 1 << 30})
}

// The curve of a plan is the memory that its calls have: everything under none, half of the weights under sequential.
func TestMemory(t *testing.T) {
	for _, c := range []struct {
		s    offload.Strategy
		want float64
	}{{offload.None(), 2}, {offload.Sequential(), 1}} {
		curve := plot.Memory(c.s.Name(), trace(t, c.s))
		if curve.Name != c.s.Name() || len(curve.X) != 12 || len(curve.Y) != 12 {
			t.Fatalf("%s: curve %+v, want 12 points: two for each of six calls", c.s.Name(), curve)
		}
		for i, y := range curve.Y {
			if !(y >= c.want && y < c.want+0.001) {
				t.Errorf("%s: point %d is %g MiB, want %g and the activations", c.s.Name(), i, y, c.want)
			}
			if i > 0 && curve.X[i] < curve.X[i-1] {
				t.Errorf("%s: point %d is before the one before it", c.s.Name(), i)
			}
		}
	}
}

// picture is what is read of an SVG.
type picture struct {
	Paths []struct {
		D string `xml:"d,attr"`
	} `xml:"path"`
	Texts []string `xml:"text"`
}

func draw(t *testing.T, axes plot.Axes, curves ...plot.Curve) (p picture) {
	t.Helper()
	var b bytes.Buffer
	if err := plot.WriteSVG(&b, axes, curves...); err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(b.Bytes(), &p); err != nil {
		t.Fatalf("%v in\n%s", err, &b)
	}
	return p
}

func TestWriteSVG(t *testing.T) {
	axes := plot.Axes{X: "s", Y: "a < b & c", Budget: 100}
	p := draw(t, axes, plot.Curve{Name: `<own> & "quoted"`, X: []float64{0, 5, 10}, Y: []float64{0, 100, 50}},
		plot.Curve{Name: "empty"})
	all := strings.Join(p.Texts, "\n")
	for _, want := range []string{axes.X, axes.Y, `<own> & "quoted"`, "empty", "budget", "105"} {
		if !strings.Contains(all, want) {
			t.Errorf("no text %q in\n%s", want, all)
		}
	}
	// Six lines of the grid, the budget, a line for each curve. The axes end at 650 and 350 pixels from the corner (80,
	// 370), at 10 and 105.
	if len(p.Paths) != 9 {
		t.Fatalf("%d paths, want 9", len(p.Paths))
	}
	if got := p.Paths[7].D; got != "M80 370.0L405 36.7L730 203.3" {
		t.Errorf("the curve is %q", got)
	}
	if p := draw(t, plot.Axes{}); len(p.Paths) != 6 {
		t.Errorf("a picture of nothing has %d paths, want the grid's 6", len(p.Paths))
	}
	// A column of pixels is one line, whatever is in it.
	many := plot.Curve{X: make([]float64, 1000), Y: make([]float64, 1000)}
	for i := range many.X {
		many.X[i], many.Y[i] = 1, float64(i%10)
	}
	if got := draw(t, plot.Axes{}, many).Paths[6].D; strings.Count(got, "L") != 0 || strings.Count(got, "V") != 1 {
		t.Errorf("a column of pixels is drawn as %q", got)
	}
}

func TestWriteSVGRefuses(t *testing.T) {
	for _, c := range []struct {
		x, y []float64
		want string
	}{
		{[]float64{1}, nil, "1 x and 0 y"},
		{[]float64{1, math.NaN()}, []float64{1, 1}, "point 1"},
		{[]float64{1}, []float64{math.Inf(1)}, "(1, +Inf)"},
		{[]float64{-1}, []float64{1}, "from 0"},
	} {
		var b bytes.Buffer
		err := plot.WriteSVG(&b, plot.Axes{}, plot.Curve{Name: "bad", X: c.x, Y: c.y})
		if err == nil || !strings.Contains(err.Error(), c.want) || b.Len() > 0 {
			t.Errorf("x %v, y %v: %v and %d bytes, want %q and none", c.x, c.y, err, b.Len(), c.want)
		}
	}
	full := errors.New("full")
	r, w := io.Pipe()
	r.CloseWithError(full)
	if err := plot.WriteSVG(w, plot.Axes{}); !errors.Is(err, full) {
		t.Errorf("%v, want the writer's error", err)
	}
}

// A trace has a process for each run, in the order of their names, and its counter ends at the bytes that were copied.
func TestWriteTrace(t *testing.T) {
	events := trace(t, offload.Sequential())
	var b bytes.Buffer
	traces := map[string][]offload.Event{"b": events, "a": {{Name: "x", End: time.Millisecond}}}
	if err := plot.WriteTrace(&b, traces); err != nil {
		t.Fatal(err)
	}
	var got struct {
		TraceEvents []struct {
			Name, Ph string
			Ts, Dur  float64
			Pid, Tid int
			Args     struct {
				Name  string
				Bytes int
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	names, spans, copied := map[int]string{}, map[int]int{}, 0
	for _, e := range got.TraceEvents {
		switch {
		case e.Name == "process_name":
			names[e.Pid] = e.Args.Name
		case e.Ph == "X":
			spans[e.Pid]++
		case e.Ph == "C":
			copied = e.Args.Bytes
		}
		if e.Name == "x" && (e.Ts != 0 || e.Dur != 1000 || e.Tid != 1) {
			t.Errorf("a call of a millisecond is %+v", e)
		}
	}
	want := 0
	for _, e := range events {
		want += e.Bytes
	}
	if names[0] != "a" || names[1] != "b" || spans[0] != 1 || spans[1] != len(events) {
		t.Errorf("processes %v with %v spans, want a with 1, b with %d", names, spans, len(events))
	}
	if copied != want || want == 0 {
		t.Errorf("%d bytes copied, want %d", copied, want)
	}
}
