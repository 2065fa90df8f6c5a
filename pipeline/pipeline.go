package pipeline

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/panics"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/sched"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// TextToImage is a pipeline from a prompt to pictures: StableDiffusionPipeline and StableDiffusionXLPipeline. It may
// be used from several goroutines, which take turns. The runtime that its graphs are compiled into can run a
// program's own beside them.
type TextToImage struct {
	*graphs.Runtime
	settings

	family     family
	scale      float32 // of guidance: the default of requests
	zeroEmpty  bool    // force_zeros_for_empty_prompt
	encoders   []encoder
	unet       unet.Config
	vae        vae.Config
	scheduler  sched.Config
	rescue     rescue                   // where the model's own scheduler cannot be made
	parameters map[string]layers.Params // per component

	compiling sync.Mutex     // of networks
	networks  map[string]any // compiled, by component and shape
}

// encoder is a text encoder and its tokenizer.
type encoder struct {
	component  string // text_encoder, text_encoder_2
	tok        *textenc.Tokenizer
	cfg        textenc.Config
	projection bool // CLIPTextModelWithProjection
}

// NewTextToImage checks a model and makes a pipeline of it. Every problem found is reported; weights are read
// when a picture first needs them, so the model must stay open as long as the pipeline.
func NewTextToImage(m *loader.Model, opts ...graphs.Option) (p *TextToImage, err error) {
	defer stack.Add(&err)
	defer panics.Recovered(&err)
	if m == nil {
		return nil, errors.New("the model is nil")
	}
	p = &TextToImage{parameters: map[string]layers.Params{}, networks: map[string]any{}}
	if p.family, err = familyOf(m.Class()); err != nil {
		return nil, err
	}
	opts = append(p.settings.take(opts), graphs.WithWeights(m), graphs.WithOutputChecks())
	if p.Runtime, err = graphs.Open(opts...); err != nil {
		return nil, err
	}
	if err := p.read(m); err != nil {
		if e := p.Close(); e != nil {
			err = errors.Join(err, e)
		}
		return nil, err
	}
	return p, nil
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
	for _, component := range p.family.encoders {
		e, err := p.readEncoder(m, component)
		failed(err)
		p.encoders = append(p.encoders, e)
	}
	raw, file, err := p.component(m, "unet", "UNet2DConditionModel")
	if !failed(err) {
		p.unet, err = unet.ParseConfig(file, raw)
		failed(err)
		if patch := p.family.patchUNet; patch != nil {
			failed(patch(file, &p.unet))
		}
	}
	if raw, file, err = p.component(m, "vae", "AutoencoderKL"); !failed(err) {
		p.vae, err = vae.ParseConfig(file, raw)
		failed(err)
	}
	p.readScheduler(m)
	if len(errs) == 0 {
		failed(p.fit(m.Class()))
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
	if v, _ := m.IndexValue(watermark); p.family.watermark && v != nil && v != false {
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
	p.scale = p.family.guidance
	v, _ := m.IndexValue(guidanceKey)
	if v == nil {
		return nil
	}
	n, ok := v.(float64)
	if !ok || !(n >= 1 && n <= maxGuidance) {
		return &badmodel.Error{File: "model_index.json", Field: guidanceKey, Got: badmodel.Quote(fmt.Sprint(v)),
			Want: fmt.Sprintf("a number from 1 to %d", maxGuidance)}
	}
	p.scale = float32(n)
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

// readEncoder reads the config of a text encoder, and its tokenizer.
func (p *TextToImage) readEncoder(m *loader.Model, component string) (e encoder, err error) {
	e.component = component
	raw, file, err := p.component(m, component, p.family.classes...)
	if err != nil {
		return e, err
	}
	if e.cfg, err = textenc.ParseConfig(file, raw); err != nil {
		return e, err
	}
	if e.cfg.UseMask && p.family.masked {
		return e, &badmodel.Error{File: file, Field: "use_attention_mask", Got: "true", Want: "false, the only value implemented"}
	}
	c, _ := m.Component(component)
	e.projection = c.Class == "CLIPTextModelWithProjection"
	tokenizer := strings.Replace(component, "text_encoder", "tokenizer", 1)
	if c, err = m.Component(tokenizer); err != nil {
		return e, err
	}
	if e.tok, err = readTokenizer(c, p.limited().Prompt); err != nil {
		return e, err
	}
	if err := e.tok.CheckRows(e.cfg.VocabSize); err != nil {
		return e, err
	}
	if n := e.tok.MaxLength(); n > e.cfg.MaxPositions {
		return e, &badmodel.Error{File: tokenizer + "/tokenizer_config.json", Field: "model_max_length", Got: fmt.Sprint(n),
			Want: fmt.Sprintf("at most the text encoder's max_position_embeddings %d", e.cfg.MaxPositions)}
	}
	return e, nil
}

// fit checks what no component can tell alone.
func (p *TextToImage) fit(class string) error {
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
	switch pooled, told := p.pooledEncoder(), p.family.textTime; {
	case told && !p.unet.TextTime:
		errs = append(errs, &badmodel.Error{File: "unet/config.json", Field: "addition_embed_type", Got: "not set", Want: "text_time"})
	case p.unet.TextTime && !told:
		errs = append(errs, &badmodel.Error{File: "unet/config.json", Field: "addition_embed_type", Got: "text_time",
			Want: "null in a " + class})
	case told && pooled < 0:
		errs = append(errs, &badmodel.Error{File: "model_index.json", Field: p.encoders[len(p.encoders)-1].component,
			Got: "CLIPTextModel", Want: "CLIPTextModelWithProjection"})
	case told:
		e := p.encoders[pooled]
		bad(e.component+"/config.json", "projection_dim", e.cfg.ProjectionDim, "the unet's pooled width", p.unet.PooledDim())
	}
	return errors.Join(errs...)
}

// pooledEncoder is the encoder whose pooled state the UNet is told: the first with a projection; -1 if none has one.
func (p *TextToImage) pooledEncoder() int {
	return slices.IndexFunc(p.encoders, func(e encoder) bool { return p.family.textTime && e.projection })
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
		_, err := p.buildUNet(s, unet.NewInputs(s, p.unet, 1, side, side, 2))
		return err
	})
	check("vae", p.vae.Explain, func(s layers.Scope) error { _, _, err := p.buildDecoder(s, 8, 8); return err })
	return badmodel.Join(errs...)
}

// network is a compiled graph, the memory its inputs are read from, and its outputs.
type network[In any] struct {
	*graphs.VM
	in  In
	out []*G.Node
}

// compiled returns a network of a job, compiling it if no job has had one for the component and shape. A job keeps those
// that it has used: a plan is for the very networks that it listed.
func compiled[N any](j *Job, key string, compile func() (N, error)) (n N, err error) {
	if n, ok := j.networks[key]; ok {
		return n.(N), nil
	}
	p := j.p
	p.compiling.Lock()
	defer p.compiling.Unlock()
	if kept, ok := p.networks[key]; ok {
		n = kept.(N)
	} else {
		if n, err = compile(); err != nil {
			return n, err
		}
		if len(p.networks) >= maxNetworks {
			clear(p.networks)
		}
		p.networks[key] = n
	}
	j.networks[key] = n
	return n, nil
}

// maxNetworks bounds the compiled graphs kept: a server that is asked for every size must not grow for ever.
const maxNetworks = 32

// build makes the network of a component for one shape.
func build[In any](p *TextToImage, component string, o graphs.CompileOptions, add func(layers.Scope) (In, []*G.Node, error)) (n network[In], err error) {
	if n.in, n.out, err = add(layers.NewScope(G.NewGraph(), component, p.parameters[component])); err != nil {
		return n, err
	}
	n.VM, err = p.CompileWith(o, n.out...)
	return n, err
}

// values are those of a node of float32 numbers.
func values(n *G.Node) []float32 { return n.Value().(*tensor.Dense).Float32s() } // Data would allocate
