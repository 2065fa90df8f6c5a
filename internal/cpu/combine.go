package cpu

// What the blocks of diffusion transformers do between products. Each reads its arguments once: what is computed for a
// row stays in the cache until it is added.

// Vectors are numbers for the rows of a tensor: each image has Stride numbers, of which those from At on are for its
// channels. With Stride 0 all images share them.
type Vectors struct {
	Data       []float32
	Stride, At int
}

// of returns the c numbers of an image.
func (v Vectors) of(image, c int) []float32 { return v.Data[image*v.Stride+v.At:][:c] }

func (v Vectors) check(op, name string, images, c int) {
	if want := max(0, images-1)*v.Stride + v.At + c; len(v.Data) < want {
		panic("cpu: " + op + ": " + name + " is too short")
	}
}

// Sub is a - b; out may be either.
func (p *Pool) Sub(out, a, b []float32) {
	check("sub", "a", len(a), len(out))
	check("sub", "b", len(b), len(out))
	p.each(len(out), func(i, j int) { p.k.sub(out[i:j], a[i:j], b[i:j]) })
}

// SubVectors is x - v for every row of x [b hw c]; out may be x.
func (p *Pool) SubVectors(out, x []float32, b, hw, c int, v Vectors) {
	p.withVectors("sub vectors", p.k.sub, out, x, b, hw, c, v)
}

// MulVectors is x * v for every row of x [b hw c]; out may be x.
func (p *Pool) MulVectors(out, x []float32, b, hw, c int, v Vectors) {
	p.withVectors("mul vectors", p.k.mul, out, x, b, hw, c, v)
}

func (p *Pool) withVectors(name string, f func(out, a, b []float32), out, x []float32, b, hw, c int, v Vectors) {
	check(name, "x", len(x), b*hw*c)
	check(name, "out", len(out), len(x))
	v.check(name, "v", b, c)
	p.rows(b*hw, c, func(from, to int) {
		for r := from; r < to; r++ {
			f(out[r*c:(r+1)*c], x[r*c:(r+1)*c], v.of(r/hw, c))
		}
	})
}

// Modulate is x (1 + scale) + shift for every row of x [b hw c]; out may be x. Without shift.Data nothing is added.
func (p *Pool) Modulate(out, x []float32, b, hw, c int, scale, shift Vectors) {
	check("modulate", "x", len(x), b*hw*c)
	check("modulate", "out", len(out), len(x))
	scale.check("modulate", "scale", b, c)
	if shift.Data != nil {
		shift.check("modulate", "shift", b, c)
	}
	p.workerRows(b*hw, c, func(worker, r int) {
		scaled := grow(&p.scratch[worker].row, c)
		row, to := x[r*c:(r+1)*c], out[r*c:(r+1)*c]
		p.k.mul(scaled, row, scale.of(r/hw, c))
		if shift.Data == nil {
			p.k.add(to, row, scaled)
		} else {
			p.k.add3(to, row, scaled, shift.of(r/hw, c))
		}
	})
}

// AddGated is x + gate*y for every row of x and y [b hw c]; out may be x or y.
func (p *Pool) AddGated(out, x, y []float32, b, hw, c int, gate Vectors) {
	check("add gated", "x", len(x), b*hw*c)
	check("add gated", "y", len(y), len(x))
	check("add gated", "out", len(out), len(x))
	gate.check("add gated", "gate", b, c)
	p.workerRows(b*hw, c, func(worker, r int) {
		part := grow(&p.scratch[worker].row, c)
		p.k.mul(part, y[r*c:(r+1)*c], gate.of(r/hw, c))
		p.k.add(out[r*c:(r+1)*c], x[r*c:(r+1)*c], part)
	})
}

// Gated is act(gate) * value; out may be either.
func (p *Pool) Gated(out, gate, value []float32, act Activation) {
	check("gated", "gate", len(gate), len(out))
	check("gated", "value", len(value), len(out))
	const some = 1024 // numbers that a worker keeps between the two steps
	p.workerRows(ceilDiv(len(out), some), some, func(worker, r int) {
		i, j := r*some, min((r+1)*some, len(out))
		p.gate(worker, out[i:j], gate[i:j], value[i:j], act)
	})
}

// GatedHalves is Gated of the halves of each row of x [rows 2c]: out [rows c]. The first is the gate if gateFirst.
func (p *Pool) GatedHalves(out, x []float32, rows, c int, act Activation, gateFirst bool) {
	check("gated halves", "x", len(x), 2*rows*c)
	check("gated halves", "out", len(out), rows*c)
	p.workerRows(rows, c, func(worker, r int) {
		value, gate := x[2*r*c:][:c], x[(2*r+1)*c:][:c]
		if gateFirst {
			value, gate = gate, value
		}
		p.gate(worker, out[r*c:(r+1)*c], gate, value, act)
	})
}

func (p *Pool) gate(worker int, out, gate, value []float32, act Activation) {
	if act == GELU {
		p.k.geglu(out, value, gate)
		return
	}
	g := grow(&p.scratch[worker].row, len(out))
	p.k.activate(g, gate, act)
	p.k.mul(out, value, g)
}

// workerRows is rows, with the worker and one row a call.
func (p *Pool) workerRows(n, c int, body func(worker, row int)) {
	step := max(1, chunk/max(1, c))
	p.For(ceilDiv(n, step), func(worker, i int) {
		for r := i * step; r < min((i+1)*step, n); r++ {
			body(worker, r)
		}
	})
}
