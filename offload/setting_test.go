package offload_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/offload"
)

// Settings that mean nothing are errors that name them.
func TestSettingsThatCannotBe(t *testing.T) {
	inv := &offload.Inventory{
		Weights: []offload.Weight{{Name: "net.fc.weight", Bytes: 1 << 20}},
		Phases:  []offload.Phase{{Component: "net", Passes: 2, Calls: []offload.Call{{Layer: "net.fc", Weights: []int{0}}}}},
	}
	if _, err := offload.Build(inv, "mine", offload.Spec{Stays: map[int]offload.Residence{0: offload.Held}}); err != nil {
		t.Fatal(err)
	}
	build := func(s offload.Spec) error { _, err := offload.Build(inv, "mine", s); return err }
	plan := func(s offload.Strategy) error { _, err := offload.Make(s, inv); return err }
	good, err := offload.ProfileByName("rtx4090-gen4")
	if err != nil {
		t.Fatal(err)
	}
	profile := func(change func(*offload.Profile)) error {
		p := good
		change(&p)
		return plan(offload.Auto(1<<19, offload.On(p)))
	}
	for want, err := range map[string]error{
		"Spec.Stays names weight 1":  build(offload.Spec{Stays: map[int]offload.Residence{1: offload.Held}}),
		"Spec.Stays names weight -1": build(offload.Spec{Stays: map[int]offload.Residence{-1: offload.Held}}),
		"Spec.Stays has residence 9": build(offload.Spec{Stays: map[int]offload.Residence{0: 9}}),
		"Spec.Groups names weight 7": build(offload.Spec{Groups: [][]int{{7}}}),
		"Spec.Window is -1":          build(offload.Spec{Window: -1}),
		"Spec.Seam is 25":            build(offload.Spec{Seam: 25}),
		"Spec.MinRun is -4":          build(offload.Spec{MinRun: -4}),
		"Budget is -1":               plan(offload.Auto(-1)),
		"Prefetch is -2":             plan(offload.Sequential(offload.Prefetch(-2))),
		"Pin is -3":                  plan(offload.None(offload.Pin(-3))),
		"Resident is -4":             plan(offload.Auto(1, offload.Resident(-4))),
		"Group is of 0 layers":       plan(offload.Group(0)),
		`profile "" has FLOPs 0`:     plan(offload.Auto(1<<19, offload.On(offload.Profile{}))),
		"has Link +Inf":              profile(func(p *offload.Profile) { p.Link = math.Inf(1) }),
		"has Memory NaN":             profile(func(p *offload.Profile) { p.Memory = math.NaN() }),
		"has Latency -1s":            profile(func(p *offload.Profile) { p.Latency = -time.Second }),
	} {
		var e *offload.SettingError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A budget that is too small names the call that needs the most, whatever the last phase is.
func TestBudgetErrorNamesTheFullestCall(t *testing.T) {
	inv := &offload.Inventory{
		Weights: []offload.Weight{{Name: "unet.a.weight", Bytes: 1 << 20}, {Name: "unet.b.weight", Bytes: 1 << 20}, {Name: "vae.c.weight", Bytes: 1 << 20}},
		Phases: []offload.Phase{
			{Component: "unet", Passes: 3, Activations: 8 << 20, Calls: []offload.Call{
				{Layer: "unet.a", Weights: []int{0}, Top: 2 << 20}, {Layer: "unet.b", Weights: []int{1}, Top: 8 << 20}}},
			{Component: "vae", Passes: 1, Activations: 4 << 20, Calls: []offload.Call{{Layer: "vae.c", Weights: []int{2}, Top: 4 << 20}}},
		},
	}
	for _, s := range []offload.Strategy{
		offload.Sequential(offload.Budget(1 << 20)), offload.Model(offload.Budget(1 << 20)), offload.None(offload.Budget(1 << 20)), offload.Auto(1 << 20),
	} {
		_, err := offload.Make(s, inv)
		var e *offload.BudgetError
		if !errors.As(err, &e) || e.Layer != "unet.b" {
			t.Errorf("%s: %v", s.Name(), err)
		}
	}
}
