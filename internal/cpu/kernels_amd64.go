package cpu

import (
	"math"
	"slices"
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/euryale-ml/euryale/internal/dtype"
)

//go:generate go run -C asm . -out ../avx_amd64.s -stubs ../avx_amd64.go -pkg cpu

func bestKernels() kernels {
	const f16c = 1 << 29 // of CPUID leaf 1; every processor with AVX2 has it so far
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA || cpuidECX(1)&f16c == 0 {
		return portableKernels()
	}
	if cpu.X86.HasAVX512F {
		return avx512Kernels()
	}
	return avx2Kernels()
}

// avx512Kernels has products and softmax of its own; what only streams through memory gains nothing from wider
// registers.
func avx512Kernels() kernels {
	k := avx2Kernels()
	k.name, k.panels, k.mc = "AVX-512", 4, 384
	k.tile = func(t *tile) {
		if t.t != dtype.F32 {
			tileAVX(t)
			return
		}
		f := [...]tileFunc{nil, tileWide1, tileWide2, tileWide3, tileWide4}[t.panels]
		f(at(t.a), &t.zero[0], &t.off[0], t.stride, t.segs, t.k, &t.b[0], t.bstep, &t.c[0], t.ldc, t.acc, ceilDiv(t.rows, tileRows))
	}
	k.rowMax = func(x []float32) float32 { return rowMaxZMM(at(x), len(x)) }
	k.exp2Sum = func(x []float32, m float32) float32 { return exp2SumZMM(at(x), len(x), m) }
	k.peak = func(iters int) float64 {
		peakZMM(iters)
		return float64(iters) * 12 * 16 * 2
	}
	return k
}

type tileFunc = func(a, zero *float32, off *int, stride, segs, k int, b *byte, bstep int, c *float32, ldc, accumulate, tiles int)

func tileAVX(t *tile) {
	f := tileF32
	switch t.t {
	case dtype.F16:
		f = tileF16
	case dtype.BF16:
		f = tileBF16
	}
	for p := range t.panels {
		f(at(t.a), &t.zero[0], &t.off[0], t.stride, t.segs, t.k, &t.b[p*t.bstep], 0, &t.c[p*tileCols], t.ldc, t.acc, ceilDiv(t.rows, tileRows))
	}
}

func avx2Kernels() kernels {
	return kernels{
		name:   "AVX2",
		panels: 1,
		mc:     192,
		tile:   tileAVX,
		toF32: func(dst []float32, src []byte, t dtype.Type) {
			whole := len(dst) &^ 15
			switch t {
			case dtype.F16:
				f16ToF32(at(dst), unsafe.SliceData(src), whole)
			case dtype.BF16:
				bf16ToF32(at(dst), unsafe.SliceData(src), whole)
			default:
				whole = 0
			}
			dtype.ToF32(dst[whole:], src[whole*t.Size():], t)
		},
		fromF32: func(dst []byte, t dtype.Type, src []float32) {
			whole := len(src) &^ 15
			switch t {
			case dtype.F16:
				f32ToF16(unsafe.SliceData(dst), at(src), whole)
			case dtype.BF16:
				f32ToBF16(unsafe.SliceData(dst), at(src), whole)
			default:
				whole = 0
			}
			dtype.FromF32(dst[whole*t.Size():], t, src[whole:])
		},
		add:   func(out, a, b []float32) { addAVX(at(out), at(a), at(b), len(out)) },
		add3:  func(out, a, b, c []float32) { add3AVX(at(out), at(a), at(b), at(c), len(out)) },
		sub:   func(out, a, b []float32) { subAVX(at(out), at(a), at(b), len(out)) },
		mul:   func(out, a, b []float32) { mulAVX(at(out), at(a), at(b), len(out)) },
		scale: func(out, x []float32, s float32) { scaleAVX(at(out), at(x), len(out), s) },
		activate: func(out, x []float32, act Activation) {
			switch act {
			case SiLU:
				sigmoidAVX(at(out), at(x), len(out), -math.Log2E)
			case QuickGELU:
				sigmoidAVX(at(out), at(x), len(out), -1.702*math.Log2E)
			case GELU:
				geluAVX(at(out), at(x), len(out))
			case GELUTanh:
				geluTanhAVX(at(out), at(x), len(out))
			case ReLU:
				reluAVX(at(out), at(x), len(out))
			default:
				activatePortable(out, x, act)
			}
		},
		geglu: func(out, value, gate []float32) { gegluAVX(at(out), at(value), at(gate), len(out)) },
		rowMax: func(x []float32) float32 {
			return rowMaxYMM(at(x), len(x))
		},
		exp2Sum: func(x []float32, m float32) float32 { return exp2SumYMM(at(x), len(x), m) },
		moments: func(x []float32) (sum, squares float64) {
			var part [8]float64
			whole := len(x) &^ 15
			momentsAVX(&part[0], at(x), whole)
			sum, squares = momentsPortable(x[whole:])
			for i := range 4 {
				sum += part[i]
				squares += part[4+i]
			}
			return sum, squares
		},
		extent: func(x []float32) (low, high float32, sum float64) {
			whole := len(x) &^ 15
			if whole == 0 {
				return extentPortable(x)
			}
			var part [4]float64
			var lows, highs [8]float32
			extentAVX(&part[0], &lows[0], &highs[0], at(x), whole)
			low, high, sum = slices.Min(lows[:]), slices.Max(highs[:]), part[0]+part[1]+part[2]+part[3]
			if whole < len(x) {
				l, h, s := extentPortable(x[whole:])
				low, high, sum = min(low, l), max(high, h), sum+s
			}
			return low, high, sum
		},
		chMoments: chMomentsBlocks,
		norm: func(out, x, mean, scale, shift []float32) {
			normAVX(at(out), at(x), at(mean), at(scale), at(shift), len(out))
		},
		normSiLU: func(out, x, mean, scale, shift []float32) {
			normSiLUAVX(at(out), at(x), at(mean), at(scale), at(shift), len(out), -math.Log2E)
		},
		normRow: func(out, x, gamma, beta []float32, m, r float32) {
			normRowAVX(at(out), at(x), at(gamma), at(beta), len(out), m, r)
		},
		keys: func(dst, src []float32, ld, n, d int, s float32) {
			whole := 0
			if d%8 == 0 {
				whole = n / tileCols * tileCols
			}
			for j := 0; j < whole; j += 8 {
				keysAVX(&dst[j/tileCols*tileCols*d+j%tileCols], &src[j*ld], ld, d, s)
			}
			if whole < n {
				keysPortable(dst[whole*d:], src[whole*ld:], ld, n-whole, d, s)
			}
		},
		peak: func(iters int) float64 {
			peakYMM(iters)
			return float64(iters) * 12 * 8 * 2
		},
	}
}

func at(x []float32) *float32 { return unsafe.SliceData(x) }

// chMomentsBlocks walks the rows in blocks that stay in the L2 cache, because the assembly passes over a block
// once per 16 channels.
func chMomentsBlocks(sum, squares []float64, x []float32) {
	c := len(sum)
	whole := c &^ 15
	clear(sum)
	clear(squares)
	for step := max(1, 64*1024/c); len(x) >= c; {
		rows := min(step, len(x)/c)
		chMomentsAVX(&sum[0], &squares[0], &x[0], c, whole, rows)
		for r := range rows {
			for i := whole; i < c; i++ {
				v := float64(x[r*c+i])
				sum[i] += v
				squares[i] += v * v
			}
		}
		x = x[rows*c:]
	}
}
