package pipeline_test

import (
	"fmt"
	"image"
	"path/filepath"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
	"gorgonia.org/tensor"
)

// arguments are those of a diffusers pipeline call, as make_golden.py writes them down.
type arguments struct {
	Prompt             string
	Prompt2            string `json:"prompt_2"`
	NegativePrompt     string `json:"negative_prompt"`
	NegativePrompt2    string `json:"negative_prompt_2"`
	NumInferenceSteps  int    `json:"num_inference_steps"`
	Height, Width      int
	GuidanceScale      float32 `json:"guidance_scale"`
	GuidanceRescale    float32 `json:"guidance_rescale"`
	NumImagesPerPrompt int     `json:"num_images_per_prompt"`
	ClipSkip           int     `json:"clip_skip"`
	Eta                float32
	OriginalSize       [2]int `json:"original_size"`
	CropsCoordsTopLeft [2]int `json:"crops_coords_top_left"`
	TargetSize         [2]int `json:"target_size"`
}

func (a arguments) request() pipeline.Request {
	return pipeline.Request{
		Prompt: a.Prompt, Prompt2: a.Prompt2, NegativePrompt: a.NegativePrompt, NegativePrompt2: a.NegativePrompt2,
		NumInferenceSteps: a.NumInferenceSteps, Height: a.Height, Width: a.Width, GuidanceScale: a.GuidanceScale,
		GuidanceRescale: a.GuidanceRescale, NumImagesPerPrompt: a.NumImagesPerPrompt, ClipSkip: a.ClipSkip, Eta: a.Eta,
		OriginalSize: a.OriginalSize, CropsCoordsTopLeft: a.CropsCoordsTopLeft, TargetSize: a.TargetSize,
	}
}

// pictureCase is a line of pictures.json.
type pictureCase struct {
	Name, Folder, Scheduler string
	Changes                 struct {
		Karras bool `json:"use_karras_sigmas"`
	}
	Seed      uint64
	Arguments arguments
}

func pictureCases(t testing.TB) (cases []pictureCase) {
	golden.Manifest(t, "pictures", &cases)
	return cases
}

func (c pictureCase) request() pipeline.Request {
	r := c.Arguments.request()
	r.Seed = pipeline.Seed(c.Seed)
	r.Scheduler = c.Scheduler
	if c.Changes.Karras {
		r.Scheduler = "dpm++2m_karras"
	}
	return r
}

func openGolden(t testing.TB, folder string, opts ...graphs.Option) *pipeline.TextToImage {
	t.Helper()
	m, err := loader.Open(filepath.Join(golden.Dir(), folder))
	if err != nil {
		t.Fatal(err)
	}
	return pipelineOf(t, m, opts...)
}

// pipelineOf is the pipeline of a model, which it closes too when the test ends.
func pipelineOf(t testing.TB, m *loader.Model, opts ...graphs.Option) *pipeline.TextToImage {
	t.Helper()
	p, err := pipeline.NewTextToImage(m, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		m.Close()
	})
	return p
}

// Whole pipelines give diffusers' latents and pictures, for the same seed.
func TestPicturesAreThoseOfDiffusers(t *testing.T) {
	want := golden.Load(t, "pictures")
	for i, c := range pictureCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			p := openGolden(t, c.Folder)
			res, err := p.Generate(t.Context(), c.request())
			if err != nil {
				t.Fatal(err)
			}
			latents := want[fmt.Sprintf("%d.latents", i)]
			if !res.Latents.Shape().Eq(tensor.Shape(latents.Shape)) {
				t.Fatalf("latents of shape %v, want %v", res.Latents.Shape(), latents.Shape)
			}
			d := golden.RelL2(res.Latents.Float32s(), latents.F32)
			t.Logf("latents: relative L2 %.2g", d)
			if !(d <= 1e-4) {
				t.Errorf("latents: relative L2 %g", d)
			}
			images := want[fmt.Sprintf("%d.images", i)]
			if len(res.Images) != images.Shape[0] {
				t.Fatalf("%d images, want %d", len(res.Images), images.Shape[0])
			}
			size := images.Shape[1] * images.Shape[2] * 3
			for k, img := range res.Images {
				if off := furthest(t, img, images.F32[k*size:][:size], images.Shape[2], images.Shape[1]); off > 1 {
					t.Errorf("image %d: a channel is %g/255 off", k, off)
				}
			}
		})
	}
}

// furthest is the largest difference of a channel.
func furthest(t *testing.T, img image.Image, want []float32, w, h int) (off float32) {
	t.Helper()
	if img.Bounds().Dx() != w || img.Bounds().Dy() != h {
		t.Fatalf("image of %v, want %dx%d", img.Bounds(), w, h)
	}
	for y := range h {
		for x := range w {
			r, g, b, _ := img.At(x, y).RGBA()
			for c, v := range [3]uint32{r, g, b} {
				d := float32(v>>8) - want[(y*w+x)*3+c]
				off = max(off, d, -d)
			}
		}
	}
	return off
}
