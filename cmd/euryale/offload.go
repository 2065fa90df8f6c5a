package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/offload"
)

// offloadFlags say where weights live.
type offloadFlags struct {
	strategy, profile, keep, exclude string
	vram, ram, prefetch              size
	planIn, planOut                  string
	trace, memoryPlot                string
	dryRun                           bool
	on                               graphs.DeviceOption // that runs it
	planned                          *offload.Profile    // once it is known
}

func (f *offloadFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.strategy, "offload", "", "`strategy`: none, model, sequential, group:N, auto; auto is the default with -max-vram")
	fs.Var(&f.vram, "max-vram", "device memory the run may take, such as 2GiB or 512MiB")
	fs.Var(&f.ram, "max-ram", "host memory for weights, such as 8GiB")
	fs.Var(&f.prefetch, "prefetch", "bytes of weights copied ahead, for sequential and group:N")
	fs.StringVar(&f.keep, "keep", "", "`names` of layers held while their component runs, separated by commas")
	fs.StringVar(&f.exclude, "exclude", "", "`names` of layers or components that stay on the device")
	fs.StringVar(&f.profile, "profile", "", "plan for this `device`: host or cuda:0 and so on, which are measured once, or "+profileNames()+"; the default is the CUDA device that runs it, or "+anyProfile)
	fs.StringVar(&f.planOut, "plan-out", "", "write the plan as JSON to a `file`")
	fs.StringVar(&f.memoryPlot, "memory-plot", "", "draw the device memory over the predicted time to an SVG `file`")
	fs.StringVar(&f.planIn, "plan-in", "", "run the plan of a `file`")
}

func profileNames() string {
	var names []string
	for _, p := range offload.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// parse makes the strategy the flags ask for, nil if they ask for none.
func (f *offloadFlags) parse() (offload.Strategy, error) {
	if f.strategy == "" && f.vram > 0 {
		f.strategy = "auto"
	}
	if f.planIn != "" {
		if f.strategy != "" {
			return nil, errors.New("-plan-in and -offload both say where weights live; give one of them")
		}
		return nil, nil
	}
	if f.strategy == "" {
		for name, given := range map[string]bool{"prefetch": f.prefetch > 0, "keep": f.keep != "", "exclude": f.exclude != "", "plan-out": f.planOut != "",
			"memory-plot": f.memoryPlot != ""} {
			if given {
				return nil, fmt.Errorf("-%s needs -offload or -max-vram", name)
			}
		}
		return nil, nil
	}
	prof, err := f.planFor()
	if err != nil {
		return nil, err
	}
	return offload.Parse(f.strategy, offload.Budget(int(f.vram)), offload.Prefetch(int(f.prefetch)), offload.Pin(int(f.ram)),
		offload.Keep(list(f.keep)...), offload.Exclude(list(f.exclude)...), offload.On(prof))
}

// planFor is the device that a strategy plans for. Only auto looks at the clock, and is worth a measurement.
func (f *offloadFlags) planFor() (offload.Profile, error) {
	if f.strategy != "auto" && f.profile == "" {
		return offload.ProfileByName(anyProfile)
	}
	return f.device()
}

// device is the device whose times are predicted.
func (f *offloadFlags) device() (offload.Profile, error) {
	if f.planned != nil {
		return *f.planned, nil
	}
	p, err := f.profileOf()
	if err == nil {
		f.planned = &p
	}
	return p, err
}

func (f *offloadFlags) profileOf() (offload.Profile, error) {
	name := f.profile
	if name == "" && strings.HasPrefix(f.on.Name, "cuda:") {
		name = f.on.Name
	}
	switch {
	case name == "":
		return offload.ProfileByName(anyProfile)
	case name == "host":
		return hostProfile()
	case strings.HasPrefix(name, "cuda:"):
		return cudaProfile(graphs.DeviceOption{Name: name, DType: f.on.DType}, int(f.vram))
	}
	return offload.ProfileByName(name)
}

// options are the pipeline's for these flags.
func (f *offloadFlags) options() ([]graphs.Option, error) {
	s, err := f.parse()
	if err != nil {
		return nil, err
	}
	var opts []graphs.Option
	if f.trace != "" {
		if s == nil && f.planIn == "" {
			return nil, errors.New("-trace needs -offload or -max-vram")
		}
		opts = append(opts, graphs.WithTrace())
	}
	if s != nil {
		return append(opts, graphs.WithOffload(s)), nil
	}
	if f.planIn == "" {
		return nil, nil
	}
	file, err := os.Open(f.planIn)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	plan, err := offload.ReadPlan(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.planIn, err)
	}
	return append(opts, graphs.WithPlan(plan)), nil
}

