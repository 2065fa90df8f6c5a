package cpu

import (
	"math"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// portableKernels is the twin in plain Go: the only one off amd64, and the definition the assembly is tested
// against.
func portableKernels() kernels {
	return kernels{
		name:      "portable",
		panels:    1,
		mc:        192,
		tile:      tilePortable,
		toF32:     dtype.ToF32,
		fromF32:   dtype.FromF32,
		add:       addPortable,
		add3:      add3Portable,
		sub:       subPortable,
		mul:       mulPortable,
		scale:     scalePortable,
		activate:  activatePortable,
		geglu:     gegluPortable,
		rowMax:    rowMaxPortable,
		exp2Sum:   exp2SumPortable,
		moments:   momentsPortable,
		extent:    extentPortable,
		chMoments: chMomentsPortable,
		norm:      normPortable,
		normSiLU:  normSiLUPortable,
		normRow:   normRowPortable,
		keys:      keysPortable,
		peak:      peakPortable,
	}
}

func tilePortable(t *tile) {
	var row [tileCols]float32
	size := tileCols * t.t.Size()
	for r := range t.rows {
		for p := range t.panels {
			var acc [tileCols]float32
			c := t.c[r*t.ldc+p*tileCols:][:tileCols]
			for s := range t.segs {
				a := t.zero
				if o := t.off[s*t.stride+r]; o >= 0 {
					a = t.a[o/4:]
				}
				b := t.b[p*t.bstep+s*t.k*size:]
				for i, v := range a[:t.k] {
					w := &row
					if t.t == dtype.F32 {
						w = (*[tileCols]float32)(unsafe.Pointer(&b[i*size]))
					} else {
						dtype.ToF32(row[:], b[i*size:], t.t)
					}
					for j := range acc {
						acc[j] += v * w[j]
					}
				}
			}
			if t.acc != 0 {
				addPortable(acc[:], acc[:], c)
			}
			copy(c, acc[:])
		}
	}
}

func addPortable(out, a, b []float32) {
	for i := range out {
		out[i] = a[i] + b[i]
	}
}

func add3Portable(out, a, b, c []float32) {
	for i := range out {
		out[i] = a[i] + b[i] + c[i]
	}
}

func subPortable(out, a, b []float32) {
	for i := range out {
		out[i] = a[i] - b[i]
	}
}

func mulPortable(out, a, b []float32) {
	for i := range out {
		out[i] = a[i] * b[i]
	}
}

func scalePortable(out, x []float32, s float32) {
	for i := range out {
		out[i] = x[i] * s
	}
}

func activatePortable(out, x []float32, act Activation) {
	var f func(float64) float64
	switch act {
	case SiLU:
		f = silu
	case GELU:
		f = gelu
	case QuickGELU:
		f = quickGELU
	case GELUTanh:
		f = geluTanh
	case ReLU:
		f = relu
	case Tanh:
		f = math.Tanh
	default:
		panic("cpu: no element-wise form of activation " + act.String())
	}
	for i, v := range x {
		out[i] = float32(f(float64(v)))
	}
}

func gegluPortable(out, value, gate []float32) {
	for i, v := range value {
		out[i] = v * float32(gelu(float64(gate[i])))
	}
}

func silu(x float64) float64      { return x / (1 + math.Exp(-x)) }
func gelu(x float64) float64      { return 0.5 * x * math.Erfc(-x/math.Sqrt2) }
func quickGELU(x float64) float64 { return x / (1 + math.Exp(-1.702*x)) }
func relu(x float64) float64      { return max(x, 0) }
func geluTanh(x float64) float64 {
	return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

func rowMaxPortable(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		m = max(m, v)
	}
	return m
}

func exp2SumPortable(x []float32, m float32) float32 {
	var sum float32
	for i, v := range x {
		e := float32(math.Exp2(float64(v - m)))
		x[i] = e
		sum += e
	}
	return sum
}

func momentsPortable(x []float32) (sum, squares float64) {
	for _, v := range x {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	return sum, squares
}

func chMomentsPortable(sum, squares []float64, x []float32) {
	clear(sum)
	clear(squares)
	for c := len(sum); len(x) >= c; x = x[c:] {
		for i, v := range x[:c] {
			sum[i] += float64(v)
			squares[i] += float64(v) * float64(v)
		}
	}
}

func normPortable(out, x, mean, scale, shift []float32) {
	for i := range out {
		out[i] = (x[i]-mean[i])*scale[i] + shift[i]
	}
}

func normSiLUPortable(out, x, mean, scale, shift []float32) {
	normPortable(out, x, mean, scale, shift)
	activatePortable(out, out, SiLU)
}

func normRowPortable(out, x, gamma, beta []float32, mean, rstd float32) {
	for i := range out {
		out[i] = (x[i]-mean)*rstd*gamma[i] + beta[i]
	}
}

// keysPortable lays n rows of d numbers, ld apart, as columns: dst is ceil(n/16) panels [d][16], each number
// times s, zero padded.
func keysPortable(dst, src []float32, ld, n, d int, s float32) {
	for p := 0; p < n; p += tileCols {
		panel := dst[p*d:][:tileCols*d]
		if n-p < tileCols {
			clear(panel)
		}
		for j := range min(tileCols, n-p) {
			for i, v := range src[(p+j)*ld:][:d] {
				panel[i*tileCols+j] = v * s
			}
		}
	}
}

// peakPortable has eight chains of dependent sums; the compiler has no vector form of them.
func peakPortable(iters int) float64 {
	a := [8]float32{1, 2, 3, 4, 5, 6, 7, 8}
	x := float32(0.5)
	for range iters {
		a[0], a[1] = a[0]*x+x, a[1]*x+x
		a[2], a[3] = a[2]*x+x, a[3]*x+x
		a[4], a[5] = a[4]*x+x, a[5]*x+x
		a[6], a[7] = a[6]*x+x, a[7]*x+x
	}
	if a[0]+a[1]+a[2]+a[3]+a[4]+a[5]+a[6]+a[7] == 0 {
		return 0 // keeps the sums alive
	}
	return float64(iters) * 16
}

func extentPortable(x []float32) (low, high float32, sum float64) {
	low, high = x[0], x[0]
	for _, v := range x {
		low, high, sum = min(low, v), max(high, v), sum+float64(v)
	}
	return low, high, sum
}
