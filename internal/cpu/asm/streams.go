package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// elementwise emits out[i] = f(inputs[i]) for any n: whole registers, then one masked. body leaves its result
// in in[0].
func elementwise(name, inputs, scalars string, body func(in, s []VecVirtual)) {
	signature := "func(out, " + inputs + " *float32, n int"
	if scalars != "" {
		signature += ", " + scalars + " float32"
	}
	function(name, signature+")", "is the loop of its namesake in kernels.")
	out, n := Load(Param("out"), GP64()), Load(Param("n"), GP64())
	var in []Register
	for _, p := range names(inputs) {
		in = append(in, Load(Param(p), GP64()))
	}
	var s []VecVirtual
	for _, p := range names(scalars) {
		s = append(s, broadcast(p, 8))
	}
	vectors := func() []VecVirtual {
		v := make([]VecVirtual, len(in))
		for i := range v {
			v[i] = YMM()
		}
		return v
	}
	loop("loop", n, 8, func() {
		v := vectors()
		for i := range v {
			VMOVUPS(Mem{Base: in[i]}, v[i])
			ADDQ(Imm(32), in[i])
		}
		body(v, s)
		VMOVUPS(v[0], Mem{Base: out})
		ADDQ(Imm(32), out)
	})
	TESTQ(n, n)
	JZ(LabelRef("done"))
	mask, v := tailMask(n), vectors()
	for i := range v {
		VMASKMOVPS(Mem{Base: in[i]}, mask, v[i])
	}
	body(v, s)
	VMASKMOVPS(v[0], mask, Mem{Base: out})
	Label("done")
	VZEROUPPER()
	RET()
}

func names(list string) (out []string) {
	for i, j := 0, 0; j <= len(list); j++ {
		if j == len(list) || list[j] == ',' {
			if j > i {
				out = append(out, list[i:j])
			}
			i = j + 2
		}
	}
	return out
}

var masks Mem

// tailMask selects the first n lanes, n from 1 to 7.
func tailMask(n Register) VecVirtual {
	if masks.Symbol.Name == "" {
		masks = GLOBL("tailMasks", RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, I32(int32(i-8)>>31))
		}
	}
	at, base, mask := GP64(), GP64(), YMM()
	LEAQ(masks, base)
	MOVQ(U32(8), at)
	SUBQ(n, at)
	VMOVUPS(Mem{Base: base, Index: at, Scale: 4}, mask)
	return mask
}

// exp2 makes x = 2^x with an error of 2e-7: 2^round(x), put together from its exponent, times a polynomial for
// the rest. Below -127 it is 0, above 127 it stays 2^127; NaN stays NaN because VMAXPS and VMINPS return their
// last operand then.
func exp2(x VecVirtual) {
	wide := x.Size() == 64
	n, lo, p := vec(int(x.Size())/4), vec(int(x.Size())/4), vec(int(x.Size())/4)
	VBROADCASTSS(constant(-127), lo)
	VMAXPS(x, lo, x)
	VBROADCASTSS(constant(127), lo)
	VMINPS(x, lo, x)
	if wide {
		VRNDSCALEPS(Imm(nearest), x, n)
	} else {
		VROUNDPS(Imm(nearest), x, n)
	}
	VSUBPS(n, x, x)
	VBROADCASTSS(constant(0.00015353362), p)
	// Minimax of the relative error on [-1/2, 1/2].
	for _, c := range []float64{0.0013398875, 0.009618437, 0.055503324, 0.24022648, 0.6931472, 1} {
		if wide {
			VFMADD213PS_BCST(constant(c), x, p)
		} else {
			VFMADD213PS(constant(c), x, p)
		}
	}
	VCVTPS2DQ(n, n)
	if wide {
		VPADDD_BCST(bits(127), n, n)
	} else {
		VPADDD(bits(127), n, n)
	}
	VPSLLD(Imm(23), n, n)
	VMULPS(n, p, x)
}

// xSigmoid makes x = x / (1 + 2^(s*x)).
func xSigmoid(x, s VecVirtual) {
	e := YMM()
	VMULPS(s, x, e)
	exp2(e)
	VADDPS(constant(1), e, e)
	VDIVPS(e, x, x)
}

// gelu makes x = x * Phi(x) = max(x, 0) - |x| * Phi(-|x|). Phi(-a) is exp(-a^2/2) times a function that falls
// slowly, here t*P(t) with t = 1/(1 + 0.3a): a minimax fit of the relative error up to a = 14, 3e-7.
func gelu(x VecVirtual) {
	a, t, p, e := YMM(), YMM(), YMM(), YMM()
	VANDPS(bits(0x7fffffff), x, a)
	VMOVUPS(constant(15), t) // Phi(-15) is 0 here, and 0 * Inf would be NaN
	VMINPS(a, t, a)
	VMOVUPS(constant(0.3), t)
	VFMADD213PS(constant(1), a, t)
	VMOVUPS(constant(1), e)
	VDIVPS(t, e, t)
	VMULPS(a, a, e)
	VMULPS(constant(-math.Log2E/2), e, e)
	exp2(e)
	VMOVUPS(constant(0.035674777), p)
	for _, c := range []float64{-0.15720311, 0.20635353, -0.053683672, 0.12856165, 0.099913485, 0.12075396, 0.1196293} {
		VFMADD213PS(constant(c), t, p)
	}
	VMULPS(t, p, p)
	VMULPS(e, p, p)
	VXORPS(e, e, e)
	VMAXPS(x, e, x)
	VFNMADD231PS(a, p, x)
}

