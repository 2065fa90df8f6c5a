package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/outfile"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/plot"
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
	outputs                          *outfile.Outputs
}

func (f *offloadFlags) register(fs *flagSet) {
	fs.topic("Memory")
	fs.text(&f.strategy, "offload", "",
		"`strategy`: none, model, sequential, group:N, auto; auto is the default with -max-vram",
		"none", "model", "sequential", "group:4", "auto")
	fs.value(&f.vram, "max-vram", "device memory that the run may take, a `size` such as 2GiB or 512MiB")
	fs.value(&f.ram, "max-ram", "host memory for weights, a `size` such as 8GiB")
	fs.value(&f.prefetch, "prefetch", "`size` of the weights that are copied ahead, for sequential and group:N")
	fs.text(&f.keep, "keep", "",
		"`names` of layers held while their component runs, separated by commas; for sequential, group:N, auto")
	fs.text(&f.exclude, "exclude", "", "`names` of layers or components that stay on the device; for all but none")
	fs.text(&f.profile, "profile", "",
		"`device` whose times are predicted: host or cuda:0 and so on, which are measured once, or "+strings.Join(profileNames(), ", ")+
			"; the default is the CUDA device that runs it, or "+anyProfile, append(profileNames(), "host", "cuda:0")...)
	fs.text(&f.planOut, "plan-out", "", "write the plan as JSON to a `file`", anyFile)
	fs.text(&f.memoryPlot, "memory-plot", "", "draw the device memory over the predicted time to an SVG `file`", anyFile)
}

func profileNames() (names []string) {
	for _, p := range offload.Profiles() {
		names = append(names, p.Name)
	}
	return names
}

// name is the strategy that the flags ask for, "" if they ask for none.
func (f *offloadFlags) name() string {
	if f.strategy == "" && f.vram > 0 && f.planIn == "" {
		return "auto"
	}
	return f.strategy
}

// useless is a flag that has no effect in some runs. There it is an error: who gave it expects one.
type useless struct {
	flag string
	when bool
	why  string
}

// refuse reports the first flag that is given and has no effect.
func refuse(fs *flagSet, rules []useless) error {
	for _, r := range rules {
		if r.when && fs.given(r.flag) {
			return fmt.Errorf("-%s does nothing here: %s", r.flag, r.why)
		}
	}
	return nil
}

// useless lists what has no effect in a run, or in a dry run. summary says that -json is given.
func (f *offloadFlags) useless(summary bool) (rules []useless) {
	name := f.name()
	add := func(when bool, why string, flags ...string) {
		for _, fl := range flags {
			rules = append(rules, useless{fl, when, why})
		}
	}
	add(f.planIn != "", "-plan-in says where weights live", "offload", "max-vram", "prefetch", "keep", "exclude",
		"plan-out", "memory-plot", "dry-run")
	add(f.planIn != "" && f.trace == "", "-plan-in has its plan, and there is no -trace to predict times for", "profile")
	add(f.planIn == "" && name == "", "it needs -offload or -max-vram", "prefetch", "keep", "exclude", "plan-out",
		"memory-plot", "trace", "dry-run", "profile")
	add(f.dryRun, "-dry-run runs nothing", "trace")
	add(name != "auto" && f.memoryPlot == "" && f.trace == "" && (!f.dryRun || summary),
		"only auto, -memory-plot, -trace and the table of -dry-run predict times",
		"profile")
	return append(rules, ofStrategy(name)...)
}

// ofStrategy lists what has no effect with a strategy.
func ofStrategy(name string) []useless {
	return []useless{
		{"prefetch", name == "none" || name == "model" || name == "auto", name +
			" decides by itself what is copied ahead; sequential and group:N take it"},
		{"keep", name == "none" || name == "model", name + " holds every layer while its component runs"},
		{"exclude", name == "none", "with none all layers stay on the device"},
	}
}

// parse makes the strategy that the flags ask for, nil if they ask for none.
func (f *offloadFlags) parse() (offload.Strategy, error) {
	name := f.name()
	if name == "" {
		return nil, nil
	}
	prof, err := f.planFor(name)
	if err != nil {
		return nil, err
	}
	return offload.Parse(name, offload.Budget(int(f.vram)), offload.Prefetch(int(f.prefetch)), offload.Pin(int(f.ram)),
		offload.Keep(list(f.keep)...), offload.Exclude(list(f.exclude)...), offload.On(prof))
}

