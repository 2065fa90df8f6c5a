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
		p.k.convert(dst[i*to.Size():j*to.Size()], to, src[i*from.Size():j*from.Size()], from)
	})
}

func (k *kernels) convert(dst []byte, to dtype.Type, src []byte, from dtype.Type) {
	switch {
	case to == from:
		copy(dst, src)
	case to == dtype.F32:
		k.toF32(view[float32](dst), src, from)
	case from == dtype.F32:
		k.fromF32(dst, to, view[float32](src))
	default:
		dtype.Convert(dst, to, src, from)
	}
}

// Taps turns a filter [out in taps] into [out taps in] of another type, rounding to nearest.
func (p *Pool) Taps(dst []byte, to dtype.Type, src []byte, from dtype.Type, out, in, taps int) {
	n := in * taps
	check("taps", "src", len(src), out*n*from.Size())
	check("taps", "dst", len(dst), out*n*to.Size())
	const most = 256 // channels gathered at a time: a copy of the filter would be memory that nobody planned
	p.For(out, func(worker, o int) {
		dst, src := dst[o*n*to.Size():][:n*to.Size()], src[o*n*from.Size():][:n*from.Size()]
		some := grow(&p.scratch[worker].row, most)
		gathered := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(some))), 4*most)
		for tap := range taps {
			for c := 0; c < in; c += most {
				m := min(most, in-c)
				if from.Size() == 2 {
					gather(view[uint16](gathered), view[uint16](src)[c*taps+tap:], m, taps)
				} else {
					gather(view[uint32](gathered), view[uint32](src)[c*taps+tap:], m, taps)
				}
				p.k.convert(dst[(tap*in+c)*to.Size():][:m*to.Size()], to, gathered[:m*from.Size()], from)
			}
		}
	})
}

// gather takes n numbers that lie step apart.
func gather[T uint16 | uint32](dst, src []T, n, step int) {
	for i := range dst[:n] {
		dst[i] = src[i*step]
	}
}

// view views bytes that are aligned, as all buffers are.
func view[T any](b []byte) []T {
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(t)))
}