// geluTanh makes x = x/2 (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3), which is x / (1 + 2^(-2u log2(e))).
func geluTanh(x VecVirtual) {
	e, y := YMM(), YMM()
	c := -2 * math.Log2E * math.Sqrt(2/math.Pi)
	VMULPS(x, x, y)
	VMOVUPS(constant(0.044715*c), e)
	VFMADD213PS(constant(c), y, e)
	VMULPS(x, e, e)
	exp2(e)
	VADDPS(constant(1), e, e)
	VDIVPS(e, x, x)
}

func norm(in []VecVirtual) {
	VSUBPS(in[1], in[0], in[0])
	VFMADD213PS(in[3], in[2], in[0])
}

// fold combines the lanes of x into one number, in a fixed order.
func fold(x VecVirtual, two func(a, b, dst Op)) VecVirtual {
	if x.Size() == 64 {
		h, y := YMM(), YMM()
		VEXTRACTF64X4(Imm(1), x, h)
		two(h, x.AsY(), y)
		x = y
	}
	h, y := XMM(), XMM()
	VEXTRACTF128(Imm(1), x, h)
	two(h, x.AsX(), y)
	VPERMILPS(Imm(0x4e), y, h)
	two(h, y, y)
	VPERMILPS(Imm(0xb1), y, h)
	two(h, y, y)
	return y
}

