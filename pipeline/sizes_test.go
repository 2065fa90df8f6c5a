package pipeline_test

import (
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// Compiled networks are forgotten when they are many, but never one that the picture under way needs.
func TestMoreSizesThanNetworksAreKept(t *testing.T) {
	m, err := loader.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m, graphs.WithOffload(offload.Model()))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range 40 {
		if _, err := p.Generate(t.Context(), pipeline.Request{Prompt: red, NumInferenceSteps: 1, Width: 16 + 8*(i%5), Height: 16 + 8*(i/5)}); err != nil {
			t.Fatalf("size %d: %v", i, err)
		}
	}
}
