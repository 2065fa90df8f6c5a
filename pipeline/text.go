package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/textenc"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Conditioning is what the UNet is told about the pictures of a job, for a batch of N: with guidance first N rows for the
// negative prompt, then N for the prompt.
type Conditioning struct {
	Context  []float32 // [rows S C]
	Pooled   []float32 // [rows P]   SDXL
	TimeIDs  []float32 // [rows 6]   SDXL
	Warnings []string  // text cut off
}

// check refuses what is not of a job's shapes.
func (c Conditioning) check(j *Job) error {
	in := &j.loop.in
	for _, f := range []struct {
		name       string
		have, want []float32
	}{{"context", c.Context, in.context}, {"pooled", c.Pooled, in.pooled}, {"time_ids", c.TimeIDs, in.timeIDs}} {
		if len(f.have) != len(f.want) {
			return &RequestError{f.name, fmt.Sprintf("of the conditioning has %d numbers, want %d", len(f.have), len(f.want))}
		}
	}
	return nil
}

// textOptions says which states of an encoder are wanted.
type textOptions struct {
	skip         int
	norm, pooled bool
}

// texts is the input of a text encoder.
type texts struct {
	ids []int32 // [B S]
	eos []int32 // [B]    nil without a pooled output
}

func (e encoder) build(s layers.Scope, b int, o textOptions) (texts, []*G.Node, error) {
	in := textenc.NewInputs(s, b, e.tok.MaxLength(), o.pooled)
	hidden, pooled, err := textenc.Build(s, e.cfg, in, textenc.Options{Skip: o.skip, Norm: o.norm, Projection: e.projection})
	if err != nil {
		return texts{}, nil, err
	}
	var t texts
	outputs := []*G.Node{hidden}
	if t.ids, err = graphs.Bind[int32](in.IDs); err == nil && pooled != nil {
		outputs = append(outputs, pooled)
		t.eos, err = graphs.Bind[int32](in.Pooled)
	}
	return t, outputs, err
}

// encoder is the compiled encoder for a batch of b.
func (j *Job) encoder(e encoder, b int, o textOptions) (network[texts], error) {
	return compiled(j, fmt.Sprint(e.component, " ", b, o), func() (network[texts], error) {
		return build(j.p, e.component, graphs.CompileOptions{}, func(s layers.Scope) (texts, []*G.Node, error) { return e.build(s, b, o) })
	})
}

// encode runs encoder e over prompts.
//
//	hidden [B S C]
//	pooled [B P]     nil unless asked for
func (j *Job) encode(ctx context.Context, run *graphs.Run, e encoder, prompts []string, o textOptions) (hidden, pooled []float32, warnings []string, err error) {
	s := e.tok.MaxLength()
	n, err := j.encoder(e, len(prompts), o)
	if err != nil {
		return nil, nil, nil, err
	}
	for i, prompt := range prompts {
		enc, err := e.tok.Encode(prompt)
		if err != nil {
			return nil, nil, nil, &RequestError{"prompt", err.Error()}
		}
		if enc.Truncated != "" {
			warnings = append(warnings, fmt.Sprintf("%s takes %d tokens; left out: %q", e.component, s, enc.Truncated))
		}
		copy(n.in.ids[i*s:], enc.IDs)
		if o.pooled {
			n.in.eos[i] = e.cfg.PooledPosition(enc.IDs)
		}
	}
	if err := run.Pass(ctx, n.VM); err != nil {
		return nil, nil, nil, err
	}
	hidden = append(hidden, values(n.out[0])...)
	if o.pooled {
		pooled = append(pooled, values(n.out[1])...)
	}
	return hidden, pooled, warnings, nil
}

// EncodePrompt computes what the UNet is told, by the text encoders unless the request brings embeddings.
func (j *Job) EncodePrompt(ctx context.Context, run *graphs.Run) (c Conditioning, err error) {
	defer stack.Add(&err)
	p, r := j.p, j.req
	embeds, pooled, err := j.embed(ctx, run, &c.Warnings)
	if err != nil {
		return c, err
	}
	for i := range j.sides {
		if len(embeds[i]) != len(embeds[0]) {
			return c, &RequestError{"negative_prompt_embeds", fmt.Sprintf("must be given with prompt_embeds of %d tokens: the negative prompt has %d",
				len(embeds[len(j.sides)-1])/p.unet.CrossAttentionDim, len(embeds[0])/p.unet.CrossAttentionDim)}
		}
		for range r.NumImagesPerPrompt {
			c.Context = append(c.Context, embeds[i]...)
			if p.family.textTime {
				c.Pooled = append(c.Pooled, pooled[i]...)
				for _, v := range [][2]int{r.OriginalSize, r.CropsCoordsTopLeft, r.TargetSize} {
					c.TimeIDs = append(c.TimeIDs, float32(v[0]), float32(v[1]))
				}
			}
		}
	}
	return c, nil
}

