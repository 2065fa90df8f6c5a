package cpu

// ConvShape describes a convolution of images [B H W Cin].
type ConvShape struct {
	B, H, W, Cin, Cout                   int
	KH, KW, Stride                       int // Stride 0 is 1
	PadTop, PadLeft, PadBottom, PadRight int
	Upsample                             int // 2: of the input enlarged twice by repeating pixels; 0 and 1: as it is
}

func (s ConvShape) up() int     { return max(1, s.Upsample) }
func (s ConvShape) stride() int { return max(1, s.Stride) }

// Out is the size of the result [B h w Cout].
func (s ConvShape) Out() (h, w int) {
	h = (s.H*s.up()+s.PadTop+s.PadBottom-s.KH)/s.stride() + 1
	w = (s.W*s.up()+s.PadLeft+s.PadRight-s.KW)/s.stride() + 1
	return h, w
}

// Conv computes out = ep(in * w).
//
//	out [B h w Cout]
//	in  [B H W Cin]
//	w   PackConv's [Cout Cin KH KW]
func (p *Pool) Conv(out, in []float32, s ConvShape, w Panels, ep Epilogue) {
	check("conv", "in", len(in), s.B*s.H*s.W*s.Cin)
	check("conv", "weight rows", w.K, s.KH*s.KW*s.Cin)
	check("conv", "weight columns", w.N, s.Cout)
	if s.Upsample < 0 || s.Upsample > 2 {
		panic("cpu: conv: Upsample is not 0, 1 or 2")
	}
	h, wd := s.Out()
	g := gemm{p: p, op: "conv", c: out, a: in, m: s.B * h * wd, w: w, ep: ep, taps: s.KH * s.KW, cin: s.Cin}
	g.offsets = func(off []int, row, rows int) { s.offsets(off, row, rows) }
	g.run()
}

// offsets fills the table of Note [GEMM] for output pixels [row,row+rows).
func (s ConvShape) offsets(off []int, row, rows int) {
	h, w := s.Out()
	n := len(off) / (s.KH * s.KW)
	for r := range n {
		m := row + min(r, rows-1)
		b, y, x := m/(h*w), m/w%h, m%w
		for ky := range s.KH {
			for kx := range s.KW {
				off[(ky*s.KW+kx)*n+r] = s.at(b, y*s.stride()+ky-s.PadTop, x*s.stride()+kx-s.PadLeft)
			}
		}
	}
}

// at is the byte offset of pixel (y,x) of the enlarged input, -1 outside it.
func (s ConvShape) at(b, y, x int) int {
	if y < 0 || x < 0 || y >= s.H*s.up() || x >= s.W*s.up() {
		return -1
	}
	return 4 * s.Cin * ((b*s.H+y/s.up())*s.W + x/s.up())
}
