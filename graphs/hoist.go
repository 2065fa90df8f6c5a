package graphs

import (
	"context"
	"fmt"

	"github.com/euryale-ml/euryale/internal/program"
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
	in    denoiser
	loop  *VM
	model *G.Node // the UNet's output

	text      *VM         // nil if nothing is hoisted
	textState [][]float32 // of the loop, one per output of text
	time      *VM
	timeIn    denoiser
	timeState [][]float32
	chunk     int           // steps per pass of time
	table     [][][]float32 // [chunks][outputs]: time's results
}

// denoising compiles the loop for the steps of n pictures.
func (p *TextToImage) denoising(c *course, n, rows, h, w, tokens int) (*denoising, error) {
	chunk := max(1, min(len(c.steps), maxRows/rows))
	key := fmt.Sprint("unet ", n, rows, h, w, tokens, chunk, c.Name(), c.Samples(), c.noisy)
	if d, ok := p.networks[key]; ok {
		return d.(*denoising), nil
	}
	d := &denoising{chunk: chunk}
	l, err := p.buildLoop(c, n, rows, h, w, tokens)
	if err != nil {
		return nil, err
	}
	d.in, d.model = l.in, l.model
	if p.opt.everyStep {
		d.loop, err = p.host.compile(p.host.target(false), l.outputs)
	} else {
		err = d.hoist(p, l.outputs, rows, h, w, tokens)
	}
	if err != nil {
		return nil, err
	}
	d.loop.faulty = d.faulty(c.Name())
	if err := d.loop.prog.Carry(l.state, endState); err != nil {
		return nil, err
	}
	p.networks[key] = d
	return d, nil
}

// hoist splits the graph of outputs by Note [Step-invariant work].
func (d *denoising) hoist(p *TextToImage, outputs []*G.Node, rows, h, w, tokens int) error {
	cut := boundary(outputs, d.in.nodes)
	var err error
	if d.loop, err = p.host.compile(p.host.target(false), outputs, append(cut[ofText], cut[ofTime]...)...); err != nil {
		return err
	}
	d.loop.prog.Once(cut[ofText])
	if d.textState, err = bindAll(cut[ofText]); err != nil {
		return err
	}
	if d.timeState, err = bindAll(cut[ofTime]); err != nil {
		return err
	}
	if len(cut[ofText]) > 0 {
		if d.text, err = p.host.compile(p.host.target(false), cut[ofText]); err != nil {
			return err
		}
	}
	// The time projections come from a graph with a row per step and picture, of which only they are compiled.
	s := layers.NewScope(G.NewGraph(), "unet", p.parameters["unet"])
	in := unet.NewInputs(s, p.unet, d.chunk*rows, h, w, tokens)
	out, err := unet.Build(s, p.unet, in)
	if err != nil {
		return err
	}
	wide := boundary([]*G.Node{out}, in)[ofTime]
	if len(wide) == 0 || len(wide) != len(cut[ofTime]) {
		return fmt.Errorf("internal error: %d time projections in one graph, %d in the other", len(cut[ofTime]), len(wide))
	}
	if d.time, err = p.host.compile(p.host.target(false), wide); err != nil {
		return err
	}
	if d.text != nil {
		program.Share(cut[ofText], d.text.prog, d.loop.prog, d.time.prog)
	}
	d.timeIn.nodes = in
	return d.timeIn.bind(in.Timestep, in.Pooled, in.TimeIDs)
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
func (d *denoising) prepare(ctx context.Context, cond conditioning, timesteps []float32, checks bool) error {
	copy(d.in.context, cond.context)
	copy(d.in.pooled, cond.pooled)
	copy(d.in.timeIDs, cond.timeIDs)
	if d.text != nil {
		if err := d.text.evaluate(ctx, -1, checks); err != nil {
			return err
		}
		for i, x := range d.textState { // what is not shared on a device
			copy(x, d.text.runner.Output(i).F32())
		}
	}
	if d.time == nil {
		return nil
	}
	d.table = d.table[:0]
	for from := 0; from < len(timesteps); from += d.chunk {
		for i := range d.chunk {
			t := timesteps[min(from+i, len(timesteps)-1)]
			for row := range cond.rows {
				at := i*cond.rows + row
				d.timeIn.timestep[at] = t
				copyRow(d.timeIn.pooled, cond.pooled, at, row, cond.rows)
				copyRow(d.timeIn.timeIDs, cond.timeIDs, at, row, cond.rows)
			}
		}
		if err := d.time.evaluate(ctx, -1, checks); err != nil {
			return err
		}
		var results [][]float32
		for i := range d.timeState {
			results = append(results, append([]float32(nil), d.time.runner.Output(i).F32()...))
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
	for k, x := range d.timeState {
		copy(x, d.table[i/d.chunk][k][i%d.chunk*len(x):])
	}
}
