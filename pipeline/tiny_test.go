package pipeline_test

import (
	"image"
	"image/draw"
	"image/png"
	"os"
	"testing"

	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/scenes"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// TestEmbeddedModelDrawsWhatItIsAskedFor reads 96 pictures of scenes that were held out of training. With
// TINY_SHEET=file.png it writes them all to one picture.
func TestEmbeddedModelDrawsWhatItIsAskedFor(t *testing.T) {
	open := loader.Tiny
	if dir := os.Getenv("TINY_MODEL"); dir != "" {
		open = func() (*loader.Model, error) { return loader.Open(dir) }
	}
	m, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	pairs := bounded.Some(96, 12)
	held := scenes.Held()
	sheet := image.NewNRGBA(image.Rect(0, 0, 12*64, pairs/12*64))
	colours, shapes := 0, 0
	for i := range pairs {
		want := held[i%32]
		res, err := p.Generate(t.Context(), pipeline.Request{Prompt: want.Prompt(), NumInferenceSteps: 20, Seed: pipeline.Seed(uint64(i))})
		if err != nil {
			t.Fatal(err)
		}
		got := scenes.Read(res.Images[0])
		if got.Figure == want.Figure && got.Ground == want.Ground {
			colours++
		}
		if got.Shape == want.Shape {
			shapes++
		}
		if got != want {
			t.Logf("seed %d: %v is read as %v", i, want, got)
		}
		draw.Draw(sheet, image.Rect(i%12*64, i/12*64, i%12*64+64, i/12*64+64), res.Images[0], image.Point{}, draw.Src)
	}
	t.Logf("of %d pictures %d have both colours right, %d the shape", pairs, colours, shapes)
	if float64(colours) < 0.95*float64(pairs) || float64(shapes) < 0.9*float64(pairs) {
		t.Errorf("of %d pictures %d have both colours right, want 95 %%; %d the shape, want 90 %%", pairs, colours, shapes)
	}
	if file := os.Getenv("TINY_SHEET"); file != "" {
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := png.Encode(f, sheet); err != nil {
			t.Fatal(err)
		}
	}
}
