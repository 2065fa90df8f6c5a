package cpu

import (
	"unsafe"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// Convert writes all numbers of src, of one type, to dst in another, rounding to nearest.
func (p *Pool) Convert(dst []byte, to dtype.Type, src []byte, from dtype.Type) {
	n := len(src) / from.Size()
	check("convert", "dst", len(dst), n*to.Size())
	p.each(n, func(i, j int) {
		dst, src := dst[i*to.Size():j*to.Size()], src[i*from.Size():j*from.Size()]
		switch {
		case to == from:
			copy(dst, src)
		case to == dtype.F32:
			p.k.toF32(float32s(dst), src, from)
		case from == dtype.F32:
			p.k.fromF32(dst, to, float32s(src))
		default:
			dtype.Convert(dst, to, src, from)
		}
	})
}

// float32s views bytes that are aligned, as all buffers are.
func float32s(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}
