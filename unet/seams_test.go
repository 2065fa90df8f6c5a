package unet_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/modeltest"
	"github.com/euryale-ml/euryale/unet"
	G "gorgonia.org/gorgonia"
)

// residuals adds the leaves of the golden file's residuals.
func residuals(n *modeltest.Network, shapes unet.ResidualShapes) (r unet.Residuals) {
	leaf := func(name string, shape []int) *G.Node {
		x := n.Scope.Input(name, G.Float32, shape...)
		n.Let(x, name)
		return x
	}
	for i, s := range shapes.DownBlock {
		r.DownBlock = append(r.DownBlock, leaf(fmt.Sprintf("down_block_additional_residuals.%d", i), s))
	}
	r.MidBlock = leaf("mid_block_additional_residual", shapes.MidBlock)
	for i, s := range shapes.DownIntrablock {
		r.DownIntrablock = append(r.DownIntrablock, leaf(fmt.Sprintf("down_intrablock_additional_residuals.%d", i), s))
	}
	return r
}

// identity is the attention whose map is the identity: each position takes its own value.
func identity(a unet.Attention) (*G.Node, error) {
	c := a.X.Shape()[3]
	return a.Scope.On(a.X).LinearNoBias("to_v", c).Linear("to_out.0", c).Node()
}

// Residuals and attentions that are replaced give what diffusers gives with a ControlNet's and a T2I-Adapter's
// residuals, and with the processors of perturbed-attention guidance.
func TestSeams(t *testing.T) {
	var worst modeltest.Worst
	for _, m := range golden.Models(t, "seams") {
		if m.Name == "image prompt" {
			continue
		}
		for output := range m.Outputs {
			t.Run(m.Name+"/"+output, func(t *testing.T) {
				n, cfg, in := network(t, m)
				size := m.Inputs["sample"].Shape
				shapes, err := cfg.ResidualShapes(size[0], size[2], size[3])
				if err != nil {
					t.Fatal(err)
				}
				out, err := unet.BuildWith(n.Scope, cfg, in, seams(t, output, residuals(n, shapes)))
				if err != nil {
					t.Fatal(err)
				}
				worst.Compare(n, output, n.Run(out)[0])
			})
		}
	}
	t.Logf("the worst relative L2 is %.2g", worst)
}

// seams are those of an output of the golden file, of which r are all residuals.
func seams(t *testing.T, output string, r unet.Residuals) unet.Seams {
	t.Helper()
	blocks := len(r.DownIntrablock) - 1
	switch output {
	case "plain":
		return unet.Seams{}
	case "controlnet":
		return unet.Seams{Residuals: unet.Residuals{DownBlock: r.DownBlock, MidBlock: r.MidBlock}}
	case "adapter of one block":
		return unet.Seams{Residuals: unet.Residuals{DownIntrablock: r.DownIntrablock[:1]}}
	case "adapter":
		return unet.Seams{Residuals: unet.Residuals{DownIntrablock: r.DownIntrablock[:blocks]}}
	case "adapter with a middle":
		return unet.Seams{Residuals: unet.Residuals{DownIntrablock: r.DownIntrablock}}
	case "both":
		r.DownIntrablock = r.DownIntrablock[:blocks]
		return unet.Seams{Residuals: r}
	case "identity", "identity mid_block":
		where := strings.TrimSpace(strings.TrimPrefix(output, "identity"))
		return unet.Seams{Attention: func(a unet.Attention) (*G.Node, error) {
			if a.Context == nil && strings.HasPrefix(a.Name, where) {
				return identity(a)
			}
			return a.Build()
		}}
	}
	t.Fatalf("an output %q that no seam is known for", output)
	return unet.Seams{}
}