// check refuses a run whose weights do not fit the host, and writes the plan if that is asked for.
func (f *offloadFlags) check(p *graphs.TextToImage, req graphs.Request) error {
	s, err := f.parse()
	if err != nil || s == nil && f.ram == 0 {
		return err
	}
	inv, err := p.Inventory(req)
	if err != nil {
		return err
	}
	if need := inv.WeightBytes(""); f.ram > 0 && need > int(f.ram) {
		return &offload.HostError{Need: need, Have: int(f.ram)}
	}
	if f.planOut == "" && f.memoryPlot == "" || s == nil {
		return nil
	}
	plan, inv, err := p.Plan(req, s)
	if err != nil {
		return err
	}
	if f.memoryPlot != "" {
		if err := f.plot(inv, plan); err != nil {
			return err
		}
	}
	if f.planOut == "" {
		return nil
	}
	return replace(f.planOut, func(w io.Writer) error { return indented(w, plan) })
}

// plot draws the memory of plans over time.
func (f *offloadFlags) plot(inv *offload.Inventory, plans ...*offload.Plan) error {
	prof, err := f.device()
	if err != nil {
		return err
	}
	var curves []offload.Curve2D
	for _, p := range plans {
		curves = append(curves, offload.MemoryCurve(p.Strategy, offload.Trace(p, inv, prof)))
	}
	return replace(f.memoryPlot, func(w io.Writer) error {
		return offload.WriteSVG(w, "seconds, predicted on "+prof.Name, "MiB of device memory in use", float64(f.vram)/(1<<20), curves...)
	})
}

// writeTrace writes what ran beside what was predicted.
func (f *offloadFlags) writeTrace(o *graphs.OffloadStats) error {
	if f.trace == "" || o == nil {
		return nil
	}
	prof, err := f.device()
	if err != nil {
		return err
	}
	return replace(f.trace, func(w io.Writer) error {
		return offload.WriteTrace(w, map[string][]offload.Event{"measured": o.Events, "predicted on " + prof.Name: offload.Trace(o.Plan, o.Inventory, prof)})
	})
}

func indented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(v)
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// size is a number of bytes with a unit.
type size int

var units = []struct {
	name  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}, {"", 1}}

func (s *size) Set(text string) error {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v > 0) || v*u.bytes >= math.MaxInt64/2 {
			break
		}
		*s = size(v * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size such as 512MiB or 2GiB", text)
}

func (s *size) String() string {
	if s == nil || *s == 0 {
		return ""
	}
	return fmt.Sprintf("%d MiB", (int(*s)+1<<20-1)>>20)
}

// maxCurve bounds the budgets that a curve is planned for: each takes a moment.
const maxCurve = 256

