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
	if len(out) == 0 {
		return
	}
	inner, step := s.Size[s.Dims-1], s.Stride[s.Dims-1]
	p.rows(len(out)/inner, inner, func(from, to int) {
		var at [MaxDims]int // the place of row from
		src := s.Offset
		for d, r := s.Dims-2, from; d >= 0; d-- {
			at[d] = r % s.Size[d]
			r /= s.Size[d]
			src += at[d] * s.Stride[d]
		}
		for r := from; r < to; r++ {
			row := out[r*inner : (r+1)*inner]
			if step == 1 {
				copy(row, x[src:][:inner])
			} else {
				for i := range row {
					row[i] = x[src+i*step]
				}
			}
			for d := s.Dims - 2; d >= 0; d-- { // the next row's
				at[d]++
				src += s.Stride[d]
				if at[d] < s.Size[d] {
					break
				}
				src -= at[d] * s.Stride[d]
				at[d] = 0
			}
		}
	})
}