// A cross-attention that also attends to an image's tokens, with keys and values of its own, is diffusers' IP-Adapter.
func TestImagePrompt(t *testing.T) {
	models := golden.Models(t, "seams")
	m := models[slices.IndexFunc(models, func(m *golden.Model) bool { return m.Name == "image prompt" })]
	n, cfg, in := network(t, m)
	shape := m.Inputs["ip_hidden_states"].Shape // one image a picture
	image := n.Scope.Input("ip_hidden_states", G.Float32, shape[0], shape[2], shape[3])
	n.Bind(image, m.Inputs["ip_hidden_states"].F32)
	out, err := unet.BuildWith(n.Scope, cfg, in, unet.Seams{Attention: func(a unet.Attention) (*G.Node, error) {
		if a.Context == nil {
			return a.Build()
		}
		c := a.X.Shape()[3]
		q, text, ip := a.Scope.On(a.X).LinearNoBias("to_q", c), a.Scope.On(a.Context), a.Scope.On(image)
		toText := q.Attention(text.LinearNoBias("to_k", c), text.LinearNoBias("to_v", c), a.Heads, false)
		k, v := ip.LinearNoBias("processor.to_k_ip.0", c), ip.LinearNoBias("processor.to_v_ip.0", c)
		toImage := q.Attention(k, v, a.Heads, false)
		return toText.Add(toImage).Linear("to_out.0", c).Node()
	}})
	if err != nil {
		t.Fatal(err)
	}
	var worst modeltest.Worst
	worst.Compare(n, "image prompt", n.Run(out)[0])
	if unused := m.Unused(); len(unused) > 0 {
		t.Errorf("weights that the graph does not have: %v", unused)
	}
	t.Logf("relative L2 %.2g", worst)
}

// describe lists the nodes of a graph: names, operations and shapes.
func describe(n *G.Node) (all []string) {
	nodes := n.Graph().AllNodes()
	for _, x := range nodes {
		op := "leaf"
		if x.Op() != nil {
			op = x.Op().String()
		}
		all = append(all, fmt.Sprintf("%d %s %s %v", x.ID(), x.Name(), op, x.Shape()))
	}
	return all
}

