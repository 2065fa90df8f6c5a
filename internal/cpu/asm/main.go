// Command asm writes the assembly twin of the inner loops: "make asm" runs it. It is a module of its own, so
// that users of Euryale do not depend on avo.
package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

const (
	tileRows = 6
	nearest  = 0x08 // VROUNDPS: to nearest even, no exception
)

func main() {
	ConstraintExpr("amd64")

	cpuid()
	tile("tileF32", 8, 1, func(b Mem, dst Register) { VMOVUPS(b, dst) })
	tile("tileF16", 8, 1, func(b Mem, dst Register) { VCVTPH2PS(b, dst) })
	tile("tileBF16", 8, 1, func(b Mem, dst Register) {
		VPMOVZXWD(b, dst)
		VPSLLD(Imm(16), dst, dst)
	})
	for panels := 1; panels <= 4; panels++ {
		tile(fmt.Sprintf("tileWide%d", panels), 16, panels, func(b Mem, dst Register) { VMOVUPS(b, dst) })
	}
	peak("peakYMM", 8)
	peak("peakZMM", 16)
	convert("f16ToF32", func(b Mem, dst Register) { VCVTPH2PS(b, dst) })
	convert("bf16ToF32", func(b Mem, dst Register) {
		VPMOVZXWD(b, dst)
		VPSLLD(Imm(16), dst, dst)
	})
	round("f32ToF16", func(x [2]Register, dst Mem) {
		for i, y := range x {
			VCVTPS2PH(Imm(0), y, dst.Offset(16*i)) // to nearest, ties to even
		}
	})
	round("f32ToBF16", roundBF16)

	elementwise("addAVX", "a, b", "", func(in, _ []VecVirtual) { VADDPS(in[1], in[0], in[0]) })
	elementwise("add3AVX", "a, b, c", "", func(in, _ []VecVirtual) {
		VADDPS(in[1], in[0], in[0])
		VADDPS(in[2], in[0], in[0])
	})
	elementwise("subAVX", "a, b", "", func(in, _ []VecVirtual) { VSUBPS(in[1], in[0], in[0]) })
	elementwise("mulAVX", "a, b", "", func(in, _ []VecVirtual) { VMULPS(in[1], in[0], in[0]) })
	elementwise("scaleAVX", "x", "s", func(in, s []VecVirtual) { VMULPS(s[0], in[0], in[0]) })
	// s is -log2(e), or 1.702 times that: x * sigmoid(...) = x / (1 + 2^(s*x)).
	elementwise("sigmoidAVX", "x", "s", func(in, s []VecVirtual) { xSigmoid(in[0], s[0]) })
	elementwise("geluAVX", "x", "", func(in, _ []VecVirtual) { gelu(in[0]) })
	elementwise("geluTanhAVX", "x", "", func(in, _ []VecVirtual) { geluTanh(in[0]) })
	elementwise("reluAVX", "x", "", func(in, _ []VecVirtual) {
		zero := YMM()
		VXORPS(zero, zero, zero)
		VMAXPS(in[0], zero, in[0]) // the last operand of the three, x, where one is NaN
	})
	elementwise("gegluAVX", "value, gate", "", func(in, _ []VecVirtual) {
		gelu(in[1])
		VMULPS(in[1], in[0], in[0])
	})
	elementwise("normAVX", "x, mean, scale, shift", "", func(in, _ []VecVirtual) { norm(in) })
	elementwise("normSiLUAVX", "x, mean, scale, shift", "s", func(in, s []VecVirtual) {
		norm(in)
		xSigmoid(in[0], s[0])
	})
	elementwise("normRowAVX", "x, gamma, beta", "m, r", func(in, s []VecVirtual) {
		VSUBPS(s[0], in[0], in[0])
		VMULPS(s[1], in[0], in[0])
		VFMADD213PS(in[2], in[1], in[0])
	})

	rowMax("rowMaxYMM", 8)
	rowMax("rowMaxZMM", 16)
	exp2Sum("exp2SumYMM", 8)
	exp2Sum("exp2SumZMM", 16)
	keys()
	moments()
	extent()
	chMoments()
	Generate()
}

// function begins a leaf function that keeps no pointers.
func function(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
	Doc(name + " " + doc)
}

