// Command ownop runs an op of the program's own in a network: as a plain Gorgonia op, and with a fast form for the processor
// and a kernel for a CUDA device. Each gives the same numbers.
package main

import (
	"flag"
	"fmt"
	"log"
	"math"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	G "gorgonia.org/gorgonia"
)

const rows, width = 64, 96

func main() {
	device := flag.String("device", "cpu", "cpu or cuda:0")
	flag.Parse()
	want, _, err := run(snake{}, graphs.DeviceOption{})
	if err != nil {
		log.Fatal(err)
	}
	for _, op := range []G.Op{snake{}, fast{}} {
		d := graphs.DeviceOption{Name: *device}
		if *device != "cpu" {
			d.DType = "f32"
		}
		got, stats, err := run(op, d)
		if err != nil {
			log.Fatal(err)
		}
		worst := 0.0
		for i := range got {
			worst = max(worst, math.Abs(float64(got[i]-want[i])))
		}
		fmt.Printf("%-10T  within 1e-5: %v, %d FLOPs, %d bytes for activations\n", op, worst <= 1e-5, stats.FLOPs, stats.ArenaBytes)
	}
}

// run is Linear, the op, Linear.
func run(op G.Op, d graphs.DeviceOption) ([]float32, graphs.Stats, error) {
	weights := loader.Values{}
	for i, name := range []string{"net.in.weight", "net.in.bias", "net.out.weight", "net.out.bias", "net.snake.alpha"} {
		shape := []int{width}
		if i%2 == 0 && i < 4 {
			shape = []int{width, width}
		}
		x := make([]float32, width*(map[bool]int{true: width, false: 1}[len(shape) == 2]))
		for k := range x {
			x[k] = float32((k*37+i)%19)/64 + 0.01
		}
		weights[name] = loader.Tensor{Shape: shape, F32: x}
	}
	s := layers.NewScope(G.NewGraph(), "net", layers.Declared{})
	x := s.Input("x", G.Float32, rows, width)
	y, err := s.On(x).Linear("in", width).Then("snake", func(s layers.Scope, x *G.Node) (*G.Node, error) {
		return G.ApplyOp(op, x, s.Weight("alpha", width))
	}).Linear("out", width).Node()
	if err != nil {
		return nil, graphs.Stats{}, err
	}
	values, err := graphs.Bind[float32](x)
	if err != nil {
		return nil, graphs.Stats{}, err
	}
	for i := range values {
		values[i] = float32(i%23)/23 - 0.5
	}
	vm, err := graphs.NewVM(x.Graph(), graphs.WithWeights(weights), graphs.WithOutputs(y), graphs.WithDevice(d), graphs.WithKernels(ptx))
	if err != nil {
		return nil, graphs.Stats{}, err
	}
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		return nil, graphs.Stats{}, err
	}
	return y.Value().Data().([]float32), vm.Stats(), nil
}
