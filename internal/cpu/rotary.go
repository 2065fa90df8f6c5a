package cpu

// Rotary turns pairs of the first width numbers of each head by an angle of their position (Su et al. 2021).
//
//	out, x   [rows heads d]        out may be x; a row is of position row%s
//	cos, sin [s width/2]
//
// Pair j is numbers j and j+width/2 of the head if halves, else 2j and 2j+1. Numbers from width on stay.
func (p *Pool) Rotary(out, x []float32, rows, s, heads, d, width int, cos, sin []float32, halves bool) {
	check("rotary", "x", len(x), rows*heads*d)
	check("rotary", "out", len(out), len(x))
	check("rotary", "cos", len(cos), s*width/2)
	check("rotary", "sin", len(sin), len(cos))
	turn := turnNeighbours
	if halves {
		turn = turnHalves
	}
	p.rows(rows, heads*d, func(from, to int) {
		for r := from; r < to; r++ {
			c, n := cos[r%s*width/2:][:width/2], sin[r%s*width/2:][:width/2]
			for h := range heads {
				at := (r*heads + h) * d
				turn(out[at:][:width], x[at:][:width], c, n)
				copy(out[at+width:][:d-width], x[at+width:][:d-width])
			}
		}
	})
}

func turnNeighbours(out, x, cos, sin []float32) {
	for j, c := range cos {
		a, b, n := x[2*j], x[2*j+1], sin[j]
		out[2*j], out[2*j+1] = a*c-b*n, b*c+a*n
	}
}

func turnHalves(out, x, cos, sin []float32) {
	h := len(cos)
	lo, hi, toLo, toHi, sin := x[:h], x[h:][:h], out[:h], out[h:][:h], sin[:h]
	for j, c := range cos {
		a, b, n := lo[j], hi[j], sin[j]
		toLo[j], toHi[j] = a*c-b*n, b*c+a*n
	}
}
