package sched

import (
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/torchrand"
)

// runCase is a run of runs.json.gz.
type runCase struct {
	schedulerCase
	Timesteps []int
	Sigmas    []float64
	Strength  *float64 // of image-to-image; nil for text-to-image

	Refused   bool // by diffusers
	NoNumbers bool // in diffusers: no steps, or samples that are not finite
	First     int
	Want      map[string][]byte // float32
}

func (c runCase) String() string {
	s := fmt.Sprintf("%s %s", c.Class, c.Config)
	if c.Timesteps != nil {
		s += fmt.Sprint(" timesteps ", c.Timesteps)
	}
	if c.Sigmas != nil {
		s += fmt.Sprint(" sigmas ", c.Sigmas)
	}
	if c.Strength != nil {
		s += fmt.Sprint(" strength ", *c.Strength)
	}
	return s
}

// begin makes the scheduler and begins the run.
func (c runCase) begin(t *testing.T) (*Sampler, Run, error) {
	t.Helper()
	s := c.make(t)
	r := Run{Timesteps: c.Timesteps, Sigmas: c.Sigmas, FromImage: c.Strength != nil}
	if c.Timesteps == nil && c.Sigmas == nil {
		r.Steps = c.Steps
	}
	n, err := r.Count()
	if err == nil && c.Strength != nil {
		r.First, err = FirstStep(n, *c.Strength)
	}
	return s, r, cmp.Or(err, s.Begin(r))
}

