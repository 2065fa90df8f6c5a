package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 100}, 3}, {[]float64{5, 5, 5, 1}, 5}} {
		if got := median(c.x); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.x, got, c.want)
		}
	}
}

func TestRatioComparesWithinRounds(t *testing.T) {
	at := func(round int, v float64) sample { return sample{Round: round, Value: v} }
	// The machine is ten times slower in round 1, and both see it; in round 2 only one took part.
	a := []sample{at(0, 2), at(0, 4), at(0, 3), at(1, 40), at(2, 1000)}
	b := []sample{at(0, 2), at(1, 20)}
	if got, ok := ratio(a, b); !ok || got != (1.5+2)/2 {
		t.Errorf("ratio %v, %v, want 1.75", got, ok)
	}
	// Half the time for a quarter of the work is twice as slow.
	if got, _ := ratio([]sample{{Value: 1, Work: 10}}, []sample{{Value: 2, Work: 40}}); got != 2 {
		t.Errorf("ratio of times per work %v, want 2", got)
	}
	if _, ok := ratio(a, nil); ok {
		t.Error("a ratio to nothing")
	}
	if got, ok := ratio(a, []sample{at(0, 0)}); ok {
		t.Errorf("a ratio to zero: %v", got)
	}
}

func TestAmounts(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{0.11163, "s", "0.112 s"}, {6.104, "s", "6.10 s"}, {84.84, "s", "84.8 s"}, {1234.4, "s", "1234 s"}, {0, "s", "0 s"},
		{3 << 30, "B", "3072 MiB"}, {25.06e9, "B/s", "25.1 GB/s"}, {345e9, "FLOP/s", "345 GFLOP/s"}, {7, "calls", "7.00 calls"},
	} {
		if got := amount(c.v, c.unit); got != c.want {
			t.Errorf("%v %s is shown as %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

// TestTables goes from a file as record.py writes it to the tables.
func TestTables(t *testing.T) {
	raw, err := os.ReadFile("testdata/run.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/run.md")
	if err != nil {
		t.Fatal(err)
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if err := r.markdown(&got); err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestDisturbedPicturesAreLeftOut(t *testing.T) {
	var table table
	add := func(engine string, round int, seconds, share float64) {
		table.samples = append(table.samples, sample{Engine: engine, Round: round, Quantity: "step", Unit: "s", Value: seconds},
			sample{Engine: engine, Round: round, Quantity: others, Unit: "of the cores", Value: share})
	}
	add(ours, 0, 1, 0)
	add(ours, 1, 1, 0.01)
	add("some", 0, 2, 0.05)
	add("some", 1, 90, 0.5)
	add("all", 0, 90, 0.5)
	table.leaveOutDisturbed()
	if got := table.cell("some", "step"); got != "2.00 s; 2.00 x" {
		t.Error(got)
	}
	if got := table.cell("all"+disturbedMark, "step"); got != "90.0 s" {
		t.Error(got)
	}
	if len(table.notes) != 1 || !strings.HasPrefix(table.notes[0], "some: 1 of 2 pictures left out") {
		t.Error(table.notes)
	}
}

// TestRate: 5 GB in 0.2 s are 25 GB/s, whatever the other samples took.
func TestRate(t *testing.T) {
	var table table
	for _, v := range []float64{0.2, 0.1, 0.4} {
		table.samples = append(table.samples, sample{Engine: "x", Quantity: "copy", Unit: "s", Value: v, Work: 5e9, WorkUnit: "B"})
	}
	if got := table.cell("x", "copy"); got != "0.200 s (0.100 to 0.400), 25.0 GB/s" {
		t.Error(got)
	}
}

// A step that streams is held against the slower of the resident step and the link; what was not measured is said not to be.
func TestFiguresAskedFor(t *testing.T) {
	const sdxl = "sdxl, 1024x1024, GPU"
	r := record{Samples: []sample{
		{Case: "limits of the machine", Quantity: linkRate, Unit: "s", Value: 0.5, Work: 10e9}, // 20 GB/s
		{Case: sdxl, Engine: ours, Quantity: "UNet step", Unit: "s", Value: 0.03},
		{Case: sdxl, Engine: streamed, Quantity: "UNet step", Unit: "s", Value: 0.22},
		{Case: sdxl, Engine: streamed, Quantity: perStep, Unit: "B", Value: 4e9}, // 0.2 s
		{Case: sdxl, Engine: "resident", Quantity: "UNet step", Unit: "s", Value: 0.06},
		{Case: "The largest shapes, and cuDNN", Engine: ours, Quantity: "a", Unit: "s", Value: 2, Work: 1},
		{Case: "The largest shapes, and cuDNN", Engine: "cuDNN", Quantity: "a", Unit: "s", Value: 1, Work: 1},
		{Case: "The largest shapes, and cuDNN", Engine: ours, Quantity: "b", Unit: "s", Value: 1, Work: 1},
		{Case: "The largest shapes, and cuDNN", Engine: "cuDNN", Quantity: "b", Unit: "s", Value: 8, Work: 1},
	}}
	var b strings.Builder
	r.verdict(&b)
	for _, want := range []string{
		"| SDXL 1024, UNet step / diffusers fp16 SDPA | at most 0.70 | 0.55 | 0.50 |",
		"| SDXL, offload step / max(resident, bytes / link) | at most 1.15 | 1.04 | 1.10 |",
		"| SDXL, use of the link | at least 0.90 |  | 0.91 |",
		"| conv 3x3 / cuDNN, the largest shapes | at most 1.40 | 1.00 | 0.50 |",
		"| GEMM / cuBLASLt, the largest shapes | at most 1.50 | 1.12 | not measured |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no line %s in\n%s", want, b.String())
		}
	}
	r.Samples[2].Value = 0.3
	b.Reset()
	r.verdict(&b)
	if want := "| 1.50, missed |"; !strings.Contains(b.String(), want) {
		t.Errorf("no %s in\n%s", want, b.String())
	}
	b.Reset()
	record{Samples: r.Samples[1:]}.verdict(&b)
	if b.Len() > 0 {
		t.Errorf("a record without the link's rate: %s", b.String())
	}
}
