package loader

import (
	"testing"
	"testing/fstest"
)

// A config with the literals that Python's json module writes is read, in the index as in a component, and they are
// only read as values.
func TestLiteralsOfPython(t *testing.T) {
	m, err := OpenFS(fstest.MapFS{
		"model_index.json":                {Data: []byte(`{"_class_name": "P", "scheduler": ["diffusers", "NaN"], "limit": Infinity}`)},
		"scheduler/scheduler_config.json": {Data: []byte(`{"lambda_min_clipped": -Infinity}`)},
		"scheduler/bad.json":              {Data: []byte(`{"lambda_min_clipped": --Infinity}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := m.Component("scheduler")
	if err != nil || c.Class != "NaN" {
		t.Fatalf("component %+v: %v", c, err)
	}
	if raw, err := c.File("scheduler_config.json"); err != nil || string(raw) != `{"lambda_min_clipped": -1e999999}` {
		t.Errorf("%s: %v", raw, err)
	}
	if raw, err := c.File("bad.json"); err == nil {
		t.Errorf("%s is taken", raw)
	}
}
