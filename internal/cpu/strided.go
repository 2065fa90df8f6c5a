package cpu

// MaxDims is how many dimensions Strided has at most.
const MaxDims = 8

// Strided says which elements of a tensor make another: element (i0, i1, ...) of the result, of sizes Size, is the one
// at Offset + i0*Stride[0] + i1*Stride[1] + ... There is at least one dimension.
type Strided struct {
	Dims         int
	Size, Stride [MaxDims]int
	Offset       int
}

// elements is how many the result has.
func (s *Strided) elements() int {
	n := 1
	for _, d := range s.Size[:s.Dims] {
		n *= d
	}
	return n
}

// Gather copies the elements that s names, in order. out must not overlap x.
func (p *Pool) Gather(out, x []float32, s Strided) {
	check("gather", "out", len(out), s.elements())
	switch last := s.Dims - 1; {
	case len(out) == 0:
	case last > 0 && s.Stride[last] != 1 && s.Stride[last-1] == 1:
		p.turned(out, x, s)
	default:
		p.gathered(out, x, s)
	}
}

// gathered goes through the result row by row.
func (p *Pool) gathered(out, x []float32, s Strided) {
	inner, step := s.Size[s.Dims-1], s.Stride[s.Dims-1]
	s.Dims--
	p.rows(len(out)/inner, inner, func(from, to int) {
		at := s.walk(from)
		for r := from; r < to; r++ {
			row := out[r*inner : (r+1)*inner]
			if step == 1 {
				copy(row, x[at.src:][:inner])
			} else {
				for i := range row {
					row[i] = x[at.src+i*step]
				}
			}
			at.next(&s)
		}
	})
}

// turned is gathered where neighbours of x lie in the last dimension but one of the result: blocks of eight rows and as
// many numbers as a cache line has, so that both are used up while they are in the cache.
func (p *Pool) turned(out, x []float32, s Strided) {
	const high, wide = 8, 16
	rows, inner, step := s.Size[s.Dims-2], s.Size[s.Dims-1], s.Stride[s.Dims-1]
	s.Dims -= 2
	bands := ceilDiv(rows, high)
	p.rows(len(out)/(rows*inner)*bands, high*inner, func(from, to int) {
		for i := from; i < to; i++ {
			matrix, top := i/bands, i%bands*high
			n := min(high, rows-top)
			src := x[s.walk(matrix).src+top:]
			dst := out[(matrix*rows+top)*inner:]
			for left := 0; left < inner; left += wide {
				for c := left; c < min(left+wide, inner); c++ {
					for r, v := range src[c*step:][:n] {
						dst[r*inner+c] = v
					}
				}
			}
		}
	})
}

// walk goes through the places of Strided in order.
type walk struct {
	at  [MaxDims]int
	src int // in what is gathered from
}

// walk begins at element i.
func (s *Strided) walk(i int) (w walk) {
	w.src = s.Offset
	for d := s.Dims - 1; d >= 0; d-- {
		w.at[d] = i % s.Size[d]
		i /= s.Size[d]
		w.src += w.at[d] * s.Stride[d]
	}
	return w
}

func (w *walk) next(s *Strided) {
	for d := s.Dims - 1; d >= 0; d-- {
		w.at[d]++
		w.src += s.Stride[d]
		if w.at[d] < s.Size[d] {
			return
		}
		w.src -= w.at[d] * s.Stride[d]
		w.at[d] = 0
	}
}
