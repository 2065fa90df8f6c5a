package pipeline_test

import (
	"image"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/unet"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// guided is classifier-free guidance of plain Gorgonia operations: negative + scale (prompt - negative).
func guided(scale float32) func(layers.Scope, *G.Node, *G.Node) (*G.Node, error) {
	return func(_ layers.Scope, prediction, step *G.Node) (*G.Node, error) {
		n := prediction.Shape()[0] / 2
		half := func(i int) (*G.Node, error) {
			x, err := G.Slice(prediction, G.S(i*n, (i+1)*n))
			if err != nil {
				return nil, err
			}
			return G.Reshape(x, append(tensor.Shape{n}, prediction.Shape()[1:]...)) // Slice drops a dimension of one
		}
		negative, err := half(0)
		if err != nil {
			return nil, err
		}
		prompt, err := half(1)
		if err != nil {
			return nil, err
		}
		d, err := G.Sub(prompt, negative)
		if err != nil {
			return nil, err
		}
		if d, err = G.Mul(d, G.NewConstant(scale)); err != nil {
			return nil, err
		}
		return G.Add(negative, d)
	}
}

// Guidance of the program's own takes the place of the pipeline's, offloaded or not.
func TestGuidanceOfTheProgramsOwn(t *testing.T) {
	for name, s := range map[string]offload.Strategy{"no plan": nil, "sequential": offload.Sequential()} {
		var opts []graphs.Option
		if s != nil {
			opts = append(opts, graphs.WithOffload(s))
		}
		r := small()
		r.GuidanceScale = 4
		want := run(t, openGolden(t, "sd1", opts...), r)
		got := run(t, openGolden(t, "sd1", append(opts, pipeline.WithGuidance(guided(4)))...), r)
		if d := golden.RelL2(got.latents, want.latents); !(d <= 1e-5) {
			t.Errorf("%s: latents differ by %g", name, d)
		}
		other := run(t, openGolden(t, "sd1", append(opts, pipeline.WithGuidance(guided(2)))...), r)
		if d := golden.RelL2(other.latents, want.latents); d < 1e-3 {
			t.Errorf("%s: another guidance makes no difference", name)
		}
	}
	wrong := func(_ layers.Scope, prediction, _ *G.Node) (*G.Node, error) { return prediction, nil }
	if _, err := openGolden(t, "sd1", pipeline.WithGuidance(wrong)).Generate(t.Context(), small()); err == nil || !strings.Contains(err.Error(), "guidance") {
		t.Errorf("a guidance of another shape: %v", err)
	}
	r := small()
	r.GuidanceRescale = 0.5
	if _, err := openGolden(t, "sd1", pipeline.WithGuidance(guided(4))).Generate(t.Context(), r); err == nil {
		t.Error("guidance_rescale with a guidance of the program's own is taken")
	}
}

// Seams that change nothing change no bit, and one that changes an attention changes the picture.
func TestSeamsOfThePipeline(t *testing.T) {
	want := run(t, openGolden(t, "sdxl"), small())
	seen := map[string]bool{}
	same := func(unet.Inputs) unet.Seams {
		return unet.Seams{Attention: func(a unet.Attention) (*G.Node, error) {
			seen[a.Name] = true
			return a.Build()
		}}
	}
	if got := run(t, openGolden(t, "sdxl", pipeline.WithSeams(same)), small()); !got.equal(want) || len(seen) == 0 {
		t.Errorf("another picture with seams that do nothing at %d attentions", len(seen))
	}
	// Perturbed attention: every pixel attends to itself.
	itself := func(unet.Inputs) unet.Seams {
		return unet.Seams{Attention: func(a unet.Attention) (*G.Node, error) {
			if a.Context != nil || !strings.HasPrefix(a.Name, "mid_block") {
				return a.Build()
			}
			c := a.X.Shape()[len(a.X.Shape())-1]
			return a.Scope.On(a.X).LinearNoBias("to_v", c).Linear("to_out.0", c).Node()
		}}
	}
	if got := run(t, openGolden(t, "sdxl", pipeline.WithSeams(itself)), small()); golden.RelL2(got.latents, want.latents) < 1e-4 {
		t.Error("the picture is the same with another attention")
	}
}

// Pictures are encoded as diffusers encodes them, in a run with a job of the program's own.
func TestImageEncoder(t *testing.T) {
	for _, s := range []offload.Strategy{nil, offload.Sequential()} {
		p := openGolden(t, "sd1")
		if err := p.SetOffload(s); err != nil {
			t.Fatal(err)
		}
		enc, err := p.NewImageEncoder(16, 24)
		if err != nil {
			t.Fatal(err)
		}
		img := image.NewNRGBA(image.Rect(3, 5, 27, 21))
		for i := range img.Pix {
			img.Pix[i] = uint8(i * 7)
		}
		r := small()
		r.Height, r.Width = 16, 24
		job, err := p.NewJob(r)
		if err != nil {
			t.Fatal(err)
		}
		run, err := job.Begin(t.Context(), enc.Stage(2))
		if err != nil {
			t.Fatal(err)
		}
		mean, err := enc.Encode(t.Context(), run, img, nil)
		if err != nil {
			t.Fatal(err)
		}
		sample, err := enc.Encode(t.Context(), run, img, pipeline.NewNoise(1))
		if err != nil {
			t.Fatal(err)
		}
		if len(mean) != tensor.Shape(job.LatentShape()).TotalSize() || slices.Equal(mean, sample) {
			t.Errorf("%d latents for %v, or the sample is the mean", len(mean), job.LatentShape())
		}
		if _, err := enc.Encode(t.Context(), run, image.NewNRGBA(image.Rect(0, 0, 24, 24)), nil); err == nil {
			t.Error("a picture of another size is taken")
		}
		// What was encoded comes back: random weights make no good of a picture, but the numbers are in range.
		images, err := job.Decode(t.Context(), run, mean)
		if err != nil || images[0].Bounds().Dx() != 24 {
			t.Errorf("decoding: %v", err)
		}
		if _, err := run.End(); err != nil {
			t.Fatal(err)
		}
		for i, v := range sample {
			if math.IsNaN(float64(v)) {
				t.Fatalf("latent %d is not a number", i)
			}
		}
	}
	if _, err := openGolden(t, "sd1").NewImageEncoder(17, 24); err == nil {
		t.Error("a height that is no whole number of latents is taken")
	}
}
