package graphs

import (
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/sched"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
)

// TextToImage is a pipeline from a prompt to pictures: StableDiffusionPipeline and StableDiffusionXLPipeline. It may
// be used from several goroutines, which take turns. The runtime that its graphs are compiled into can run a
// program's own beside them.
type TextToImage struct {
	*Runtime

	xl         bool
	guidance   float32 // the default of requests
	zeroEmpty  bool    // force_zeros_for_empty_prompt
	encoders   []encoder
	unet       unet.Config
	vae        vae.Config
	scheduler  sched.Config
	rescue     rescue                   // where the model's own scheduler cannot be made
	parameters map[string]layers.Params // per component
	networks   map[string]any           // compiled, by component and shape
	tile       int                      // pixels of the VAE's tiles where a budget asks for tiles, else 0
}

// encoder is a text encoder and its tokenizer.
type encoder struct {
	component  string // text_encoder, text_encoder_2
	tok        *textenc.Tokenizer
	cfg        textenc.Config
	projection bool // CLIPTextModelWithProjection
}

// Option is a choice made for a runtime, a VM or a pipeline. One that has no effect there is an error.
type Option func(*options)

// only is an option that is for one kind of user.
type only struct{ kind, option string }

func (o *options) onlyFor(kind, option string) { o.only = append(o.only, only{kind, option}) }

type options struct {
	threads   int
	tiling    bool
	checks    bool
	scheduler string
	everyStep bool
	trace     bool
	device    DeviceOption
	memory    *HostMemory
	sources   []loader.Source
	only      []only
	models    []*loader.Model // of the sources: those that are checked
	outputs   []*G.Node       // of NewVM
	limits    Limits
	onCopy    func() // for tests: before each copy to the device

	strategies    []offload.Strategy // one, or it is an error
	before, after func(HookEvent)
}

// WithThreads sets the number of threads, at most 1,024; 0, the default, takes one per core.
func WithThreads(n int) Option { return func(o *options) { o.threads = n } }

// WithScheduler overrides the model's scheduler for requests that name none; see Request.Scheduler.
func WithScheduler(name string) Option {
	return func(o *options) { o.scheduler = name; o.onlyFor("a pipeline", "WithScheduler") }
}

// WithVAETiling decodes pictures larger than the VAE's own size in overlapping tiles that are blended, as
// diffusers' enable_vae_tiling: less memory, slightly different pixels. (Pictures of a batch are always
// decoded one at a time, which diffusers calls slicing.)
func WithVAETiling() Option {
	return func(o *options) { o.tiling = true; o.onlyFor("a pipeline", "WithVAETiling") }
}

// WithFiniteChecks looks at the result of every operation and ends a call with a *NonFiniteError at the first value
// that is infinite or not a number. Without it only what the networks and the scheduler return is looked at, so that
// no picture is silently black, and a value that goes lost on the way stays unseen.
func WithFiniteChecks() Option { return func(o *options) { o.checks = true } }

// WithHostMemory has the pipeline's large buffers count against a budget.
func WithHostMemory(m *HostMemory) Option { return func(o *options) { o.memory = m } }

// WithoutHoisting computes in every step what does not change between steps, as diffusers does: the text's keys
// and values, and the time projections. The pictures are the same.
func WithoutHoisting() Option {
	return func(o *options) { o.everyStep = true; o.onlyFor("a pipeline", "WithoutHoisting") }
}

// NewTextToImage checks a model and makes a pipeline of it. Every problem found is reported; weights are read
// when a picture first needs them, so the model must stay open as long as the pipeline.
func NewTextToImage(m *loader.Model, opts ...Option) (*TextToImage, error) {
	p := &TextToImage{parameters: map[string]layers.Params{}, networks: map[string]any{}}
	if err := p.open(m, opts); err != nil {
		if p.Runtime != nil {
			p.Close()
		}
		return nil, err
	}
	return p, nil
}

