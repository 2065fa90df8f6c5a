package pipeline

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"image"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/sched"
	"gorgonia.org/tensor"
)

// Request is one call of a pipeline. Fields are named as diffusers' arguments; the zero value of each means
// the model's default.
type Request struct {
	Prompt         string
	NegativePrompt string // with guidance: what the picture should not be; empty is diffusers' None

	// Prompt2 and NegativePrompt2 are for SDXL's second text encoder; empty takes Prompt and NegativePrompt.
	Prompt2         string
	NegativePrompt2 string

	Height, Width      int     // pixels; the default is what the model was trained for
	NumInferenceSteps  int     // default 50, or the length of a list below
	GuidanceScale      float32 // default 7.5, SDXL 5, the embedded model 3; 1 or less switches guidance off
	GuidanceRescale    float32 // with guidance: share of the prediction scaled back to its spread (arXiv 2305.08891)
	NumImagesPerPrompt int     // default 1
	ClipSkip           int     // layers left out at the end of the text encoder
	Eta                float32 // noise added by DDIM, 0 to 1; others refuse it
	Seed               *uint64 // see Seed; nil picks one and the result names it

	// Timesteps or Sigmas take the place of the scheduler's own spacing: what the model is told at each step, or how much
	// noise there is before each step and after the last, in units of signal. EulerDiscreteScheduler takes either,
	// DPMSolverMultistepScheduler and LCMScheduler take timesteps; others refuse both.
	Timesteps []int
	Sigmas    []float64

	// Scheduler overrides the model's: a diffusers class name or a short name such as "dpm++2m". It is made from the
	// model's as diffusers' from_config does it, also where it is of the same class.
	Scheduler string
	// CustomScheduler is a scheduler of the program's own, in place of the model's. It belongs to this request until it is
	// done.
	CustomScheduler sched.Scheduler

	// Embeddings of the prompt, in place of Prompt: [1 S C], C being cross_attention_dim. The negative one, where
	// guidance is on and it is nil, is computed from NegativePrompt. SDXL also needs the pooled ones, [1 P].
	PromptEmbeds               *tensor.Dense
	NegativePromptEmbeds       *tensor.Dense
	PooledPromptEmbeds         *tensor.Dense
	NegativePooledPromptEmbeds *tensor.Dense

	// Latents is the noise to start from, [N 4 Height/8 Width/8] with unit variance; by default it is
	// torch.randn of the seed.
	Latents *tensor.Dense

	// SDXL's size conditioning, height first; the default is the size of the picture, not cropped.
	OriginalSize       [2]int
	CropsCoordsTopLeft [2]int
	TargetSize         [2]int

	// OnStepEnd, if set, is called after each step. An error from it ends the call. It may call Close, but another
	// Generate of the pipeline would wait for this one. Latents come from the device for it, and go back.
	OnStepEnd func(Step) error
	// OnProgress is OnStepEnd for who does not want to see the latents: its Step has none.
	OnProgress func(Step) error
}

// Step is what OnStepEnd sees.
type Step struct {
	Index    int // from 0
	Total    int
	Timestep float32
	Latents  []float32 // [N 4 h w], as they will go on; may be changed. For OnStepEnd
}

// Result is what Generate returns.
type Result struct {
	Images    []image.Image // NumImagesPerPrompt pictures, 8 bits per channel, sRGB
	Latents   *tensor.Dense // [N 4 h w], before the VAE's scaling, as diffusers' output_type="latent"
	Seed      uint64
	Scheduler string               // the diffusers class that ran
	Steps     int                  // model evaluations
	Warnings  []string             // what was not done as asked, such as text cut off
	Offload   *graphs.OffloadStats // nil without a strategy
	Times     Times
}

// Seed is for Request.Seed.
func Seed(s uint64) *uint64 { return &s }

// RequestError is a request that cannot be run.
type RequestError struct {
	Field   string // of Request, in diffusers' spelling
	Problem string
}