// planCommand shows where weights would live, without loading any.
func planCommand(_ context.Context, args []string, stdout, stderr io.Writer) error {
	var f generateFlags
	var curve int
	var compare bool
	fs := flag.NewFlagSet("euryale plan", flag.ContinueOnError)
	fs.StringVar(&f.model, "m", "", "model `folder` in the diffusers layout; default: the embedded model")
	fs.IntVar(&f.req.Width, "W", 0, "width in `pixels`; default: the model's")
	fs.IntVar(&f.req.Height, "H", 0, "height in `pixels`; default: the model's")
	fs.IntVar(&f.req.NumInferenceSteps, "steps", 0, "denoising steps; default 50")
	fs.IntVar(&f.req.NumImagesPerPrompt, "batch", 1, "`pictures` to make")
	fs.StringVar(&f.device.Name, "device", "", "plan for this `device`, such as cuda:0, as it is here")
	fs.StringVar(&f.device.DType, "dtype", "", "plan for a CUDA device that computes in this `type`, f16, bf16 or f32, whether or not there is one; default: the CPU's f32")
	fs.BoolVar(&f.json, "json", false, "print the plan as JSON")
	fs.BoolVar(&compare, "compare", false, "with -memory-plot: one curve per strategy")
	fs.IntVar(&curve, "budget-curve", 0, "print the predicted time at so many `budgets` instead")
	f.offload.register(fs)
	if err := parse(fs, args, stderr); err != nil {
		return err
	}
	if curve < 0 || curve > maxCurve {
		return fmt.Errorf("-budget-curve is %d, want 1 to %d", curve, maxCurve)
	}
	if f.offload.strategy == "" && f.offload.vram == 0 {
		f.offload.strategy = "model"
	}
	f.offload.on = f.device
	s, err := f.offload.parse()
	if err != nil {
		return err
	}
	prof, err := f.offload.device()
	if err != nil {
		return err
	}
	target := graphs.WithDevice(f.device)
	if f.device.Name == "" && f.device.DType != "" {
		target = graphs.ForPlanning(f.device.DType)
	}
	m, err := open(f.model)
	if err != nil {
		return err
	}
	defer m.Close()
	p, err := graphs.NewTextToImage(m, target)
	if err != nil {
		return err
	}
	defer p.Close()
	if curve > 0 {
		return budgetCurve(stdout, p, f.req, prof, curve, f.offload.memoryPlot)
	}
	plan, inv, err := p.Plan(f.req, s)
	if err != nil {
		return err
	}
	if f.offload.memoryPlot != "" {
		plans := []*offload.Plan{plan}
		for _, other := range []offload.Strategy{offload.Model(), offload.Sequential(), offload.Group(4), offload.None()} {
			if q, err := other.Plan(inv); compare && err == nil && other.Name() != s.Name() {
				plans = append(plans, q)
			}
		}
		if err := f.offload.plot(inv, plans...); err != nil {
			return err
		}
	}
	if f.json {
		return indented(stdout, plan)
	}
	if err := plan.WriteTable(stdout, inv); err != nil {
		return err
	}
	return forecast(stdout, offload.Simulate(plan, inv, prof), prof)
}

// show prints the plan of a run.
func (f *offloadFlags) show(w io.Writer, p *graphs.TextToImage, req graphs.Request) error {
	s, err := f.parse()
	if err != nil {
		return err
	}
	if s == nil {
		return errors.New("-dry-run shows a plan: give -offload or -max-vram")
	}
	prof, err := f.device()
	if err != nil {
		return err
	}
	plan, inv, err := p.Plan(req, s)
	if err != nil {
		return err
	}
	if err := plan.WriteTable(w, inv); err != nil {
		return err
	}
	return forecast(w, offload.Simulate(plan, inv, prof), prof)
}

func forecast(w io.Writer, c *offload.Forecast, prof offload.Profile) error {
	_, err := fmt.Fprintf(w, "predicted on %s: %.3g s an image, %.4g ms a step (%.4g with everything resident), %.2f GB uploaded at %.3g GB/s, %.0f %% of it hidden\n",
		prof.Name, c.Total, 1e3*c.Step, 1e3*c.Compute, float64(c.Copied)/1e9, c.Rate/1e9, 100*c.Hidden)
	for i, s := range c.Stalls {
		if i == 3 {
			break
		}
		fmt.Fprintf(w, "  waits %.3g ms for %s\n", 1e3*s.Seconds, s.Layer)
	}
	return err
}

func budgetCurve(w io.Writer, p *graphs.TextToImage, req graphs.Request, prof offload.Profile, n int, svg string) error {
	inv, err := p.Inventory(req)
	if err != nil {
		return err
	}
	points := offload.Curve(inv, prof, n)
	if svg != "" {
		line := offload.Curve2D{Name: "auto"}
		for _, c := range points {
			line.X, line.Y = append(line.X, float64(c.Budget)/(1<<20)), append(line.Y, 1e3*c.Step)
		}
		if err := replace(svg, func(w io.Writer) error {
			return offload.WriteSVG(w, "MiB of device memory", "ms a step, predicted on "+prof.Name, 0, line)
		}); err != nil {
			return err
		}
	}
	slowest := 0.0
	for _, c := range points {
		slowest = max(slowest, c.Step)
	}
	fmt.Fprintf(w, "device memory  ms a step on %s\n", prof.Name)
	for _, c := range points {
		if _, err := fmt.Fprintf(w, "%9d MiB  %10.3f  %s\n", c.Budget>>20, 1e3*c.Step, strings.Repeat("#", int(math.Round(40*c.Step/slowest)))); err != nil {
			return err
		}
	}
	return nil
}
