package bench

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/cuda"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// needGPU skips where there is none; with GPU=1 that is a failure. The tests' stand-in driver has no speed.
func needGPU(b *testing.B) {
	b.Helper()
	dev, err := cuda.Open(0)
	if err == nil {
		name := dev.Name()
		if err = dev.Close(); err == nil && strings.Contains(name, "TEST STAND-IN") {
			err = errors.New("the stand-in driver is not measured")
		}
	}
	if err == nil {
		return
	}
	if os.Getenv("GPU") == "1" {
		b.Fatal(err)
	}
	b.Skip(err)
}

// kernels names the set of kernels that runs, for benchmarks' names.
func kernels() string {
	if os.Getenv("EURYALE_HOPPER") == "1" {
		return "hopper"
	}
	return "tensor"
}

// BenchmarkGPUNetwork times networks with everything resident. A run copies its inputs in and its result out, and ends
// when the result is there.
func BenchmarkGPUNetwork(b *testing.B) {
	needGPU(b)
	for _, c := range []struct {
		model, component string
		size             int
		build            func(int) builder
	}{{"sd15", "unet", 512, unetStep}, {"sdxl", "unet", 1024, unetStep}, {"sd15", "vae", 512, decode}, {"sdxl", "vae", 1024, decode}} {
		for _, dtype := range []string{"f16", "bf16"} {
			b.Run(fmt.Sprintf("model=%s/component=%s/size=%d/dtype=%s/kernels=%s", c.model, c.component, c.size, dtype, kernels()), func(b *testing.B) {
				vm := network(b, c.model, c.component, c.build(c.size), graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0", DType: dtype}))
				if err := vm.RunAll(); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err := vm.RunAll(); err != nil {
						b.Fatal(err)
					}
				}
				s := vm.Stats()
				b.ReportMetric(float64(s.FLOPs)*float64(b.N)/b.Elapsed().Seconds()/1e12, "TFLOP/s")
				b.ReportMetric(mib(s.ArenaBytes+s.WeightBytes), "peak-MiB")
			})
		}
	}
}

// BenchmarkGPUOffload makes pictures under each strategy; "benchstat -col /offload" makes a table of it.
func BenchmarkGPUOffload(b *testing.B) {
	needGPU(b)
	for _, c := range []struct {
		model string
		steps int
	}{{"tiny", 20}, {"sd15", 10}, {"sdxl", 10}} {
		b.Run("model="+c.model+"/kernels="+kernels(), func(b *testing.B) {
			m, err := loader.Tiny()
			if c.model != "tiny" {
				m, err = model(b, c.model), nil
			}
			if err != nil {
				b.Fatal(err)
			}
			p, err := pipeline.NewTextToImage(m, graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0"}))
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			strategies(b, p, c.steps)
		})
	}
}

// strategies makes pictures under each strategy.
func strategies(b *testing.B, p *pipeline.TextToImage, steps int) {
	req := pipeline.Request{Prompt: "a red circle on a blue background", NumInferenceSteps: steps, Seed: pipeline.Seed(1)}
	inv, err := p.Inventory(req)
	if err != nil {
		b.Fatal(err)
	}
	low := offload.Smallest(inv)
	for _, s := range []struct {
		name string
		offload.Strategy
	}{
		{"none", offload.None()}, {"model", offload.Model()}, {"sequential", offload.Sequential()},
		{"sequential-prefetch", offload.Sequential(offload.Prefetch(low / 4))}, {"group4", offload.Group(4)},
		{"auto", offload.Auto(low + low/2)},
	} {
		b.Run(fmt.Sprintf("offload=%s", s.name), func(b *testing.B) { offloaded(b, p, req, s.Strategy, steps) })
	}
}