func (p *TextToImage) open(m *loader.Model, opts []Option) (err error) {
	defer program.Recovered(&err)
	if m == nil {
		return errors.New("the model is nil")
	}
	switch m.Class() {
	case "StableDiffusionPipeline":
	case "StableDiffusionXLPipeline":
		p.xl = true
	default:
		return &badmodel.Error{File: "model_index.json", Field: "_class_name", Got: badmodel.Quote(m.Class()),
			Want: "StableDiffusionPipeline or StableDiffusionXLPipeline"}
	}
	if p.Runtime, err = open("a pipeline", append(slices.Clone(opts), WithWeights(m))); err != nil {
		return err
	}
	return p.read(m)
}

// read parses every config and checks the weights against them, collecting the problems. A scheduler that cannot be
// made is no problem of the model yet: a request may name another.
func (p *TextToImage) read(m *loader.Model) error {
	var errs []error
	failed := func(err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		return err != nil
	}
	failed(p.readIndex(m))
	failed(p.readGuidance(m))
	p.encoders = []encoder{{component: "text_encoder"}}
	if p.xl {
		p.encoders = append(p.encoders, encoder{component: "text_encoder_2"})
	}
	for i := range p.encoders {
		failed(p.readEncoder(m, &p.encoders[i]))
	}
	raw, file, err := p.component(m, "unet", "UNet2DConditionModel")
	if !failed(err) {
		p.unet, err = unet.ParseConfig(file, raw)
		failed(err)
		if !p.xl {
			failed(patchOldUNet(file, &p.unet))
		}
	}
	if raw, file, err = p.component(m, "vae", "AutoencoderKL"); !failed(err) {
		p.vae, err = vae.ParseConfig(file, raw)
		failed(err)
	}
	p.readScheduler(m)
	if len(errs) == 0 {
		failed(p.fit())
	}
	if len(errs) == 0 {
		failed(p.dryBuild())
	}
	if len(errs) > 0 {
		failed(p.rescue.err)
	}
	return badmodel.Join(errs...)
}

// readIndex reads the settings of model_index.json, which are arguments of the pipeline's constructor.
func (p *TextToImage) readIndex(m *loader.Model) error {
	const zeros, watermark = "force_zeros_for_empty_prompt", "add_watermarker"
	v, there := m.IndexValue(zeros)
	set, isBool := v.(bool)
	if p.zeroEmpty = set || !there; there && !isBool && v != nil {
		return &badmodel.Error{File: "model_index.json", Field: zeros, Got: badmodel.Quote(fmt.Sprint(v)), Want: "true or false"}
	}
	if v, _ := m.IndexValue(watermark); p.xl && v != nil && v != false {
		return &badmodel.Error{File: "model_index.json", Field: watermark, Got: badmodel.Quote(fmt.Sprint(v)),
			Want: "false or null: pictures get no watermark"}
	}
	return nil
}

// guidanceKey is our own key of model_index.json, for models whose pictures want another guidance scale than is usual.
// diffusers has no place for one, and ignores keys that begin with an underscore.
const guidanceKey = "_euryale_guidance_scale"

// readGuidance finds the guidance scale of requests that name none.
func (p *TextToImage) readGuidance(m *loader.Model) error {
	p.guidance = 7.5
	if p.xl {
		p.guidance = 5
	}
	v, _ := m.IndexValue(guidanceKey)
	if v == nil {
		return nil
	}
	n, ok := v.(float64)
	if !ok || !(n >= 1 && n <= maxGuidance) {
		return &badmodel.Error{File: "model_index.json", Field: guidanceKey, Got: badmodel.Quote(fmt.Sprint(v)),
			Want: fmt.Sprintf("a number from 1 to %d", maxGuidance)}
	}
	p.guidance = float32(n)
	return nil
}

