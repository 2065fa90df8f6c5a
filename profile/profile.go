// Package profile measures devices for strategies that plan by the clock.
package profile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/offload"
	G "gorgonia.org/gorgonia"
)

// Measure measures a CUDA device: convolutions as UNets have them, a normalisation, copies of page-locked memory. Launch
// and Latency are assumed. It takes some 200 MiB of the device, for as long as it runs.
func Measure(d graphs.DeviceOption) (p offload.Profile, err error) {
	defer stack.Add(&err)
	return measure(d, 4, 128, 32<<20)
}

// measure measures with images of side pixels and copies of that many bytes.
func measure(d graphs.DeviceOption, batch, side, bytes int) (p offload.Profile, err error) {
	rt, err := graphs.Open(graphs.WithDevice(d), graphs.WithTrace())
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	if rt.Device() == "" {
		return p, fmt.Errorf("device %q is not measured; a CUDA device is", d.Name)
	}
	s := layers.NewScope(G.NewGraph(), "probe", layers.Declared{})
	x := s.Input("x", G.Float32, batch, side, side, 320)
	// What is fetched is small.
	y, err := s.On(x).Conv("conv1", 320, 3).GroupNorm("norm", 32, 1e-5).Conv("conv2", 320, 3).Conv("out", 4, 1).Node()
	if err != nil {
		return p, err
	}
	vm, err := rt.Compile(y)
	if err != nil {
		return p, err
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range x.Graph().AllNodes() {
		if n.Op() != nil {
			continue
		}
		values, err := graphs.Bind[float32](n)
		if err != nil {
			return p, err
		}
		for i := range values { // a GPU takes less power for zeros, and is faster
			values[i] = rng.Float32() - 0.5
		}
	}
	size := 2
	if d.DType == "f32" {
		size = 4
	}
	p = offload.Profile{Name: rt.Device(), Launch: 4 * time.Microsecond, Latency: 10 * time.Microsecond}
	if p.FLOPs, p.Memory, err = rates(rt, vm, "probe.norm", 3*float64(x.Shape().TotalSize()*size)); err != nil {
		return p, err
	}
	p.Link, err = rt.LinkRate(context.Background(), bytes)
	return p, err
}

// rates are those of the graph's products, and of the memory that a layer reads and writes; the best of five runs.
func rates(rt *graphs.Runtime, vm *graphs.VM, layer string, bytes float64) (flops, memory float64, err error) {
	var best []time.Duration
	var calls []offload.Call
	for range 5 {
		stats, err := rt.Run(context.Background(), []graphs.Stage{{VM: vm}})
		if err != nil {
			return 0, 0, err
		}
		calls = stats.Inventory.Phases[0].Calls
		if best == nil {
			best = make([]time.Duration, len(calls))
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
	for i, c := range calls {
		if c.FLOPs > 0 && c.Layer != "probe.out" {
			work, took = work+c.FLOPs, took+best[i]
		}
		if c.Layer == layer {
			memory = bytes / best[i].Seconds()
		}
	}
	return float64(work) / took.Seconds(), memory, nil
}
