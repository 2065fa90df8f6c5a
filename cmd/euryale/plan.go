package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/outfile"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/plot"
)

// planFlags are the flags of "euryale plan".
type planFlags struct {
	requestFlags
	offload       offloadFlags
	outputs       outfile.Outputs
	curve         int
	compare, json bool
	req           pipeline.Request
}

func definePlan(fs *flagSet) runner {
	f := new(planFlags)
	f.requestFlags.register(fs)
	f.offload.register(fs)
	fs.topic("Output")
	fs.yes(&f.json, "json", "print the plan as JSON")
	fs.yes(&f.compare, "compare", "with -memory-plot: one curve per strategy")
	fs.whole(&f.curve, "budget-curve", 1, maxCurve,
		fmt.Sprintf("print the predicted time at so many `budgets` instead, at most %d", maxCurve))
	return abandon(func(ctx context.Context, stdout, _ io.Writer) error {
		if err := f.check(fs); err != nil {
			return err
		}
		return f.run(ctx, stdout)
	})
}

// check refuses flags that do not go together, and makes a request of the others.
func (f *planFlags) check(fs *flagSet) (err error) {
	f.offload.on = f.device
	if f.offload.name() == "" && f.curve == 0 {
		f.offload.strategy = "model"
	}
	if err := refuse(fs, f.useless()); err != nil {
		return err
	}
	f.req, err = f.request(fs)
	return err
}

func (f *planFlags) useless() (rules []useless) {
	for _, fl := range []string{"offload", "max-vram", "max-ram", "prefetch", "keep", "exclude", "plan-out", "compare",
		"json"} {
		rules = append(rules, useless{fl, f.curve > 0, "-budget-curve prints what auto makes of budgets of its own"})
	}
	rules = append(rules, useless{"compare", f.offload.memoryPlot == "", "it is for -memory-plot"},
		useless{"profile", f.json && f.offload.name() != "auto" && f.offload.memoryPlot == "",
			"only auto, -memory-plot and the table predict times"})
	return append(rules, ofStrategy(f.offload.name())...)
}

// run shows where weights would live, without loading any.
func (f *planFlags) run(ctx context.Context, stdout io.Writer) error {
	f.outputs.Stdout = stdout
	f.outputs.Claim("what is printed", "-")
	if err := f.offload.findOutputs(&f.outputs); err != nil {
		return err
	}
	var s offload.Strategy
	var err error
	if f.curve == 0 {
		if s, err = f.offload.parse(); err != nil {
			return err
		}
	}
	prof, err := f.offload.device()
	if err != nil {
		return err
	}
	target := graphs.WithDevice(f.device)
	if f.device.Name == "" && f.device.DType != "" {
		target = graphs.ForPlanning(f.device.DType)
	}
	p, _, end, err := f.pipeline(target)
	if err != nil {
		return err
	}
	defer end()
	if f.curve > 0 {
		return f.budgetCurve(ctx, stdout, p, prof)
	}
	plan, inv, err := p.Plan(f.req, s)
	if err != nil {
		return err
	}
	var others []*offload.Plan
	for _, other := range []offload.Strategy{offload.Model(), offload.Sequential(), offload.Group(4), offload.None()} {
		if q, err := other.Plan(inv); f.compare && err == nil && other.Name() != s.Name() {
			others = append(others, q)
		}
	}
	if err := f.offload.writePlan(ctx, inv, plan, others...); err != nil {
		return err
	}
	return f.offload.print(stdout, plan, inv, f.json)
}

// maxCurve bounds the budgets that a curve is planned for: each takes a moment.
const maxCurve = 256

// budgetCurve prints, and draws if that is asked for, the predicted time over the budget.
func (f *planFlags) budgetCurve(ctx context.Context, w io.Writer, p *pipeline.TextToImage, prof offload.Profile) error {
	inv, err := p.Inventory(f.req)
	if err != nil {
		return err
	}
	points := offload.Curve(inv, prof, f.curve)
	if f.offload.memoryPlot != "" {
		line := plot.Curve{Name: "auto"}
		for _, c := range points {
			line.X, line.Y = append(line.X, float64(c.Budget)/(1<<20)), append(line.Y, 1e3*c.Step)
		}
		if err := f.outputs.Write(ctx, "-memory-plot", func(w io.Writer) error {
			return plot.WriteSVG(w, plot.Axes{X: "MiB of device memory", Y: "ms a step, predicted on " + prof.Name}, line)
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
		if _, err := fmt.Fprintf(w, "%9d MiB  %10.3f  %s\n", c.Budget>>20, 1e3*c.Step, strings.Repeat("#",
			int(math.Round(40*c.Step/slowest)))); err != nil {
			return err
		}
	}
	return nil
}

func forecast(w io.Writer, c *offload.Forecast, prof offload.Profile) error {
	_, err := fmt.Fprintf(w,
		"predicted on %s: %.3g s an image, %.4g ms a step (%.4g with everything resident), %.2f GB uploaded at %.3g GB/s, %.0f %% of it hidden\n",
		prof.Name, c.Total, 1e3*c.Step, 1e3*c.Compute, float64(c.Copied)/1e9, c.Rate/1e9, 100*c.Hidden)
	for i, s := range c.Stalls {
		if i == 3 {
			break
		}
		fmt.Fprintf(w, "  waits %.3g ms for %s\n", 1e3*s.Seconds, s.Layer)
	}
	return err
}