func (e *RequestError) Error() string { return e.Field + " " + e.Problem }

// Resolve fills in the model's defaults, a seed among them, and refuses what cannot be run. Scheduler stays empty for
// the model's own. Generate does it by itself.
func (p *TextToImage) Resolve(r Request) (_ Request, err error) {
	defer stack.Add(&err)
	defer panics.Recovered(&err)
	if side := p.unet.SampleSize; len(side) > 0 {
		orDefault(&r.Height, side[0]*p.vae.Scale())
		orDefault(&r.Width, side[len(side)-1]*p.vae.Scale())
	} else if r.Height == 0 || r.Width == 0 {
		return r, &RequestError{"height", "and width are needed: unet/config.json has no sample_size"}
	}
	if _, r.NumInferenceSteps, err = r.run(); err != nil {
		return r, err
	}
	orDefault(&r.NumInferenceSteps, 50)
	orDefault(&r.NumImagesPerPrompt, 1)
	orDefault(&r.GuidanceScale, p.scale)
	orDefault(&r.Prompt2, r.Prompt)
	orDefault(&r.NegativePrompt2, r.NegativePrompt)
	orDefault(&r.Scheduler, p.settings.scheduler)
	orDefault(&r.OriginalSize, [2]int{r.Height, r.Width})
	orDefault(&r.TargetSize, [2]int{r.Height, r.Width})
	if err := p.checkScheduler(r); err != nil {
		return r, err
	}
	if r.Seed == nil {
		var b [8]byte
		rand.Read(b[:])
		r.Seed = Seed(binary.LittleEndian.Uint64(b[:]) >> 1) // what fits torch's signed seeds
	}

	for _, side := range []struct {
		field string
		n     int
	}{{"height", r.Height}, {"width", r.Width}} {
		if err := p.checkSide(side.field, side.n); err != nil {
			return r, err
		}
	}
	if err := p.checkNumbers(r); err != nil {
		return r, err
	}
	if err := p.checkUse(r); err != nil {
		return r, err
	}
	return r, p.checkTensors(r)
}

// maxGuidance bounds the guidance scale, maxPixels a size that SDXL is told: float32, which it is told in, holds every
// whole number up to it.
const (
	maxGuidance = 1000
	maxPixels   = 1 << 24
)

// checkNumbers bounds what a request asks for by what it costs, and by what is a number.
func (p *TextToImage) checkNumbers(r Request) error {
	limits := p.limited()
	layers := p.encoders[0].cfg.Layers
	for _, e := range p.encoders {
		layers = min(layers, e.cfg.Layers)
	}
	layers -= p.family.states.skip
	for _, f := range []struct {
		field   string
		v       float64
		low, up float64
		limit   string
	}{
		{"num_inference_steps", float64(r.NumInferenceSteps), 1, float64(limits.Steps), ", the limit Steps"},
		{"num_images_per_prompt", float64(r.NumImagesPerPrompt), 1, float64(limits.Images), ", the limit Images"},
		{"guidance_scale", float64(r.GuidanceScale), -maxGuidance, maxGuidance, ""},
		{"guidance_rescale", float64(r.GuidanceRescale), 0, 1, ""},
		{"clip_skip", float64(r.ClipSkip), 0, float64(layers), ""},
		{"eta", float64(r.Eta), 0, 1, ""},
		{"original_size", float64(r.OriginalSize[0]), 0, maxPixels, ""}, {"original_size", float64(r.OriginalSize[1]), 0, maxPixels, ""},
		{"target_size", float64(r.TargetSize[0]), 0, maxPixels, ""}, {"target_size", float64(r.TargetSize[1]), 0, maxPixels, ""},
		{"crops_coords_top_left", float64(r.CropsCoordsTopLeft[0]), -maxPixels, maxPixels, ""},
		{"crops_coords_top_left", float64(r.CropsCoordsTopLeft[1]), -maxPixels, maxPixels, ""},
	} {
		if !(f.v >= f.low && f.v <= f.up) {
			return &RequestError{f.field, fmt.Sprintf("is %g, want %g to %g%s", f.v, f.low, f.up, f.limit)}
		}
	}
	return nil
}