// sides are the prompt and, with guidance, before it the negative one.
func (p *TextToImage) sides(r Request) []side {
	sides := []side{{r.Prompt, r.Prompt2, r.ClipSkip, r.PromptEmbeds, r.PooledPromptEmbeds, false}}
	if r.GuidanceScale > 1 {
		// As in diffusers, clip_skip is not for the negative prompt.
		neg := side{r.NegativePrompt, r.NegativePrompt2, 0, r.NegativePromptEmbeds, r.NegativePooledPromptEmbeds, false}
		neg.zero = p.family.zeroEmpty && p.zeroEmpty && r.NegativePrompt == ""
		sides = append([]side{neg}, sides...)
	}
	return sides
}

// tokens is the length of the text the UNet sees.
func (p *TextToImage) tokens(sides []side) int {
	for _, s := range sides {
		if s.embeds != nil {
			return s.embeds.Shape()[1]
		}
	}
	return p.encoders[0].tok.MaxLength()
}

// side is the prompt or the negative prompt.
type side struct {
	prompt, prompt2 string
	skip            int           // layers left out
	embeds, pooled  *tensor.Dense // in place of the prompt
	zero            bool          // all zeros in place of the prompt
}

// embed returns the embeddings [S C] and, for SDXL, the pooled ones [P] of each side.
func (j *Job) embed(ctx context.Context, run *graphs.Run, warnings *[]string) (embeds, pooled [][]float32, err error) {
	p, sides := j.p, j.sides
	embeds, pooled = make([][]float32, len(sides)), make([][]float32, len(sides))
	for i, s := range sides {
		switch {
		case s.embeds != nil:
			embeds[i] = contiguous(s.embeds)
			if p.family.textTime {
				pooled[i] = contiguous(s.pooled)
			}
		case s.zero:
			embeds[i] = make([]float32, p.encoders[0].tok.MaxLength()*p.unet.CrossAttentionDim)
			pooled[i] = make([]float32, p.unet.PooledDim())
		}
	}
	for _, skip := range slices.Sorted(maps.Keys(j.texts)) {
		which, column := j.texts[skip], 0
		for k, e := range p.encoders {
			o := p.textOptions(k, skip)
			prompts := make([]string, len(which))
			for n, i := range which {
				prompts[n] = [...]string{sides[i].prompt, sides[i].prompt2}[k]
			}
			h, pool, warn, err := j.encode(ctx, run, e, prompts, o)
			if err != nil {
				return nil, nil, err
			}
			*warnings = append(*warnings, warn...)
			hs, ps := len(h)/len(which), len(pool)/len(which)
			for n, i := range which {
				embeds[i] = columns(embeds[i], h[n*hs:][:hs], column, e.cfg.Hidden, p.unet.CrossAttentionDim)
				if o.pooled {
					pooled[i] = pool[n*ps:][:ps]
				}
			}
			column += e.cfg.Hidden
		}
	}
	return embeds, pooled, nil
}

// textOptions says what is wanted of encoder k when skip layers are left out besides those that always are.
func (p *TextToImage) textOptions(k, skip int) textOptions {
	o := p.family.states
	o.skip += skip
	o.pooled = k == p.pooledEncoder()
	return o
}

// toEncode lists the sides that go through the text encoders, by layers left out.
func toEncode(sides []side) map[int][]int {
	wanted := map[int][]int{}
	for i, s := range sides {
		if s.embeds == nil && !s.zero {
			wanted[s.skip] = append(wanted[s.skip], i)
		}
	}
	return wanted
}

// columns writes h [S n] to columns at.. of dst [S wide].
func columns(dst, h []float32, at, n, wide int) []float32 {
	if dst == nil {
		dst = make([]float32, len(h)/n*wide)
	}
	for s := range len(h) / n {
		copy(dst[s*wide+at:][:n], h[s*n:])
	}
	return dst
}

// contiguous returns a tensor's elements in row-major order.
func contiguous(t *tensor.Dense) []float32 {
	if t.RequiresIterator() {
		t = t.Materialize().(*tensor.Dense)
	}
	return t.Float32s()
}

// readTokenizer reads a tokenizer's files, of which most may be missing: what is there decides how the others are read.
func readTokenizer(c *loader.Component, maxPrompt int) (*textenc.Tokenizer, error) {
	if c.Class != "CLIPTokenizer" && c.Class != "CLIPTokenizerFast" {
		return nil, &badmodel.Error{File: "model_index.json", Field: c.Name, Got: badmodel.Quote(c.Class), Want: "CLIPTokenizer or CLIPTokenizerFast"}
	}
	f := textenc.TokenizerFiles{Dir: c.Name, Class: c.Class, MaxTokens: c.Limits().Tokens, MaxPrompt: maxPrompt}
	for _, file := range []struct {
		name string
		read func(string) ([]byte, error)
		into *[]byte
	}{
		{"vocab.json", c.TokenizerFile, &f.Vocab}, {"merges.txt", c.TokenizerFile, &f.Merges},
		{"tokenizer.json", c.TokenizerFile, &f.TokenizerJSON}, {"added_tokens.json", c.TokenizerFile, &f.AddedTokens},
		{"tokenizer_config.json", c.File, &f.TokenizerConfig}, {"special_tokens_map.json", c.File, &f.SpecialTokens},
	} {
		raw, err := file.read(file.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		*file.into = raw
	}
	return textenc.NewTokenizer(f)
}
