package graphs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
)

// MeasureProfile measures a CUDA device for strategies that plan by the clock: convolutions as UNets have them, a
// normalisation, copies of page-locked memory. Launch and Latency are assumed. It takes some 200 MiB of the device,
// for as long as it runs.
func MeasureProfile(d DeviceOption) (p offload.Profile, err error) {
	defer stack.Add(&err)
	return measureProfile(d, 4, 128, 32<<20)
}

// measureProfile measures with images of side pixels and copies of that many bytes.
func measureProfile(d DeviceOption, batch, side, bytes int) (p offload.Profile, err error) {
	s := layers.NewScope(G.NewGraph(), "probe", layers.Declared{})
	x := s.Input("x", G.Float32, batch, side, side, 320)
	// What is fetched is small.
	y, err := s.On(x).Conv("conv1", 320, 3).GroupNorm("norm", 32, 1e-5).Conv("conv2", 320, 3).Conv("out", 4, 1).Node()
	if err != nil {
		return p, err
	}
	vm, err := NewVM(x.Graph(), WithDevice(d), WithOutputs(y), WithTrace())
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if vm.host.device == nil {
		return p, fmt.Errorf("device %q is not measured; a CUDA device is", d.Name)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range x.Graph().AllNodes() {
		if n.Op() != nil {
			continue
		}
		values, err := Bind[float32](n)
		if err != nil {
			return p, err
		}
		for i := range values { // a GPU takes less power for zeros, and is faster
			values[i] = rng.Float32() - 0.5
		}
	}
	p = offload.Profile{Name: vm.host.device.Name(), Launch: 4 * time.Microsecond, Latency: 10 * time.Microsecond}
	if p.FLOPs, p.Memory, err = vm.rates("probe.norm", 3*float64(x.Shape().TotalSize()*vm.host.dtype.Size())); err != nil {
		return p, err
	}
	p.Link, err = device.LinkRate(vm.host.device, vm.host.memory, bytes)
	return p, err
}

// rates are those of the graph's products, and of the memory that a layer reads and writes; the best of five runs.
func (vm *VM) rates(layer string, bytes float64) (flops, memory float64, err error) {
	best := make([]time.Duration, len(vm.prog.Calls))
	for range 5 {
		stats, err := vm.rt.Run(context.Background(), []Stage{{VM: vm}})
		if err != nil {
			return 0, 0, err
		}
		i := 0
		for _, e := range stats.Events {
			if e.Copy {
				continue
			}
			if d := max(e.End-e.Begin, time.Nanosecond); best[i] == 0 || d < best[i] {
				best[i] = d
			}
			i++
		}
	}
	var work int64
	var took time.Duration
	for i, c := range vm.prog.Calls {
		if c.FLOPs > 0 && c.Layer != "probe.out" {
			work, took = work+c.FLOPs, took+best[i]
		}
		if c.Layer == layer {
			memory = bytes / best[i].Seconds()
		}
	}
	return float64(work) / took.Seconds(), memory, nil
}
