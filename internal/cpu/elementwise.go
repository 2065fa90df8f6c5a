package cpu

// chunk is how many numbers of an element-wise kernel make a work item.
const chunk = 16 * 1024

// each runs body over [from,to) ranges that cover n.
func (p *Pool) each(n int, body func(from, to int)) {
	p.For(ceilDiv(n, chunk), func(_, i int) { body(i*chunk, min((i+1)*chunk, n)) })
}

// rows runs body over ranges of rows of c numbers that cover n rows.
func (p *Pool) rows(n, c int, body func(from, to int)) {
	step := max(1, chunk/max(1, c))
	p.For(ceilDiv(n, step), func(_, i int) { body(i*step, min((i+1)*step, n)) })
}

// Activate applies a function of one number to each; out may be x.
func (p *Pool) Activate(out, x []float32, act Activation) {
	check("activate", "out", len(out), len(x))
	p.each(len(x), func(i, j int) { p.k.activate(out[i:j], x[i:j], act) })
}

// Add is a + b; out may be either.
func (p *Pool) Add(out, a, b []float32) {
	check("add", "a", len(a), len(out))
	check("add", "b", len(b), len(out))
	p.each(len(out), func(i, j int) { p.k.add(out[i:j], a[i:j], b[i:j]) })
}

// Mul is a * b; out may be either.
func (p *Pool) Mul(out, a, b []float32) {
	check("mul", "a", len(a), len(out))
	check("mul", "b", len(b), len(out))
	p.each(len(out), func(i, j int) { p.k.mul(out[i:j], a[i:j], b[i:j]) })
}

// Scale is x * s; out may be x.
func (p *Pool) Scale(out, x []float32, s float32) {
	check("scale", "x", len(x), len(out))
	p.each(len(out), func(i, j int) { p.k.scale(out[i:j], x[i:j], s) })
}

// AddChannels adds ch [b c] to every row of x [b hw c]; out may be x.
func (p *Pool) AddChannels(out, x []float32, b, hw, c int, ch []float32) {
	check("add channels", "x", len(x), b*hw*c)
	check("add channels", "out", len(out), len(x))
	check("add channels", "ch", len(ch), b*c)
	p.rows(b*hw, c, func(from, to int) {
		for r := from; r < to; r++ {
			p.k.add(out[r*c:(r+1)*c], x[r*c:(r+1)*c], ch[r/hw*c:][:c])
		}
	})
}

// Concat joins a [rows ca] and b [rows cb] along the channels: out [rows ca+cb].
func (p *Pool) Concat(out, a, b []float32, rows, ca, cb int) {
	check("concat", "a", len(a), rows*ca)
	check("concat", "b", len(b), rows*cb)
	check("concat", "out", len(out), len(a)+len(b))
	p.rows(rows, ca+cb, func(from, to int) {
		for r := from; r < to; r++ {
			row := out[r*(ca+cb) : (r+1)*(ca+cb)]
			copy(row, a[r*ca:(r+1)*ca])
			copy(row[ca:], b[r*cb:(r+1)*cb])
		}
	})
}

// Upsample2 repeats every pixel of x [b h w c] twice in both directions: out [b 2h 2w c].
func (p *Pool) Upsample2(out, x []float32, b, h, w, c int) {
	check("upsample", "x", len(x), b*h*w*c)
	check("upsample", "out", len(out), 4*len(x))
	p.rows(b*h, 4*w*c, func(from, to int) {
		for r := from; r < to; r++ {
			two := out[r*4*w*c : (r+1)*4*w*c]
			for i := range w {
				pixel := x[(r*w+i)*c : (r*w+i+1)*c]
				copy(two[2*i*c:], pixel)
				copy(two[(2*i+1)*c:], pixel)
			}
			copy(two[2*w*c:], two[:2*w*c])
		}
	})
}