// rowMax and exp2Sum take 16 numbers a step: in two registers, or in one.
func rowMax(name string, lanes int) {
	function(name, "func(x *float32, n int) float32", "is the maximum of n numbers, a positive multiple of 16.")
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	var top []VecVirtual
	for i := range 16 / lanes {
		top = append(top, vec(lanes))
		VMOVUPS(Mem{Base: x, Disp: 4 * lanes * i}, top[i])
	}
	loop("loop", n, 16, func() {
		for i, t := range top {
			VMAXPS(Mem{Base: x, Disp: 4 * lanes * i}, t, t)
		}
		ADDQ(Imm(64), x)
	})
	if len(top) == 2 {
		VMAXPS(top[1], top[0], top[0])
	}
	Store(fold(top[0], func(a, b, dst Op) { VMAXPS(a, b, dst) }), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func exp2Sum(name string, lanes int) {
	function(name, "func(x *float32, n int, m float32) float32", "makes x = 2^(x-m) and returns the sum; n is a multiple of 16.")
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	m := broadcast("m", lanes)
	var sums []VecVirtual
	for range 16 / lanes {
		s := vec(lanes)
		zero(s)
		sums = append(sums, s)
	}
	loop("loop", n, 16, func() {
		for i, s := range sums {
			v := vec(lanes)
			VMOVUPS(Mem{Base: x, Disp: 4 * lanes * i}, v)
			VSUBPS(m, v, v)
			exp2(v)
			VADDPS(v, s, s)
			VMOVUPS(v, Mem{Base: x, Disp: 4 * lanes * i})
		}
		ADDQ(Imm(64), x)
	})
	if len(sums) == 2 {
		VADDPS(sums[1], sums[0], sums[0])
	}
	Store(fold(sums[0], func(a, b, dst Op) { VADDPS(a, b, dst) }), ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// keys transposes blocks of eight by eight numbers in registers: pairs, then fours, then halves.
func keys() {
	function("keysAVX", "func(dst, src *float32, ld, d int, s float32)",
		"stores eight rows of src, ld apart, times s as columns of dst [d][16]; d is a multiple of 8.")
	dst, src, ld, d := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("ld"), GP64()), Load(Param("d"), GP64())
	s := broadcast("s", 8)
	SHLQ(Imm(2), ld)
	loop("loop", d, 8, func() {
		at := GP64()
		MOVQ(src, at)
		var r, t [8]VecVirtual
		for i := range r {
			r[i], t[i] = YMM(), YMM()
			VMULPS(Mem{Base: at}, s, r[i])
			ADDQ(ld, at)
		}
		for i := 0; i < 8; i += 2 {
			VUNPCKLPS(r[i+1], r[i], t[i])
			VUNPCKHPS(r[i+1], r[i], t[i+1])
		}
		for i := 0; i < 8; i += 4 {
			VSHUFPS(Imm(0x44), t[i+2], t[i], r[i])
			VSHUFPS(Imm(0xee), t[i+2], t[i], r[i+1])
			VSHUFPS(Imm(0x44), t[i+3], t[i+1], r[i+2])
			VSHUFPS(Imm(0xee), t[i+3], t[i+1], r[i+3])
		}
		for i := range 4 {
			VPERM2F128(Imm(0x20), r[i+4], r[i], t[i])
			VPERM2F128(Imm(0x31), r[i+4], r[i], t[i+4])
		}
		for i := range t {
			VMOVUPS(t[i], Mem{Base: dst, Disp: 64 * i})
		}
		ADDQ(Imm(32), src)
		ADDQ(U32(512), dst)
	})
	VZEROUPPER()
	RET()
}

// double widens four numbers of memory.
func double(m Mem) VecVirtual {
	v := YMM()
	VCVTPS2PD(m, v)
	return v
}

func moments() {
	function("momentsAVX", "func(sums *float64, x *float32, n int)", "stores four partial sums and four of squares; n is a multiple of 16.")
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	sum, squares := make([]VecVirtual, 4), make([]VecVirtual, 4)
	for i := range sum {
		sum[i], squares[i] = YMM(), YMM()
		VXORPD(sum[i], sum[i], sum[i])
		VXORPD(squares[i], squares[i], squares[i])
	}
	loop("loop", n, 16, func() {
		for i := range sum {
			v := double(Mem{Base: x, Disp: 16 * i})
			VADDPD(v, sum[i], sum[i])
			VFMADD231PD(v, v, squares[i])
		}
		ADDQ(Imm(64), x)
	})
	out := Load(Param("sums"), GP64())
	for i, v := range [][]VecVirtual{sum, squares} {
		VADDPD(v[1], v[0], v[0])
		VADDPD(v[3], v[2], v[2])
		VADDPD(v[2], v[0], v[0])
		VMOVUPD(v[0], Mem{Base: out, Disp: 32 * i})
	}
	VZEROUPPER()
	RET()
}

// extent takes 16 numbers a step.
func extent() {
	function("extentAVX", "func(sums *float64, low, high, x *float32, n int)",
		"stores four partial sums, eight minima and eight maxima of n numbers, a positive multiple of 16.")
	x, n := Load(Param("x"), GP64()), Load(Param("n"), GP64())
	sum, low, high := make([]VecVirtual, 4), make([]VecVirtual, 2), make([]VecVirtual, 2)
	for i := range sum {
		sum[i] = YMM()
		VXORPD(sum[i], sum[i], sum[i])
	}
	for i := range low {
		low[i], high[i] = YMM(), YMM()
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, low[i])
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, high[i])
	}
	loop("loop", n, 16, func() {
		for i := range sum {
			VADDPD(double(Mem{Base: x, Disp: 16 * i}), sum[i], sum[i])
		}
		for i := range low {
			VMINPS(Mem{Base: x, Disp: 32 * i}, low[i], low[i])
			VMAXPS(Mem{Base: x, Disp: 32 * i}, high[i], high[i])
		}
		ADDQ(Imm(64), x)
	})
	VADDPD(sum[1], sum[0], sum[0])
	VADDPD(sum[3], sum[2], sum[2])
	VADDPD(sum[2], sum[0], sum[0])
	VMINPS(low[1], low[0], low[0])
	VMAXPS(high[1], high[0], high[0])
	VMOVUPD(sum[0], Mem{Base: Load(Param("sums"), GP64())})
	VMOVUPS(low[0], Mem{Base: Load(Param("low"), GP64())})
	VMOVUPS(high[0], Mem{Base: Load(Param("high"), GP64())})
	VZEROUPPER()
	RET()
}

func chMoments() {
	function("chMomentsAVX", "func(sum, squares *float64, x *float32, c, n, rows int)",
		"adds rows rows of n channels, a multiple of 16, c apart, to the sums and squares of each.")
	sum, squares := Load(Param("sum"), GP64()), Load(Param("squares"), GP64())
	x, c, n := Load(Param("x"), GP64()), Load(Param("c"), GP64()), Load(Param("n"), GP64())
	SHLQ(Imm(2), c)
	loop("columns", n, 16, func() {
		s, q := make([]VecVirtual, 4), make([]VecVirtual, 4)
		for i := range s {
			s[i], q[i] = YMM(), YMM()
			VMOVUPD(Mem{Base: sum, Disp: 32 * i}, s[i])
			VMOVUPD(Mem{Base: squares, Disp: 32 * i}, q[i])
		}
		at, rows := GP64(), Load(Param("rows"), GP64())
		MOVQ(x, at)
		loop("rows", rows, 1, func() {
			for i := range s {
				v := double(Mem{Base: at, Disp: 16 * i})
				VADDPD(v, s[i], s[i])
				VFMADD231PD(v, v, q[i])
			}
			ADDQ(c, at)
		})
		for i := range s {
			VMOVUPD(s[i], Mem{Base: sum, Disp: 32 * i})
			VMOVUPD(q[i], Mem{Base: squares, Disp: 32 * i})
		}
		ADDQ(U32(128), sum)
		ADDQ(U32(128), squares)
		ADDQ(Imm(64), x)
	})
	VZEROUPPER()
	RET()
}
