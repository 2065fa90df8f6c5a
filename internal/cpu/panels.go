package cpu

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// Panels is a weight matrix of N outputs and K inputs as the micro-kernel reads it: ceil(N/16) panels, each K
// rows of 16 columns, in the stored type, the last panel padded with zeros.
type Panels struct {
	Data  []byte
	DType dtype.Type
	N, K  int
}

// PanelBytes is the size of the packed form of n outputs and k inputs.
func PanelBytes(n, k int, t dtype.Type) int {
	return ceilDiv(n, tileCols) * tileCols * k * t.Size()
}

// PackLinear packs src [out in], as torch stores it.
func PackLinear(dst, src []byte, t dtype.Type, out, in int) {
	PackConv(dst, src, t, out, in, 1, 1)
}

// PackConv packs src [out in kh kw], as torch stores it. Input index of the result is (ky*kw+kx)*in + ci.
func PackConv(dst, src []byte, t dtype.Type, out, in, kh, kw int) {
	size, taps := t.Size(), kh*kw
	if !t.Float() {
		panic("cpu: pack: weights of type " + t.String())
	}
	check("pack", "src", len(src), out*in*taps*size)
	check("pack", "dst", len(dst), PanelBytes(out, in*taps, t))
	for p := 0; p < out; p += tileCols {
		cols := min(tileCols, out-p)
		panel := dst[p*in*taps*size:][:tileCols*in*taps*size]
		if cols < tileCols {
			clear(panel)
		}
		from := src[p*in*taps*size:]
		switch size {
		case 2:
			packPanel(asWords[[2]byte](panel, 2), asWords[[2]byte](from, 2), cols, in, taps)
		case 4:
			packPanel(asWords[[4]byte](panel, 4), asWords[[4]byte](from, 4), cols, in, taps)
		}
	}
}

// packPanel reads eight columns' worth of one tap at a time: the writes of one input row share a cache line.
func packPanel[T any](dst, src []T, cols, in, taps int) {
	for ci := range in {
		for tap := range taps {
			row := dst[(tap*in+ci)*tileCols:][:cols]
			for j := range row {
				row[j] = src[(j*in+ci)*taps+tap]
			}
		}
	}
}

func (w Panels) check(op string) {
	if !w.DType.Float() {
		panic(fmt.Sprintf("cpu: %s: weights of type %s", op, w.DType))
	}
	check(op, "weights (bytes)", len(w.Data), PanelBytes(w.N, w.K, w.DType))
}
