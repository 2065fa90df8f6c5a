package textenc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/modeltest"
	"github.com/euryale-ml/euryale/textenc"
)

// Encoders of every kind that the config can describe give, for each number of layers left out, what transformers
// gives, with its weights, all of them.
func TestModels(t *testing.T) {
	var worst modeltest.Worst
	models := golden.Models(t, "models")
	if len(models) < 20 {
		t.Fatalf("%d models", len(models))
	}
	for _, m := range models {
		t.Run(m.Name, func(t *testing.T) {
			cfg, err := textenc.ParseConfig("config.json", m.Config)
			if err != nil {
				t.Fatal(err)
			}
			projection := strings.HasSuffix(m.Name, "projection")
			for skip := range cfg.Layers + 1 {
				state, normed := fmt.Sprintf("hidden_states.%d", cfg.Layers-skip), fmt.Sprintf("normed.%d", skip)
				test := encoderTest{&worst, m, cfg, textenc.Options{Skip: skip, Projection: projection}}
				test.run(t, true, state)
				test.opt.Norm = true
				test.run(t, true, normed)
				test.run(t, false, normed)
				if skip == 0 {
					test.run(t, false, "last_hidden_state")
				}
			}
			if unused := m.Unused(); len(unused) > 0 {
				t.Errorf("weights that no graph has: %v", unused)
			}
			if !projection {
				cfg.ProjectionDim = 0 // no weight says it
			}
			if err := cfg.Explain(m); err != nil {
				t.Errorf("the config is said not to fit: %v", err)
			}
		})
	}
	t.Logf("the worst relative L2 is %.2g", worst)
}

type encoderTest struct {
	worst *modeltest.Worst
	m     *golden.Model
	cfg   textenc.Config
	opt   textenc.Options
}

// run compares the hidden states with an output of the golden file, and the pooled ones if pool is set.
func (e encoderTest) run(t *testing.T, pool bool, hidden string) {
	t.Helper()
	n := modeltest.New(t, "text_encoder", e.m)
	ids := e.m.Inputs["input_ids"]
	b, s := ids.Shape[0], ids.Shape[1]
	in := textenc.NewInputs(n.Scope, b, s, pool)
	out, pooled, err := textenc.Build(n.Scope, e.cfg, in, e.opt)
	if err != nil {
		t.Fatal(err)
	}
	n.Let(in.IDs, "input_ids")
	if !pool {
		if pooled != nil {
			t.Error("a pooled state that nobody asked for")
		}
		e.worst.Compare(n, hidden, n.Run(out)[0])
		return
	}
	at := make([]int32, b)
	for i := range at {
		at[i] = e.cfg.PooledPosition(ids.IDs[i*s:][:s])
	}
	n.Bind(in.Pooled, at)
	values := n.Run(out, pooled)
	e.worst.Compare(n, hidden, values[0])
	e.worst.Compare(n, "pooled", values[1])
}