// vec is a new vector register of 8 or 16 numbers.
func vec(width int) VecVirtual {
	if width == 16 {
		return ZMM()
	}
	return YMM()
}

func zero(v VecVirtual) {
	if v.Size() == 64 {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

// argument is the memory of a parameter.
func argument(name string) Mem {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// broadcast loads a float32 parameter into every lane.
func broadcast(name string, lanes int) VecVirtual {
	v := vec(lanes)
	VBROADCASTSS(argument(name), v)
	return v
}

var constants = map[uint32]Mem{}

// constant is the memory of eight times f.
func constant(f float64) Mem { return bits(math.Float32bits(float32(f))) }

func bits(b uint32) Mem {
	if m, ok := constants[b]; ok {
		return m
	}
	m := GLOBL(fmt.Sprintf("c%08x", b), RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(b))
	}
	constants[b] = m
	return m
}

// loop emits body as often as count, a register it counts down by step, allows.
func loop(name string, count Register, step int, body func()) {
	Label(name)
	CMPQ(count, U32(uint32(step)))
	JL(LabelRef(name + "End"))
	body()
	SUBQ(U32(uint32(step)), count)
	JMP(LabelRef(name))
	Label(name + "End")
}

func cpuid() {
	TEXT("cpuidECX", NOSPLIT, "func(leaf uint32) uint32")
	Doc("cpuidECX is ECX of a CPUID leaf.")
	Load(Param("leaf"), EAX)
	XORL(ECX, ECX)
	CPUID()
	Store(ECX, ReturnIndex(0))
	RET()
}

// tile is the micro-kernel of kernels.go over six rows and panels neighbouring panels, bstep bytes apart: all
// sums are in registers, each step loads its row of every panel once and broadcasts one number of A per row.
// With 8 lanes a panel takes two registers, with 16 one.
func tile(name string, lanes, panels int, load func(b Mem, dst Register)) {
	function(name, "func(a, zero *float32, off *int, stride, segs, k int, b *byte, bstep int, c *float32, ldc, accumulate, tiles int)",
		fmt.Sprintf("is the micro-kernel over %d panel(s), %d numbers to a register, down tiles times six rows.", panels, lanes))
	halves := 16 / lanes
	cols := panels * halves
	size := 4
	if name == "tileF16" || name == "tileBF16" {
		size = 2
	}
	acc := make([][]VecVirtual, tileRows)
	for r := range acc {
		acc[r] = make([]VecVirtual, cols)
		for j := range acc[r] {
			acc[r][j] = vec(lanes)
		}
	}
	eachC := func(do func(m Mem, acc VecVirtual)) (c, ld GPVirtual) {
		c, ld = GP64(), GP64()
		MOVQ(argument("c"), c)
		MOVQ(argument("ldc"), ld)
		SHLQ(Imm(2), ld)
		for r := range acc {
			for j := range acc[r] {
				do(Mem{Base: c, Disp: 4 * lanes * j}, acc[r][j])
			}
			if r < tileRows-1 {
				ADDQ(ld, c)
			}
		}
		return c, ld
	}

	Label("tile")

	for r := range acc {
		for j := range acc[r] {
			zero(acc[r][j])
		}
	}
	off, segs := Load(Param("off"), GP64()), Load(Param("segs"), GP64())
	b := Load(Param("b"), GP64())
	bstep := b
	if panels > 1 {
		bstep = Load(Param("bstep"), GP64())
	}
	Label("seg")
	a, zeros := Load(Param("a"), GP64()), Load(Param("zero"), GP64())
	rows := make([]GPVirtual, tileRows)
	for r := range rows {
		rows[r] = GP64()
		o := GP64()
		MOVQ(Mem{Base: off, Disp: 8 * r}, o)
		LEAQ(Mem{Base: a, Index: o, Scale: 1}, rows[r])
		TESTQ(o, o)
		CMOVQMI(zeros, rows[r])
	}
	k := Load(Param("k"), GP64())
	third := GP64() // of four panels: the place of the third
	step := func(i int) {
		row := make([]VecVirtual, cols)
		if panels == 4 {
			LEAQ(Mem{Base: b, Index: bstep, Scale: 2}, third)
		}
		for j := range row {
			row[j] = vec(lanes)
			m := Mem{Base: b, Disp: i*16*size + j%halves*lanes*size}
			switch j / halves {
			case 1:
				m.Index, m.Scale = bstep, 1
			case 2:
				m.Index, m.Scale = bstep, 2
			case 3:
				m.Base, m.Index, m.Scale = third, bstep, 1
			}
			load(m, row[j])
		}
		for r := range acc {
			x := vec(lanes)
			VBROADCASTSS(Mem{Base: rows[r], Disp: 4 * i}, x)
			for j := range row {
				VFMADD231PS(row[j], x, acc[r][j])
			}
		}
	}
	advance := func(n int) {
		ADDQ(U32(uint32(n*16*size)), b)
		for _, r := range rows {
			ADDQ(U32(uint32(4*n)), r)
		}
	}
	for _, n := range []int{4, 1} {
		loop(fmt.Sprintf("k%d", n), k, n, func() {
			for i := range n {
				step(i)
			}
			advance(n)
		})
	}
	next := Load(Param("stride"), GP64())
	LEAQ(Mem{Base: off, Index: next, Scale: 8}, off)
	DECQ(segs)
	JNZ(LabelRef("seg"))

	accumulate := Load(Param("accumulate"), GP64())
	TESTQ(accumulate, accumulate)
	JZ(LabelRef("store"))
	eachC(func(m Mem, acc VecVirtual) { VADDPS(m, acc, acc) })
	Label("store")
	c, ld := eachC(func(m Mem, acc VecVirtual) { VMOVUPS(acc, m) })
	// The next six rows: the arguments' own memory counts them.
	ADDQ(ld, c)
	MOVQ(c, argument("c"))
	ADDQ(Imm(8*tileRows), argument("off"))
	DECQ(argument("tiles"))
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

func peak(name string, lanes int) {
	function(name, "func(iters int)", "does iters times twelve independent fused multiply-adds.")
	n := Load(Param("iters"), GP64())
	x := vec(lanes)
	acc := make([]VecVirtual, 12)
	for i := range acc {
		acc[i] = vec(lanes)
	}
	for _, v := range append(acc, x) {
		zero(v)
	}
	Label("loop")
	for range 4 {
		for i := range acc {
			VFMADD231PS(x, x, acc[i])
		}
	}
	SUBQ(Imm(4), n)
	JG(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

func convert(name string, load func(b Mem, dst Register)) {
	function(name, "func(dst *float32, src *byte, n int)", "converts n numbers, a multiple of 16.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	loop("loop", n, 16, func() {
		for i := range 2 {
			x := YMM()
			load(Mem{Base: src, Disp: 16 * i}, x)
			VMOVUPS(x, Mem{Base: dst, Disp: 32 * i})
		}
		ADDQ(Imm(32), src)
		ADDQ(Imm(64), dst)
	})
	VZEROUPPER()
	RET()
}

// round writes float32 numbers in 16 bits.
func round(name string, store func(x [2]Register, dst Mem)) {
	function(name, "func(dst *byte, src *float32, n int)", "rounds n numbers, a multiple of 16, to nearest, ties to even.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	loop("loop", n, 16, func() {
		x := [2]Register{YMM(), YMM()}
		for i := range x {
			VMOVUPS(Mem{Base: src, Disp: 32 * i}, x[i])
		}
		store(x, Mem{Base: dst})
		ADDQ(Imm(64), src)
		ADDQ(Imm(32), dst)
	})
	VZEROUPPER()
	RET()
}

// roundBF16 adds half of what is cut off, a little less where the number would become odd. A NaN, to which nothing may
// be added, gets its quiet bit.
func roundBF16(x [2]Register, dst Mem) {
	for _, v := range x {
		high, odd, nan := YMM(), YMM(), YMM()
		VCMPPS(Imm(3), v, v, nan) // unordered
		VPSRLD(Imm(16), v, high)
		VPAND(bits(1), high, odd)
		VPOR(bits(0x40), high, high)
		VPADDD(odd, v, v)
		VPADDD(bits(0x7fff), v, v)
		VPSRLD(Imm(16), v, v)
		VBLENDVPS(nan, high, v, v)
	}
	VPACKUSDW(x[1], x[0], x[0]) // of each half of the two registers in turn
	VPERMQ(Imm(0xd8), x[0], x[0])
	VMOVUPS(x[0], dst)
}