// checkUse refuses what would be taken and do nothing.
func (p *TextToImage) checkUse(r Request) error {
	m, err := p.schedulerOf(r)
	switch {
	case err != nil:
		return err
	case r.Eta != 0 && r.CustomScheduler == nil && m.Name() != "DDIMScheduler":
		return &RequestError{"eta", fmt.Sprintf("is %g, which %s has no use for; DDIMScheduler has", r.Eta, m.Name())}
	case r.GuidanceRescale != 0 && p.settings.guidance != nil:
		return &RequestError{"guidance_rescale", fmt.Sprintf("is %g, but the pipeline's guidance is its own", r.GuidanceRescale)}
	case r.GuidanceRescale != 0 && r.GuidanceScale <= 1:
		return &RequestError{"guidance_rescale", fmt.Sprintf("is %g, but guidance_scale %g switches guidance off", r.GuidanceRescale, r.GuidanceScale)}
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// checkSide refuses a side that is not a whole number of latents, naming the nearest that are.
func (p *TextToImage) checkSide(field string, n int) error {
	unit := max(8, p.vae.Scale())
	most := p.limited().Side
	switch low := n / unit * unit; {
	case n < unit:
		return &RequestError{field, fmt.Sprintf("%d is less than %d", n, unit)}
	case n > most:
		return &RequestError{field, fmt.Sprintf("%d is more than %d, the limit Side", n, most)}
	case low != n:
		return &RequestError{field, fmt.Sprintf("%d is not a multiple of %d; nearest are %d and %d", n, unit, low, low+unit)}
	}
	return nil
}

func (p *TextToImage) checkTensors(r Request) error {
	h, w := r.Height/p.vae.Scale(), r.Width/p.vae.Scale()
	c, pooled := p.unet.CrossAttentionDim, 0
	if p.family.textTime {
		pooled = p.unet.PooledDim()
	}
	if r.PromptEmbeds == nil && (r.NegativePromptEmbeds != nil || r.PooledPromptEmbeds != nil) {
		return &RequestError{"prompt_embeds", "must be given with the other embeddings"}
	}
	s := 0
	if r.PromptEmbeds != nil && r.PromptEmbeds.Dims() == 3 {
		s = r.PromptEmbeds.Shape()[1]
	}
	for _, t := range []struct {
		field string
		t     *tensor.Dense
		want  tensor.Shape
		need  bool
	}{
		{"latents", r.Latents, tensor.Shape{r.NumImagesPerPrompt, p.unet.InChannels, h, w}, false},
		{"prompt_embeds", r.PromptEmbeds, tensor.Shape{1, max(s, 1), c}, false},
		{"negative_prompt_embeds", r.NegativePromptEmbeds, tensor.Shape{1, s, c}, false},
		{"pooled_prompt_embeds", r.PooledPromptEmbeds, tensor.Shape{1, pooled}, p.family.textTime && r.PromptEmbeds != nil},
		{"negative_pooled_prompt_embeds", r.NegativePooledPromptEmbeds, tensor.Shape{1, pooled}, p.family.textTime && r.NegativePromptEmbeds != nil},
	} {
		switch {
		case t.t == nil && t.need:
			return &RequestError{t.field, "is needed with these embeddings by this model"}
		case t.t == nil:
		case !t.t.Shape().Eq(t.want) || t.t.Dtype() != tensor.Float32:
			return &RequestError{t.field, fmt.Sprintf("is %v of shape %v, want float32 %v", t.t.Dtype(), t.t.Shape(), t.want)}
		case !finite(contiguous(t.t)):
			return &RequestError{t.field, "holds a value that is not finite"}
		}
	}
	return nil
}
