package pipeline

import (
	"context"
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/unet"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Note [Step-invariant work]
//
// Of a UNet's nodes those that depend on the latents must run in every step. The others need not: keys and
// values of the text depend on the text alone and are computed once per image; time projections depend on the
// timestep, and those of all steps are computed together, as one batch. Which nodes these are is read off the
// graph: a node's level is the highest of what it depends on. What a level-two node reads from a lower level
// becomes an input of the loop. The same kernels run on the same numbers, so the picture has the same bits;
// the weights of that work are read once, and not once per step.

const (
	ofText    = iota // depends on nothing that changes between steps
	ofTime           // depends on the timestep
	ofLatents        // depends on the latents
)

// maxRows bounds the batch of timesteps that are projected together.
const maxRows = 128

// denoising is a compiled UNet for one shape: the loop, and what is computed before it.
type denoising struct {
	loop
	vm        *graphs.VM
	scheduler string

	text  *graphs.VM // nil if nothing is hoisted
	cut   []*G.Node  // text's outputs, which the loop is given
	time  *graphs.VM
	wide  []*G.Node     // time's outputs
	rows  denoiser      // time's inputs
	state [][]float32   // of the loop, one per output of time
	chunk int           // steps per pass of time
	table [][][]float32 // [chunks][outputs]: time's results
}

// denoising compiles the loop of a job.
func (j *Job) denoising() (*denoising, error) {
	p, c, n, h, w := j.p, j.course, j.shape[0], j.shape[2], j.shape[3]
	chunk := max(1, min(len(c.steps)-c.first, maxRows/j.rows))
	key := fmt.Sprint("unet ", n, j.rows, h, w, j.tokens, chunk, c.Name(), c.Samples(), c.noisy)
	return compiled(j, key, func() (d *denoising, err error) {
		d = &denoising{chunk: chunk, scheduler: c.Name()}
		if d.loop, err = p.buildLoop(c, n, j.rows, h, w, j.tokens); err != nil {
			return nil, err
		}
		if p.everyStep {
			d.vm, err = p.Compile(d.outputs()...)
		} else {
			err = d.hoist(p, j.rows, h, w, j.tokens)
		}
		return d, err
	})
}

// hoist splits the graph of a step by Note [Step-invariant work].
func (d *denoising) hoist(p *TextToImage, rows, h, w, tokens int) error {
	cut := boundary(d.outputs(), d.in.nodes)
	d.cut = cut[ofText]
	var err error
	given := graphs.CompileOptions{Given: slices.Concat(cut[ofText], cut[ofTime])}
	if d.vm, err = p.CompileWith(given, d.outputs()...); err != nil {
		return err
	}
	if d.state, err = bindAll(cut[ofTime]); err != nil {
		return err
	}
	if len(d.cut) > 0 {
		if d.text, err = p.Compile(d.cut...); err != nil {
			return err
		}
	}
	// The time projections come from a graph with a row per step and picture, of which only they are compiled.
	s := layers.NewScope(G.NewGraph(), "unet", p.parameters["unet"])
	in := unet.NewInputs(s, p.unet, d.chunk*rows, h, w, tokens)
	out, err := p.buildUNet(s, in)
	if err != nil {
		return err
	}
	d.wide = boundary([]*G.Node{out}, in)[ofTime]
	if len(d.wide) == 0 || len(d.wide) != len(cut[ofTime]) {
		return fmt.Errorf("internal error: %d time projections in one graph, %d in the other", len(d.wide), len(cut[ofTime]))
	}
	if d.time, err = p.Compile(d.wide...); err != nil {
		return err
	}
	d.rows.nodes = in
	return d.rows.bind(in.Timestep, in.Pooled, in.TimeIDs)
}

// stages are those of a number of steps. seen says that the latents are wanted after each.
func (d *denoising) stages(steps int, seen bool) (all []graphs.Stage) {
	if d.text != nil {
		all = append(all, graphs.Stage{VM: d.text, Component: "unet", Name: "text", Keep: d.cut})
	}
	if d.time != nil {
		all = append(all, graphs.Stage{VM: d.time, Component: "unet", Name: "time", Passes: (steps + d.chunk - 1) / d.chunk, Keep: d.wide})
	}
	return append(all, graphs.Stage{VM: d.vm, Component: "unet", Passes: steps, Once: d.cut, Keep: []*G.Node{d.flags},
		Carry: []graphs.Carry{{In: d.loop.state, Out: d.end}}, Fetch: seen, Faulty: d.faulty(d.scheduler)})
}

// boundary lists, by level, the nodes that are read by a node of the latents and do not depend on them.
func boundary(outputs []*G.Node, in unet.Inputs) (cut [ofLatents][]*G.Node) {
	levels := map[*G.Node]int{}
	taken := map[*G.Node]bool{}
	var level func(n *G.Node) int
	level = func(n *G.Node) int {
		if l, ok := levels[n]; ok {
			return l
		}
		l := ofText
		switch n {
		case in.Sample:
			l = ofLatents
		case in.Timestep:
			l = ofTime
		}
		var children []*G.Node
		if n.Op() != nil {
			for it := n.Graph().From(n.ID()); it.Next(); {
				c := it.Node().(*G.Node)
				children = append(children, c)
				l = max(l, level(c))
			}
		}
		levels[n] = l
		for _, c := range children {
			if cl := levels[c]; l == ofLatents && cl < ofLatents && c.Op() != nil && !taken[c] && dependsOnInput(c) {
				taken[c] = true
				cut[cl] = append(cut[cl], c)
			}
		}
		return l
	}
	for _, n := range outputs {
		level(n)
	}
	return cut
}

// dependsOnInput tells computed nodes from constants.
func dependsOnInput(n *G.Node) bool {
	it := n.Graph().From(n.ID())
	return it.Next()
}

// bindAll gives nodes memory of their own.
func bindAll(nodes []*G.Node) (data [][]float32, err error) {
	for _, n := range nodes {
		x := make([]float32, n.Shape().TotalSize())
		if err := G.UnsafeLet(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(x))); err != nil {
			return nil, err
		}
		data = append(data, x)
	}
	return data, nil
}

