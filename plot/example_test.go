package plot_test

import (
	"os"

	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/plot"
)

// The memory of two strategies over time, in one picture.
func ExampleWriteSVG() {
	inv := inventory()
	profile, err := offload.ProfileByName("rtx3060-gen3")
	if err != nil {
		panic(err)
	}
	var curves []plot.Curve
	for _, s := range []offload.Strategy{offload.None(), offload.Sequential()} {
		plan, err := s.Plan(inv)
		if err != nil {
			panic(err)
		}
		curves = append(curves, plot.Memory(s.Name(), offload.Trace(plan, inv, profile)))
	}
	f, err := os.CreateTemp("", "memory*.svg")
	if err != nil {
		panic(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := plot.WriteSVG(f, plot.Axes{X: "seconds", Y: "MiB of device memory"}, curves...); err != nil {
		panic(err)
	}
	// Output:
}
