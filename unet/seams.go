package unet

import (
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/layers"
	G "gorgonia.org/gorgonia"
)

// Seams are where a program steps into BuildWith. Each is optional, and adds nothing to the graph where it is not used.
// Guidance that perturbs attention and adapters that attend to more than the text replace attentions; ControlNets and
// T2I-Adapters add residuals.
//
// Names are those of diffusers' modules, which are the keys of the checkpoint: down_blocks.0.attentions.1.
type Seams struct {
	// Attention builds an attention in place of the model's own. It is called for each, and returns a.Build() for those
	// that stay as they are.
	//
	//	result [B H W C]   like a.X
	Attention func(a Attention) (*G.Node, error)

	// Result is shown what each part gives, in the order of the graph, and returns what the parts after it get: the same
	// node, or another of its shape. Parts are conv_in, and in blocks resnets, attentions, each of their
	// transformer_blocks, downsamplers and upsamplers.
	Result func(part string, x *G.Node) (*G.Node, error)

	Residuals
}

// Attention is one attention of a transformer block.
type Attention struct {
	Name    string       // down_blocks.0.attentions.1.transformer_blocks.0.attn2
	Scope   layers.Scope // of its weights: to_q, to_k, to_v, to_out.0
	X       *G.Node      // [B H W C]     normalised hidden states
	Context *G.Node      // [B S Cross]   text embeddings in cross-attention, attn2; nil in self-attention, attn1
	Heads   int
}

// Build adds the attention that the model has, of what the fields say: a seam may change them.
//
//	result [B H W C]
func (a Attention) Build() (*G.Node, error) {
	return layers.SelfAttention(a.Scope, a.X, a.Context, a.Heads, false).Node()
}

// Residuals are nodes that are added to hidden states: leaves, or what other parts of the graph give. They are the
// arguments of those names of diffusers' UNet; Config.ResidualShapes has their shapes. A nil node adds nothing.
//
// diffusers ignores mid_block_additional_residual alone, and takes down_block_additional_residuals alone for those of an
// adapter; here each is what its name says, with or without the others.
type Residuals struct {
	// DownBlock, of a ControlNet, are added to what the way up takes back, one for each: conv_in's result, then those
	// of each block on the way down. The middle block does not see them.
	DownBlock []*G.Node // down_block_additional_residuals
	// MidBlock, of a ControlNet, is added to the result of the middle block, or of the way down where there is none.
	MidBlock *G.Node // mid_block_additional_residual
	// DownIntrablock, of a T2I-Adapter, are added on the way down, one to each block from the first on: in a block with
	// attention to the result of its last attention, in another to its own result. One more than there are blocks is
	// added to the result of the middle block.
	DownIntrablock []*G.Node // down_intrablock_additional_residuals
}

// ResidualShapes are the shapes of Residuals.
type ResidualShapes struct {
	DownBlock      [][]int
	MidBlock       []int
	DownIntrablock [][]int // one for each block, then the middle block's
}

// ResidualShapes gives the shapes that residuals have for b latents of height h and width w.
func (cfg Config) ResidualShapes(b, h, w int) (r ResidualShapes, err error) {
	defer stack.Add(&err)
	// The way down of a graph that nobody runs.
	s := layers.NewScope(G.NewGraph(), "unet", layers.Declared{})
	in := NewInputs(s, cfg, b, h, w, 1)
	temb, err := timeEmbedding(s, cfg, in)
	if err != nil {
		return r, err
	}
	_, skips, err := builder{cfg: cfg, root: s, temb: temb, context: in.Context}.wayDown(in.Sample)
	if err != nil {
		return r, err
	}
	for _, x := range skips {
		r.DownBlock = append(r.DownBlock, x.Shape())
	}
	at := 1 // of the block's first result
	for i, n := range cfg.LayersPerBlock {
		next := at + n
		if i < len(cfg.LayersPerBlock)-1 {
			next++ // the downsampler's
		}
		last := next - 1
		if cfg.hasAttention(i) {
			last = at + n - 1
		}
		r.DownIntrablock = append(r.DownIntrablock, r.DownBlock[last])
		at = next
	}
	r.MidBlock = r.DownBlock[at-1]
	r.DownIntrablock = append(r.DownIntrablock, r.MidBlock)
	return r, nil
}

// attend adds an attention, by the seam if there is one.
func (b builder) attend(a Attention) (*G.Node, error) {
	if b.seams.Attention == nil {
		return a.Build()
	}
	a.Name = b.name(a.Scope)
	n, err := b.seams.Attention(a)
	if err != nil {
		return nil, stack.With(err)
	}
	return n, b.like(a.X, n, a.Name+": the attention of a seam")
}

// result shows a part's result to the seam, if there is one.
func (b builder) result(part layers.Scope, x *G.Node) (*G.Node, error) {
	if b.seams.Result == nil {
		return x, nil
	}
	name := b.name(part)
	n, err := b.seams.Result(name, x)
	if err != nil {
		return nil, stack.With(fmt.Errorf("%s: %w", name, err))
	}
	return n, b.like(x, n, name+": the result of a seam")
}

// name is the checkpoint key of a place.
func (b builder) name(s layers.Scope) string { return strings.TrimPrefix(s.Name(), b.root.Name()+".") }

// residual adds a residual, if it is not nil, to hidden states.
//
//	x, r, result [B H W C]
func (b builder) residual(s layers.Scope, x, r *G.Node) (*G.Node, error) {
	if r == nil {
		return x, nil
	}
	if err := b.like(x, r, b.name(s)); err != nil {
		return nil, err
	}
	return s.On(x).Add(s.On(r)).Node()
}

// like refuses a node that cannot stand for x.
func (b builder) like(x, n *G.Node, what string) error {
	switch {
	case n == nil:
		return stack.With(fmt.Errorf("%s is nil, want a node of shape %v", what, x.Shape()))
	case n.Graph() != x.Graph():
		return stack.With(fmt.Errorf("%s is of another graph", what))
	case !n.Shape().Eq(x.Shape()):
		return stack.With(fmt.Errorf("%s is of shape %v, want %v", what, n.Shape(), x.Shape()))
	}
	return nil
}

// checkResiduals refuses numbers of residuals for which there are no places.
func (b builder) checkResiduals(skips int) error {
	r := b.seams.Residuals
	blocks := len(b.cfg.BlockOutChannels)
	if n := len(r.DownBlock); n > 0 && n != skips {
		return stack.With(fmt.Errorf("down_block_additional_residuals: %d, want %d: one for each result of the way down", n,
			skips))
	}
	most := blocks
	if b.cfg.MidBlockType != "" {
		most++
	}
	if n := len(r.DownIntrablock); n > most {
		return stack.With(fmt.Errorf("down_intrablock_additional_residuals: %d, want at most %d: one for each block on the "+
			"way down and the middle block", n, most))
	}
	return nil
}

// intrablock adds the residual of a block, counted down and then the middle, to hidden states.
func (b builder) intrablock(block int, x *G.Node) (*G.Node, error) {
	if block >= len(b.seams.DownIntrablock) {
		return x, nil
	}
	return b.residual(b.root.Sub("down_intrablock_additional_residuals", block), x, b.seams.DownIntrablock[block])
}

// skipped adds a ControlNet's residuals to what the way up takes back.
func (b builder) skipped(skips []*G.Node) ([]*G.Node, error) {
	var err error
	for i, r := range b.seams.DownBlock {
		if skips[i], err = b.residual(b.root.Sub("down_block_additional_residuals", i), skips[i], r); err != nil {
			return nil, err
		}
	}
	return skips, nil
}