// prepare runs what does not depend on the latents, for an image.
func (d *denoising) prepare(ctx context.Context, run *graphs.Run, cond Conditioning, timesteps []float32) error {
	copy(d.in.context, cond.Context)
	copy(d.in.pooled, cond.Pooled)
	copy(d.in.timeIDs, cond.TimeIDs)
	if d.text != nil {
		if err := run.Pass(ctx, d.text); err != nil {
			return err
		}
	}
	if d.time == nil {
		return nil
	}
	d.table = d.table[:0]
	for from := 0; from < len(timesteps); from += d.chunk {
		for i := range d.chunk {
			t := timesteps[min(from+i, len(timesteps)-1)]
			for row := range d.in.rows() {
				at := i*d.in.rows() + row
				d.rows.timestep[at] = t
				copyRow(d.rows.pooled, cond.Pooled, at, row, d.in.rows())
				copyRow(d.rows.timeIDs, cond.TimeIDs, at, row, d.in.rows())
			}
		}
		if err := run.Pass(ctx, d.time); err != nil {
			return err
		}
		var results [][]float32
		for _, n := range d.wide {
			results = append(results, slices.Clone(values(n)))
		}
		d.table = append(d.table, results)
	}
	return nil
}

// copyRow copies row from of src, which has rows rows, to row to of dst.
func copyRow(dst, src []float32, to, from, rows int) {
	n := len(src) / rows
	copy(dst[to*n:(to+1)*n], src[from*n:(from+1)*n])
}

// step points the loop's inputs at a step.
func (d *denoising) step(i int, timestep float32) {
	for row := range d.in.timestep {
		d.in.timestep[row] = timestep
	}
	if d.time == nil {
		return
	}
	for k, x := range d.state {
		copy(x, d.table[i/d.chunk][k][i%d.chunk*len(x):])
	}
}
