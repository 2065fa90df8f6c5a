package pipeline_test

import (
	"image"
	"slices"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// A loop of the program's own gives the bits that Generate gives, under the same plan.
func TestJobIsGenerate(t *testing.T) {
	for _, folder := range []string{"sd1", "sdxl"} {
		for name, s := range map[string]offload.Strategy{"no plan": nil, "sequential": offload.Sequential()} {
			t.Run(folder+"/"+name, func(t *testing.T) {
				p := openGolden(t, folder)
				if err := p.SetOffload(s); err != nil {
					t.Fatal(err)
				}
				r := small()
				r.Scheduler, r.NumInferenceSteps = "euler_a", 3
				want, err := p.Generate(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				for _, seen := range []bool{false, true} {
					job, err := p.NewJob(r)
					if err != nil {
						t.Fatal(err)
					}
					if seen {
						job.SeeLatents()
					}
					var o outcome
					stats := steps(t, job, func(run *graphs.Run, i int) {
						if seen {
							latents := job.Latents()
							job.SetLatents(make([]float32, len(latents)))
							job.SetLatents(latents)
						}
					}, &o)
					if !o.equal(bitsOf(want)) {
						t.Errorf("latents seen %t: another picture", seen)
					}
					if s != nil && (stats.Peak != want.Offload.Peak || !slices.Equal(stats.Plan.Loads[0].Weights, want.Offload.Plan.Loads[0].Weights) ||
						len(stats.Plan.Loads) != len(want.Offload.Plan.Loads) || stats.Plan.Peak != want.Offload.Plan.Peak) {
						t.Error("another plan")
					}
				}
			})
		}
	}
}

// steps runs a job's parts, and then after every step.
func steps(t *testing.T, job *pipeline.Job, then func(run *graphs.Run, i int), o *outcome) *graphs.OffloadStats {
	t.Helper()
	ctx := t.Context()
	run, err := job.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cond, err := job.EncodePrompt(ctx, run)
	if err == nil {
		err = job.Prepare(ctx, run, cond)
	}
	job.SetLatents(job.Noise())
	for i := range job.Steps() {
		if err == nil {
			err = job.Step(ctx, run, i)
		}
		then(run, i)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.latents = job.Latents()
	images, err := job.Decode(ctx, run, o.latents)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		o.pix = append(o.pix, img.(*image.NRGBA).Pix...)
	}
	stats, err := run.End()
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// A job of one pipeline may wait while another picture is made, and the other way round.
func TestJobsTakeTurnsWithPictures(t *testing.T) {
	p := openGolden(t, "sd1", graphs.WithThreads(1))
	want := run(t, p, small())
	job, err := p.NewJob(small())
	if err != nil {
		t.Fatal(err)
	}
	other := make(chan outcome)
	begun := false
	var o outcome
	steps(t, job, func(*graphs.Run, int) {
		if !begun {
			begun = true
			go func() {
				res, err := p.Generate(t.Context(), small())
				if err != nil {
					t.Error(err)
					close(other)
					return
				}
				other <- bitsOf(res)
			}()
		}
	}, &o)
	if !o.equal(want) {
		t.Error("the job's picture is another")
	}
	if got := <-other; !got.equal(want) {
		t.Error("the picture after it is another")
	}
}

// Conditioning that is not of the job's shapes is refused.
func TestJobsCheckConditioning(t *testing.T) {
	p := openGolden(t, "sdxl")
	job, err := p.NewJob(small())
	if err != nil {
		t.Fatal(err)
	}
	run, err := job.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer run.End()
	cond, err := job.EncodePrompt(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []pipeline.Conditioning{{}, {Context: cond.Context, Pooled: cond.Pooled}, {Context: cond.Context, TimeIDs: cond.TimeIDs}, {Pooled: cond.Pooled, TimeIDs: cond.TimeIDs}} {
		if err := job.Prepare(t.Context(), run, c); err == nil {
			t.Errorf("%d, %d and %d numbers are taken", len(c.Context), len(c.Pooled), len(c.TimeIDs))
		}
	}
}