// planFor is the device that a strategy plans for. Only auto looks at the clock, and is worth a measurement.
func (f *offloadFlags) planFor(strategy string) (offload.Profile, error) {
	if strategy != "auto" && f.profile == "" {
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
func (f *offloadFlags) options() (opts []graphs.Option, err error) {
	s, err := f.parse()
	if err != nil {
		return nil, err
	}
	if f.trace != "" {
		opts = append(opts, graphs.WithTrace())
	}
	if s != nil {
		opts = append(opts, graphs.WithOffload(s))
	}
	if f.planIn == "" {
		return opts, nil
	}
	file, err := os.Open(f.planIn)
	if err != nil {
		return nil, &outfile.Error{Problem: "cannot read the plan", Err: err}
	}
	defer file.Close()
	plan, err := offload.ReadPlan(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.planIn, err)
	}
	return append(opts, graphs.WithPlan(plan)), nil
}

// findOutputs finds out whether the files of these flags can be written.
func (f *offloadFlags) findOutputs(o *outfile.Outputs) error {
	f.outputs = o
	for _, file := range []struct{ flag, name string }{{"-plan-out", f.planOut}, {"-memory-plot", f.memoryPlot},
		{"-trace", f.trace}} {
		if file.name == "" {
			continue
		}
		if _, err := o.Add(file.flag, file.name); err != nil {
			return err
		}
	}
	return nil
}

// beforeRun refuses a run whose weights do not fit the host, and writes the plan if that is asked for.
func (f *offloadFlags) beforeRun(ctx context.Context, p *pipeline.TextToImage, req pipeline.Request) error {
	s, err := f.parse()
	if err != nil {
		return err
	}
	if f.ram > 0 {
		inv, err := p.Inventory(req)
		if err != nil {
			return err
		}
		if need := inv.WeightBytes(""); need > int(f.ram) {
			return &offload.HostError{Need: need, Have: int(f.ram)}
		}
	}
	if f.planOut == "" && f.memoryPlot == "" {
		return nil
	}
	plan, inv, err := p.Plan(req, s)
	if err != nil {
		return err
	}
	return f.writePlan(ctx, inv, plan)
}

// writePlan writes a plan, and draws it with others beside it, where that is asked for.
func (f *offloadFlags) writePlan(ctx context.Context, inv *offload.Inventory, plan *offload.Plan,
	others ...*offload.Plan) error {
	if f.planOut != "" {
		if err := f.outputs.Write(ctx, "-plan-out", func(w io.Writer) error { return indented(w, plan) }); err != nil {
			return err
		}
	}
	if f.memoryPlot == "" {
		return nil
	}
	prof, err := f.device()
	if err != nil {
		return err
	}
	var curves []plot.Curve
	for _, p := range append([]*offload.Plan{plan}, others...) {
		curves = append(curves, plot.Memory(p.Strategy, offload.Trace(p, inv, prof)))
	}
	return f.outputs.Write(ctx, "-memory-plot", func(w io.Writer) error {
		return plot.WriteSVG(w, plot.Axes{X: "seconds, predicted on " + prof.Name, Y: "MiB of device memory in use",
			Budget: float64(f.vram) / (1 << 20)}, curves...)
	})
}

// afterRun writes what ran beside what was predicted, where that is asked for.
func (f *offloadFlags) afterRun(ctx context.Context, o *graphs.OffloadStats) error {
	if f.trace == "" || o == nil {
		return nil
	}
	prof, err := f.device()
	if err != nil {
		return err
	}
	return f.outputs.Write(ctx, "-trace", func(w io.Writer) error {
		return plot.WriteTrace(w, map[string][]offload.Event{"measured": o.Events, "predicted on " +
			prof.Name: offload.Trace(o.Plan, o.Inventory, prof)})
	})
}

// show prints the plan of a request, and writes it where that is asked for.
func (f *offloadFlags) show(ctx context.Context, w io.Writer, p *pipeline.TextToImage, req pipeline.Request, o *outfile.Outputs,
	asJSON bool) error {
	if err := f.findOutputs(o); err != nil {
		return err
	}
	s, err := f.parse()
	if err != nil {
		return err
	}
	plan, inv, err := p.Plan(req, s)
	if err != nil {
		return err
	}
	if err := f.writePlan(ctx, inv, plan); err != nil {
		return err
	}
	return f.print(w, plan, inv, asJSON)
}

// print prints a plan.
func (f *offloadFlags) print(w io.Writer, plan *offload.Plan, inv *offload.Inventory, asJSON bool) error {
	if asJSON {
		return indented(w, plan)
	}
	prof, err := f.device()
	if err != nil {
		return err
	}
	if err := plan.WriteTable(w, inv); err != nil {
		return err
	}
	return forecast(w, offload.Simulate(plan, inv, prof), prof)
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