// component reads the config of a component and notes its weights.
func (p *TextToImage) component(m *loader.Model, name string, classes ...string) (raw []byte, file string, err error) {
	c, err := m.Component(name)
	if err != nil {
		return nil, "", err
	}
	ok := false
	for _, want := range classes {
		ok = ok || c.Class == want
	}
	if !ok {
		return nil, "", &badmodel.Error{File: "model_index.json", Field: name, Got: badmodel.Quote(c.Class),
			Want: strings.Join(classes, " or ")}
	}
	if file, raw, err = c.Config(); err != nil {
		return nil, "", err
	}
	w, err := c.Weights()
	p.parameters[name] = w
	return raw, file, err
}

// patchOldUNet is what StableDiffusionPipeline does to UNets saved before diffusers 0.9.0: a size below 64, which the
// default was once, is raised to 64.
func patchOldUNet(file string, cfg *unet.Config) error {
	if cfg.Version == "" {
		return nil
	}
	// What follows the numbers, .dev0 or rc1, is not compared.
	release := pythonRelease.FindStringSubmatch(cfg.Version)
	if release == nil {
		return &badmodel.Error{File: file, Field: "_diffusers_version", Got: badmodel.Quote(cfg.Version), Want: "a version, 0.34.0 say"}
	}
	major, _ := strconv.Atoi(release[1])
	minor, _ := strconv.Atoi(release[2])
	if len(cfg.SampleSize) == 1 && cfg.SampleSize[0] < 64 && major == 0 && minor < 9 {
		cfg.SampleSize = []int{64}
	}
	return nil
}

// pythonRelease is the beginning of a version of a Python package.
var pythonRelease = regexp.MustCompile(`^\s*v?(\d{1,4})(?:\.(\d{1,4}))?(?:\D|$)`)

func (p *TextToImage) readEncoder(m *loader.Model, e *encoder) error {
	// Without projection the hidden states are the first of a text model's results, which is what SD 1 and 2 take.
	classes := []string{"CLIPTextModel"}
	if p.xl {
		classes = append(classes, "CLIPTextModelWithProjection")
	}
	raw, file, err := p.component(m, e.component, classes...)
	if err != nil {
		return err
	}
	if e.cfg, err = textenc.ParseConfig(file, raw); err != nil {
		return err
	}
	if e.cfg.UseMask && !p.xl {
		return &badmodel.Error{File: file, Field: "use_attention_mask", Got: "true", Want: "false, the only value implemented"}
	}
	c, _ := m.Component(e.component)
	e.projection = c.Class == "CLIPTextModelWithProjection"
	tokenizer := strings.Replace(e.component, "text_encoder", "tokenizer", 1)
	if c, err = m.Component(tokenizer); err != nil {
		return err
	}
	if e.tok, err = readTokenizer(c, p.opt.limited().Prompt); err != nil {
		return err
	}
	if err := e.tok.CheckRows(e.cfg.VocabSize); err != nil {
		return err
	}
	if n := e.tok.MaxLength(); n > e.cfg.MaxPositions {
		return &badmodel.Error{File: tokenizer + "/tokenizer_config.json", Field: "model_max_length", Got: fmt.Sprint(n),
			Want: fmt.Sprintf("at most the text encoder's max_position_embeddings %d", e.cfg.MaxPositions)}
	}
	return nil
}

