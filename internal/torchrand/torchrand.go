// Package torchrand gives the numbers of torch's CPU generator, bit for bit: a seed means the same noise here as
// torch.Generator().manual_seed(seed) and torch.randn there.
//
// torch fills 16 or more numbers with vector code whose logarithm, sine and cosine are the approximations of
// the Cephes library, and fewer with the C library's functions in double precision. On processors where torch
// has no AVX2 code the last bit of some of its numbers differs.
package torchrand

import "math"

// Generator is a Mersenne Twister (Matsumoto and Nishimura 1998) with torch's normal distribution on top.
type Generator struct {
	state [624]uint32
	at    int
	spare float64 // the second of a pair of normal numbers
	has   bool
}

// New is torch.Generator().manual_seed(seed); like torch's it uses the lower 32 bits.
func New(seed uint64) *Generator {
	g := &Generator{at: 624}
	g.state[0] = uint32(seed)
	for i := 1; i < len(g.state); i++ {
		p := g.state[i-1]
		g.state[i] = 1812433253*(p^p>>30) + uint32(i)
	}
	return g
}

func (g *Generator) uint32() uint32 {
	if g.at == len(g.state) {
		g.refill()
	}
	y := g.state[g.at]
	g.at++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (g *Generator) refill() {
	const n, m = 624, 397
	for i := range n {
		y := g.state[i]&0x80000000 | g.state[(i+1)%n]&0x7fffffff
		v := g.state[(i+m)%n] ^ y>>1
		if y&1 != 0 {
			v ^= 0x9908b0df
		}
		g.state[i] = v
	}
	g.at = 0
}

// uniform32 is uniform in [0,1) with 24 bits.
func (g *Generator) uniform32() float32 { return float32(g.uint32()&(1<<24-1)) * (1.0 / (1 << 24)) }

// uniform64 is uniform in [0,1) with 53 bits.
func (g *Generator) uniform64() float64 {
	high := uint64(g.uint32())
	return float64((high<<32|uint64(g.uint32()))&(1<<53-1)) * (1.0 / (1 << 53))
}

// Randn fills dst as torch.randn fills a tensor of its size.
func (g *Generator) Randn(dst []float32) {
	if len(dst) < 16 {
		for i := range dst {
			dst[i] = float32(g.normal64())
		}
		return
	}
	for i := range dst {
		dst[i] = g.uniform32()
	}
	n := len(dst) &^ 15
	for i := 0; i < n; i += 16 {
		boxMuller((*[16]float32)(dst[i:]))
	}
	if n < len(dst) {
		tail := dst[len(dst)-16:] // overlaps numbers already made, which are replaced
		for i := range tail {
			tail[i] = g.uniform32()
		}
		boxMuller((*[16]float32)(tail))
	}
}

// normal64 makes normal numbers two at a time (Box and Muller 1958).
func (g *Generator) normal64() float64 {
	if g.has {
		g.has = false
		return g.spare
	}
	u1, u2 := g.uniform64(), g.uniform64()
	r := math.Sqrt(-2 * math.Log1p(-u2))
	sin, cos := math.Sincos(2 * math.Pi * u1)
	g.spare, g.has = r*sin, true
	return r * cos
}

// boxMuller turns eight pairs of uniform numbers, first all first ones, into normal numbers.
func boxMuller(x *[16]float32) {
	const twoPi = float32(2 * math.Pi)
	for i := range 8 {
		r := float32(math.Sqrt(float64(-2 * logf(1-x[i]))))
		sin, cos := sincosf(twoPi * x[i+8])
		x[i], x[i+8] = r*cos, r*sin
	}
}

// Below, products and sums are fused exactly where the compiler of torch's published builds fuses them;
// conversions to float32 keep Go from fusing others.

// logf is Cephes' single precision logarithm of a positive number.
func logf(x float32) float32 {
	bits := math.Float32bits(x)
	e := float32(int32(bits>>23)-0x7f) + 1
	x = math.Float32frombits(bits&^0x7f800000 | 0x3f000000)
	if x < 0.707106781186547524 {
		e--
		x = x - 1 + x
	} else {
		x--
	}
	z := float32(x * x)
	y := float32(7.0376836292e-2)
	for _, p := range [...]float32{-1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1} {
		y = fma(y, x, p)
	}
	y = fma(float32(y*x), z, float32(e*-2.12194440e-4))
	y = fma(z, -0.5, y)
	return fma(e, 0.693359375, x+y)
}

// sincosf is Cephes' single precision sine and cosine of a number from 0 on.
func sincosf(x float32) (sin, cos float32) {
	octant := int32(float32(x*1.27323954473516)) + 1
	octant &^= 1
	y := float32(octant)
	x = fma(y, -0.78515625, x)
	x = fma(y, -2.4187564849853515625e-4, x)
	x = fma(y, -3.77489497744594108e-8, x)
	z := float32(x * x)

	c := float32(2.443315711809948e-5)
	c = fma(c, z, -1.388731625493765e-3)
	c = fma(c, z, 4.166664568298827e-2)
	c = fma(float32(c*z), z, -0.5*z)
	c++
	s := float32(-1.9515295891e-4)
	s = fma(s, z, 8.3321608736e-3)
	s = fma(s, z, -1.6666654611e-1)
	s = fma(float32(s*z), x, x)

	if octant&2 != 0 {
		s, c = c, s
	}
	if octant&4 != 0 {
		s = -s
	}
	if (octant-2)&4 == 0 {
		c = -c
	}
	return s, c
}

// fma is a*b+c with one rounding. The product is exact in float64; the sum is rounded to odd there, so that
// rounding it again to float32 is right (Boldo and Melquiond 2008).
func fma(a, b, c float32) float32 {
	p, d := float64(a)*float64(b), float64(c)
	s := p + d
	t := s - p
	if e := (p - (s - t)) + (d - t); e != 0 {
		if bits := math.Float64bits(s); bits&1 == 0 {
			if (e > 0) == (s > 0) {
				bits++
			} else {
				bits--
			}
			s = math.Float64frombits(bits)
		}
	}
	return float32(s)
}