// Seams that are not used, and seams that change nothing, leave the graph as it is without them.
func TestSeamsThatChangeNothing(t *testing.T) {
	m := golden.Models(t, "seams")[0]
	n, cfg, in := network(t, m)
	plain, err := unet.Build(n.Scope, cfg, in)
	if err != nil {
		t.Fatal(err)
	}
	var attentions, parts []string
	n, cfg, in = network(t, m)
	same, err := unet.BuildWith(n.Scope, cfg, in, unet.Seams{
		Attention: func(a unet.Attention) (*G.Node, error) {
			attentions = append(attentions, a.Name)
			if cross := strings.HasSuffix(a.Name, "attn2"); cross != (a.Context == in.Context) || a.Heads != 2 ||
				a.Scope.Name() != "unet."+a.Name || a.X.Shape()[3]%8 != 0 {
				t.Errorf("an attention %+v", a)
			}
			return a.Build()
		},
		Result:    func(part string, x *G.Node) (*G.Node, error) { parts = append(parts, part); return x, nil },
		Residuals: unet.Residuals{DownBlock: make([]*G.Node, 4), DownIntrablock: make([]*G.Node, 3)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := describe(same), describe(plain); !slices.Equal(got, want) {
		t.Errorf("%d nodes, want %d:\n%s\n\n%s", len(got), len(want), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	const down, mid, up = "down_blocks.0.attentions.0", "mid_block.attentions.0", "up_blocks.1.attentions."
	const block = ".transformer_blocks.0"
	want := []string{
		"conv_in", "down_blocks.0.resnets.0", down + block, down, "down_blocks.0.downsamplers.0", "down_blocks.1.resnets.0",
		"mid_block.resnets.0", mid + block, mid, "mid_block.resnets.1",
		"up_blocks.0.resnets.0", "up_blocks.0.resnets.1", "up_blocks.0.upsamplers.0",
		"up_blocks.1.resnets.0", up + "0" + block, up + "0", "up_blocks.1.resnets.1", up + "1" + block, up + "1",
	}
	if !reflect.DeepEqual(parts, want) {
		t.Errorf("parts %q\nwant %q", parts, want)
	}
	var wantAttentions []string
	for _, at := range []string{down, mid, up + "0", up + "1"} {
		wantAttentions = append(wantAttentions, at+block+".attn1", at+block+".attn2")
	}
	if !slices.Equal(attentions, wantAttentions) {
		t.Errorf("attentions %q\nwant %q", attentions, wantAttentions)
	}
}

// A result that a seam replaces is what the parts after it get: here a ControlNet's residual for the middle block.
func TestResult(t *testing.T) {
	m := golden.Models(t, "seams")[0]
	values := map[bool][]float32{}
	for _, byResult := range []bool{false, true} {
		n, cfg, in := network(t, m)
		mid := n.Scope.Input("mid_block_additional_residual", G.Float32, m.Inputs["sample"].Shape[0], 3, 3, 16)
		n.Let(mid, "mid_block_additional_residual")
		s := unet.Seams{Residuals: unet.Residuals{MidBlock: mid}}
		if byResult {
			s = unet.Seams{Result: func(part string, x *G.Node) (*G.Node, error) {
				if part != "mid_block.resnets.1" {
					return x, nil
				}
				return n.Scope.On(x).Add(n.Scope.On(mid)).Node()
			}}
		}
		out, err := unet.BuildWith(n.Scope, cfg, in, s)
		if err != nil {
			t.Fatal(err)
		}
		values[byResult] = n.Run(out)[0]
	}
	if !slices.Equal(values[false], values[true]) {
		t.Errorf("relative L2 %g between two ways to the same", golden.RelL2(values[true], values[false]))
	}
	if d := golden.RelL2(values[true], m.Outputs["plain"].ChannelsLast()); !(d > 0.01) {
		t.Errorf("relative L2 %g from no residual: it does nothing", d)
	}
}

// What a seam cannot have is an error that names it.
func TestSeamsRefuse(t *testing.T) {
	m := golden.Models(t, "seams")[0]
	own := errors.New("the seam's own")
	attention := func(n *G.Node, err error) unet.Seams {
		return unet.Seams{Attention: func(unet.Attention) (*G.Node, error) { return n, err }}
	}
	result := func(n *G.Node, err error) unet.Seams {
		return unet.Seams{Result: func(string, *G.Node) (*G.Node, error) { return n, err }}
	}
	n, cfg, in := network(t, m)
	small := n.Scope.Input("small", G.Float32, 1, 1, 1, 1)
	foreign := G.NewTensor(G.NewGraph(), G.Float32, 4, G.WithShape(2, 6, 6, 8))
	const attn = "down_blocks.0.attentions.0.transformer_blocks.0.attn1: the attention of a seam"
	for _, c := range []struct {
		s    unet.Seams
		want string
	}{
		{attention(nil, own), own.Error()},
		{result(nil, own), "conv_in: " + own.Error()},
		{attention(nil, nil), attn + " is nil, want a node of shape (2, 6, 6, 8)"},
		{attention(small, nil), attn + " is of shape (1, 1, 1, 1), want (2, 6, 6, 8)"},
		{attention(foreign, nil), attn + " is of another graph"},
		{result(nil, nil), "conv_in: the result of a seam is nil"},
		{unet.Seams{Residuals: unet.Residuals{DownBlock: []*G.Node{small}}}, "down_block_additional_residuals: 1, want 4"},
		{unet.Seams{Residuals: unet.Residuals{DownBlock: []*G.Node{nil, small, nil, nil}}},
			"down_block_additional_residuals.1 is of shape (1, 1, 1, 1), want (2, 6, 6, 8)"},
		{unet.Seams{Residuals: unet.Residuals{MidBlock: small}},
			"mid_block_additional_residual is of shape (1, 1, 1, 1), want (2, 3, 3, 16)"},
		{unet.Seams{Residuals: unet.Residuals{DownIntrablock: make([]*G.Node, 4)}},
			"down_intrablock_additional_residuals: 4, want at most 3"},
		{unet.Seams{Residuals: unet.Residuals{DownIntrablock: []*G.Node{nil, small}}},
			"down_intrablock_additional_residuals.1 is of shape"},
	} {
		_, err := unet.BuildWith(n.Scope, cfg, in, c.s)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if strings.Contains(c.want, own.Error()) && !errors.Is(err, own) {
			t.Errorf("%v is not the seam's error", err)
		}
	}
	cfg.MidBlockType = ""
	_, err := unet.BuildWith(n.Scope, cfg, in, unet.Seams{Residuals: unet.Residuals{DownIntrablock: make([]*G.Node, 3)}})
	if err == nil || !strings.Contains(err.Error(), "at most 2") {
		t.Errorf("a residual for a middle that is not there: %v", err)
	}
}