func (c runCase) want(t *testing.T, key string) []float32 {
	t.Helper()
	v := make([]float32, len(c.Want[key])/4)
	if _, err := binary.Decode(c.Want[key], binary.LittleEndian, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// sample is the sample that the run begins with: noise of a known seed, mixed with a clean sample if it is of
// image-to-image.
func (c runCase) sample(s *Sampler, r Run, n int) []float32 {
	x := make([]float32, n)
	torchrand.New(1).Randn(x)
	signal, noise := 0.0, float64(s.InitNoiseSigma())
	if c.Strength != nil {
		signal, noise = s.Scheduler.(Mixer).Mix(r.First)
	}
	clean := make([]float32, n)
	torchrand.New(4).Randn(clean)
	for i := range x {
		x[i] = float32(signal)*clean[i] + float32(noise)*x[i]
	}
	return x
}

func readRuns(t *testing.T) (cases []runCase) {
	t.Helper()
	f, err := os.Open(filepath.Join(golden.Dir(), "runs.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err == nil {
		err = json.NewDecoder(z).Decode(&cases)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// Runs with listed timesteps or sigmas, and runs of image-to-image, go as diffusers' go from their first step on, or
// are refused where diffusers refuses them.
func TestRuns(t *testing.T) {
	ran, refused, late := map[string]int{}, map[string]int{}, map[string]int{}
	for _, c := range readRuns(t) {
		t.Run(c.String(), func(t *testing.T) {
			s, r, err := c.begin(t)
			switch {
			case err != nil && !(c.Refused || c.NoNumbers):
				t.Fatalf("refused: %v", err)
			case err != nil:
				if e := new(Error); !errors.As(err, &e) || e.Field == "" || e.Problem == "" {
					t.Errorf("%v of type %T, want *Error", err, err)
				}
				refused[s.Name()]++
				return
			case c.Refused:
				t.Fatalf("not refused: timesteps %v", s.Timesteps())
			}
			ran[s.Name()]++
			if r.First > 0 {
				late[s.Name()]++
			}
			if c.NoNumbers {
				x := c.sample(s, r, 8)
				if d, _ := take(t, s, r, x, c.Eta, nil); !math.IsNaN(d) && !math.IsInf(d, 0) {
					t.Errorf("finite samples, where diffusers has none")
				}
				return
			}
			c.check(t, s, r)
		})
	}
	t.Logf("taken %v, late %v, refused %v", ran, late, refused)
	for _, class := range Classes() {
		if ran[class] < 30 || late[class] < 10 || refused[class] < 30 {
			t.Errorf("%s: %d runs, %d of them late, %d refused; want 30, 10, 30", class, ran[class], late[class], refused[class])
		}
	}
}

func (c runCase) check(t *testing.T, s *Sampler, r Run) {
	if r.First != c.First {
		t.Fatalf("begins with step %d, want %d", r.First, c.First)
	}
	if want := c.want(t, "Timesteps"); !(golden.RelL2(s.Timesteps(), want) <= 1e-6) {
		t.Fatalf("timesteps %v, want %v", s.Timesteps(), want)
	}
	if want := c.want(t, "Init"); !(golden.RelL2([]float32{s.InitNoiseSigma()}, want) <= 1e-6) {
		t.Fatalf("init_noise_sigma %g, want %g", s.InitNoiseSigma(), want)
	}
	if want := c.want(t, "Mixes"); c.Strength != nil {
		var mixes []float32
		for i := r.First; i < len(s.Timesteps()); i++ {
			signal, noise := s.Scheduler.(Mixer).Mix(i)
			mixes = append(mixes, float32(signal), float32(noise))
		}
		if d := golden.RelL2(mixes, want); !(d <= 1e-6) {
			t.Fatalf("mixes %v, want %v", mixes, want)
		}
	}
	next := c.want(t, "Next")
	x := c.sample(s, r, len(next))
	d, after := take(t, s, r, x, c.Eta, c.want(t, "Samples"))
	if !(d <= 1e-5) {
		t.Errorf("relative L2 %g", d)
	}
	if !slices.Equal(after, next) {
		t.Error("noise is not drawn in the steps in which diffusers draws it")
	}
}

// take takes the sample through a run. far is how far its samples are from others at most; without those it is the sum
// of the last. after is what the generator of the steps' noise gives next.
func take(t *testing.T, s *Sampler, r Run, x []float32, eta float32, want []float32) (far float64, after []float32) {
	t.Helper()
	n := len(x)
	outputs, noise := torchrand.New(2), torchrand.New(3)
	for step := r.First; step < len(s.Timesteps()); step++ {
		if want != nil {
			far = max(far, golden.RelL2(x, want[(step-r.First)*n:][:n]))
		}
		scaled := slices.Clone(x)
		s.ScaleModelInput(scaled, step)
		out := make([]float32, n)
		outputs.Randn(out)
		for j := range out {
			out[j] = 0.9*out[j] + 0.1*scaled[j]
		}
		if err := s.Take(out, x, step, Options{Eta: eta, Noise: noise.Randn}); err != nil {
			t.Fatal(err)
		}
	}
	after = make([]float32, n)
	noise.Randn(after)
	if want != nil {
		return max(far, golden.RelL2(x, want[len(want)-n:])), after
	}
	for _, v := range x {
		far += float64(v)
	}
	return far, after
}

// refusal reports whether an error is what is wanted: none, or an *Error with these words.
func refusal(err error, want string) bool {
	if want == "" {
		return err == nil
	}
	return errors.As(err, new(*Error)) && strings.Contains(err.Error(), want)
}

// What a scheduler refuses of a run it says in words.
func TestRunErrors(t *testing.T) {
	const (
		ddim, pndm, ancestral = "DDIMScheduler", "PNDMScheduler", "EulerAncestralDiscreteScheduler"
		euler, dpm, lcm       = "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "LCMScheduler"
	)
	for _, c := range []struct {
		class, config string
		run           Run
		want          string // "" if it runs
	}{
		{euler, `{}`, Run{}, "num_inference_steps is 0, want at least 1"},
		{euler, `{}`, Run{Timesteps: []int{9}, Sigmas: []float64{1, 0}}, "sigmas cannot be given together with timesteps"},
		{euler, `{}`, Run{Steps: 1, Timesteps: []int{9}}, "is 1, and cannot be given together with timesteps"},
		{euler, `{}`, Run{Steps: 1, Sigmas: []float64{1, 0}}, "is 1, and cannot be given together with sigmas"},
		{euler, `{}`, Run{Timesteps: []int{}}, "timesteps is an empty list"},
		{euler, `{}`, Run{Sigmas: []float64{1}}, "sigmas is a list of 1, want two at least"},
		{euler, `{}`, Run{Sigmas: []float64{}}, "sigmas is a list of 0, want two at least"},
		{euler, `{}`, Run{Sigmas: []float64{math.NaN(), 0}}, "sigmas is NaN at index 0"},
		{euler, `{}`, Run{Sigmas: []float64{3, math.Inf(-1)}}, "sigmas is -Inf at index 1"},
		{euler, `{}`, Run{Sigmas: []float64{3, 0, 0}}, "sigmas is 0 at index 1, want that only after the last step"},
		{euler, `{}`, Run{Sigmas: []float64{0, 3, 0}, First: 1}, ""},
		{euler, `{}`, Run{Timesteps: []int{500, 500, 20}}, "timesteps as listed give the first timestep, 500, twice"},
		{euler, `{}`, Run{Timesteps: []int{500, 500, 20}, FromImage: true}, ""},
		{euler, `{}`, Run{Sigmas: []float64{900, 800, 0}}, "sigmas as listed give the first timestep, 999, twice"},
		{euler, `{}`, Run{Sigmas: []float64{900, 800, 0}, FromImage: true}, ""},
		{euler, `{"use_karras_sigmas": true}`, Run{Timesteps: []int{9}}, "cannot be given to a scheduler with use_karras"},
		{euler, `{"use_karras_sigmas": true}`, Run{Sigmas: []float64{1, 0}}, ""},
		{dpm, `{"use_karras_sigmas": true}`, Run{Timesteps: []int{9}}, "cannot be given to a scheduler with use_karras"},
		{dpm, `{}`, Run{Sigmas: []float64{1, 0}}, "sigmas cannot be given to DPMSolverMultistepScheduler"},
		{dpm, `{}`, Run{Timesteps: []int{999, 500, 500, 20}}, "timesteps as listed give two steps one sigma"},
		{dpm, `{}`, Run{Timesteps: []int{999, 500, 500, 20}, First: 2}, ""},
		{dpm, `{"timestep_spacing": "leading"}`, Run{Steps: 1000, First: 1}, "1000 gives two steps one sigma"},
		{lcm, `{}`, Run{Sigmas: []float64{1, 0}}, "sigmas cannot be given to LCMScheduler"},
		{lcm, `{}`, Run{Timesteps: []int{1000, 500}}, "timesteps begins with 1000, and the scheduler has 0 to 999"},
		{lcm, `{}`, Run{Timesteps: []int{900, 20, 500}}, "timesteps is 500 at index 2 after 20, want a descending order"},
		{lcm, `{}`, Run{Timesteps: []int{900, -1001}}, "timesteps as listed give the timestep -1001"},
		{lcm, `{"original_inference_steps": 2}`, Run{Timesteps: []int{900, 500, 20}}, ""},
		{ddim, `{}`, Run{Timesteps: []int{9}}, "cannot be given to DDIMScheduler, which has a spacing of its own; Eul"},
		{pndm, `{}`, Run{Timesteps: []int{9}}, "timesteps cannot be given to PNDMScheduler"},
		{ancestral, `{}`, Run{Sigmas: []float64{1, 0}}, "sigmas cannot be given to EulerAncestralDiscreteScheduler"},
		{ddim, `{}`, Run{Steps: 9, First: 9}, "begin_index is 9, want 0 to 8: there are 9 timesteps"},
		{ddim, `{}`, Run{Steps: 9, First: -1}, "begin_index is -1, want 0 to 8"},
		// What is left out is not looked at.
		{ddim, `{"steps_offset": 1}`, Run{Steps: 1000, First: 1}, ""},
		{pndm, `{"skip_prk_steps": true}`, Run{Steps: 9, First: 9}, ""}, // which has one timestep more
		{pndm, `{"skip_prk_steps": true}`, Run{Steps: 9, First: 10}, "begin_index is 10, want 0 to 9"},
	} {
		s := schedulerCase{Class: c.class, Config: c.config}.make(t)
		err := s.Begin(c.run)
		if !refusal(err, c.want) {
			t.Errorf("%s %s %+v: %v, want %q", c.class, c.config, c.run, err, c.want)
		}
	}
}

func TestFirstStep(t *testing.T) {
	for _, c := range []struct {
		n        int
		strength float64
		first    int
		want     string // the error
	}{
		{50, 0.8, 10, ""}, {10, 0.7, 3, ""}, {10, 0.29, 8, ""}, {50, 1, 0, ""}, {1, 1, 0, ""},
		{100, 0.29, 72, ""}, // 0.29*100 is less than 29 in floating point
		{50, 0.019, 0, "strength 0.019 leaves no step of 50, want 0.02 at least"},
		{50, 0, 0, "leaves no step"},
		{50, 1.1, 0, "strength is 1.1, want 0 to 1"},
		{50, -0.1, 0, "want 0 to 1"},
		{50, math.NaN(), 0, "want 0 to 1"},
	} {
		first, err := FirstStep(c.n, c.strength)
		if !refusal(err, c.want) || err == nil && first != c.first {
			t.Errorf("%d steps, strength %g: %d, %v; want %d, %q", c.n, c.strength, first, err, c.first, c.want)
		}
	}
}

// plain is a program's own scheduler with no more methods than it needs.
type plain struct{ Scheduler }

// A program's own scheduler takes a number of steps, and late beginnings if it remembers nothing.
func TestBeginOwnScheduler(t *testing.T) {
	for _, c := range []struct {
		class string
		run   Run
		want  string
	}{
		{"DDIMScheduler", Run{Steps: 9}, ""},
		{"DDIMScheduler", Run{Steps: 9, First: 3}, ""},
		{"DDIMScheduler", Run{Steps: 9, First: 9}, "begin_index is 9"},
		{"DDIMScheduler", Run{Steps: 0}, "want at least 1"},
		{"DDIMScheduler", Run{Steps: 2000}, "num_train_timesteps 1000"},
		{"EulerDiscreteScheduler", Run{Timesteps: []int{9}}, "timesteps cannot be given to EulerDiscreteScheduler"},
		{"EulerDiscreteScheduler", Run{Sigmas: []float64{9, 0}}, "sigmas cannot be given to EulerDiscreteScheduler"},
		{"DPMSolverMultistepScheduler", Run{Steps: 9}, ""},
		{"DPMSolverMultistepScheduler", Run{Steps: 9, First: 1}, "can begin with step 0 alone: it keeps 2 samples"},
	} {
		s := plain{schedulerCase{Class: c.class, Config: `{}`}.make(t).Scheduler}
		err := Begin(s, c.run)
		if !refusal(err, c.want) || err == nil && len(s.Timesteps()) != 9 {
			t.Errorf("%s %+v: %v, want %q", c.class, c.run, err, c.want)
		}
	}
}

// Nothing of a run that began late is left in the next.
func TestRunsAfterALateOne(t *testing.T) {
	for _, class := range Classes() {
		c := schedulerCase{Class: class, Config: `{"timestep_spacing": "trailing"}`}
		used, fresh := c.make(t), c.make(t)
		if err := errors.Join(used.Begin(Run{Steps: 9, First: 4}), used.SetTimesteps(7), fresh.SetTimesteps(7)); err != nil {
			t.Fatal(err)
		}
		for i := range fresh.Timesteps() {
			if got, want := used.Step(i, 0.5), fresh.Step(i, 0.5); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: step %d is %+v, want %+v", class, i, got, want)
			}
		}
	}
}

// A sampler takes the steps of a late run from its first on, and no others before it.
func TestSamplerBeginsLate(t *testing.T) {
	s := schedulerCase{Class: "DPMSolverMultistepScheduler", Config: `{}`}.make(t)
	if err := s.Begin(Run{Steps: 9, First: 4}); err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 3)
	if err := s.Take(x, x, 5, Options{}); err == nil || !strings.Contains(err.Error(), "begin with 4") {
		t.Errorf("step 5 first: %v", err)
	}
	if err := s.Take(x, x, 4, Options{}); err != nil {
		t.Error(err)
	}
}