// fit checks what no component can tell alone.
func (p *TextToImage) fit() error {
	var errs []error
	bad := func(file, field string, got int, want string, n int) {
		if got != n {
			errs = append(errs, &badmodel.Error{File: file, Field: field, Got: fmt.Sprint(got), Want: fmt.Sprintf("%s %d", want, n)})
		}
	}
	width := 0
	for _, e := range p.encoders {
		width += e.cfg.Hidden
	}
	bad("unet/config.json", "cross_attention_dim", p.unet.CrossAttentionDim, "the text encoders' hidden_size", width)
	bad("unet/config.json", "in_channels", p.unet.InChannels, "the vae's latent_channels", p.vae.LatentChannels)
	bad("unet/config.json", "out_channels", p.unet.OutChannels, "in_channels", p.unet.InChannels)
	bad("vae/config.json", "out_channels", p.vae.OutChannels, "red, green and blue:", 3)
	switch pooled := p.pooledEncoder(); {
	case p.xl && !p.unet.TextTime:
		errs = append(errs, &badmodel.Error{File: "unet/config.json", Field: "addition_embed_type", Got: "not set", Want: "text_time"})
	case p.unet.TextTime && !p.xl:
		errs = append(errs, &badmodel.Error{File: "unet/config.json", Field: "addition_embed_type", Got: "text_time", Want: "null in a StableDiffusionPipeline"})
	case p.xl && pooled < 0:
		errs = append(errs, &badmodel.Error{File: "model_index.json", Field: "text_encoder_2", Got: "CLIPTextModel", Want: "CLIPTextModelWithProjection"})
	case p.xl:
		e := p.encoders[pooled]
		bad(e.component+"/config.json", "projection_dim", e.cfg.ProjectionDim, "the unet's pooled width", p.unet.PooledDim())
	}
	return errors.Join(errs...)
}

// pooledEncoder is the encoder whose pooled state SDXL's UNet is told: the first with a projection; -1 if none has one.
func (p *TextToImage) pooledEncoder() int {
	return slices.IndexFunc(p.encoders, func(e encoder) bool { return p.xl && e.projection })
}

// dryBuild builds every graph at a small size, which checks the shape of every weight.
func (p *TextToImage) dryBuild() error {
	var errs []error
	check := func(component string, explain func(layers.Params) error, build func(s layers.Scope) error) {
		w := p.parameters[component]
		if err := build(layers.NewScope(G.NewGraph(), component, w)); err != nil {
			errs = append(errs, explain(w), err)
		}
	}
	for i, e := range p.encoders {
		check(e.component, e.cfg.Explain, func(s layers.Scope) error {
			_, _, err := e.build(s, 1, textOptions{norm: true, pooled: i == p.pooledEncoder()})
			return err
		})
	}
	// The smallest latents that can be halved once per block.
	side := 1 << bits.Len(uint(len(p.unet.BlockOutChannels)))
	check("unet", p.unet.Explain, func(s layers.Scope) error {
		_, err := unet.Build(s, p.unet, unet.NewInputs(s, p.unet, 1, side, side, 2))
		return err
	})
	check("vae", p.vae.Explain, func(s layers.Scope) error { _, _, err := p.buildDecoder(s, 8, 8); return err })
	return badmodel.Join(errs...)
}

// network is a compiled graph and the memory its inputs are read from.
type network[In any] struct {
	*VM
	in In
}

// compiled returns the network of a component for one shape, building and compiling it the first time.
func compiled[In any](p *TextToImage, component, shape string, build func(layers.Scope) (In, []*G.Node, error)) (network[In], error) {
	key := component + " " + shape
	if n, ok := p.networks[key]; ok {
		return n.(network[In]), nil
	}
	in, outputs, err := build(layers.NewScope(G.NewGraph(), component, p.parameters[component]))
	if err != nil {
		return network[In]{}, err
	}
	vm, err := p.host.compile(p.host.target(component == "vae" && p.xl && p.vae.ForceUpcast), outputs)
	if err != nil {
		return network[In]{}, err
	}
	n := network[In]{vm, in}
	p.networks[key] = n
	return n, nil
}

// trim forgets the compiled networks of earlier requests if they are many. Within a request none may be forgotten: a
// plan is for the very networks that it listed.
func (p *TextToImage) trim() {
	if len(p.networks) >= maxNetworks {
		clear(p.networks)
	}
}

// maxNetworks bounds the compiled graphs kept: a server that is asked for every size must not grow for ever.
const maxNetworks = 32
