package bench

import (
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// BenchmarkOffload makes pictures under each strategy on the host device; the copies are memory to memory.
// "benchstat -col /offload" makes a table of it.
func BenchmarkOffload(b *testing.B) {
	for _, c := range []struct {
		model string
		steps int
	}{{"tiny", 20}, {"sd15", 2}} {
		b.Run("model="+c.model, func(b *testing.B) {
			m, err := loader.Tiny()
			if err != nil {
				b.Fatal(err)
			}
			if c.model != "tiny" {
				m = model(b, c.model)
			}
			p, err := pipeline.NewTextToImage(m)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			strategies(b, p, c.steps)
		})
	}
}

func offloaded(b *testing.B, p *pipeline.TextToImage, req pipeline.Request, s offload.Strategy, steps int) {
	if err := p.SetOffload(s); err != nil {
		b.Fatal(err)
	}
	if _, err := p.Generate(b.Context(), req); err != nil {
		b.Fatal(err)
	}
	var last *graphs.OffloadStats
	for b.Loop() {
		res, err := p.Generate(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		last = res.Offload
	}
	b.ReportMetric(mib(last.Peak), "peak-MiB")
	b.ReportMetric(mib(int(last.Uploaded)), "H2D-MiB/op")
	if last.CopyTime > 0 {
		b.ReportMetric(float64(last.Uploaded)/last.CopyTime.Seconds()/1e9, "H2D-GB/s")
	}
	b.ReportMetric(100*last.Hidden(), "hidden-%")
	b.ReportMetric(float64(steps*b.N)/b.Elapsed().Seconds(), "steps/s")
}
