// Package dtype names the element types weights are stored in and converts them to float32.
package dtype

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Type is the element type of a stored tensor.
type Type uint8

const (
	Invalid Type = iota
	F32          // IEEE 754 binary32
	F16          // IEEE 754 binary16
	BF16         // the upper half of a binary32
	I32
	I64
)

var names = [...]string{Invalid: "invalid", F32: "F32", F16: "F16", BF16: "BF16", I32: "I32", I64: "I64"}

// String is the spelling safetensors uses.
func (t Type) String() string {
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("dtype(%d)", uint8(t))
}

// Size is the number of bytes of one element.
func (t Type) Size() int {
	switch t {
	case F32, I32:
		return 4
	case F16, BF16:
		return 2
	case I64:
		return 8
	}
	panic("dtype: size of " + t.String())
}

// Float reports whether weights may be stored in t.
func (t Type) Float() bool { return t == F32 || t == F16 || t == BF16 }

// ToF32 converts len(dst) little-endian elements of type t. It is the definition the vector forms are
// tested against.
func ToF32(dst []float32, src []byte, t Type) {
	for i := range dst {
		switch t {
		case F32:
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		case F16:
			dst[i] = F16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
		case BF16:
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		default:
			panic("dtype: no float32 form of " + t.String())
		}
	}
}

// F16ToF32 is exact: every binary16 value, NaN payloads included, has a binary32 form.
func F16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h & 0x3ff)
	switch exp {
	case 0: // zero and subnormals: frac * 2^-24
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// F32ToF16 rounds to nearest even, as IEEE 754 and torch do.
func F32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	abs := b & 0x7fffffff
	switch {
	case abs > 0x7f800000: // NaN stays NaN, quiet
		return sign | 0x7e00 | uint16(abs>>13)&0x1ff
	case abs >= 0x47800000: // 65536 and above
		return sign | 0x7c00
	case abs < 0x38800000: // subnormal in binary16: align the point by adding 0.5
		sum := math.Float32frombits(abs) + 0.5
		return sign | uint16(math.Float32bits(sum)-0x3f000000)
	}
	abs += 0xc8000fff + (abs>>13)&1
	return sign | uint16(abs>>13)
}

// F32ToBF16 rounds to nearest even; NaN stays NaN.
func F32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromF32 writes float32 numbers as type t.
func FromF32(dst []byte, t Type, src []float32) {
	for i, f := range src {
		switch t {
		case F32:
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(f))
		case F16:
			binary.LittleEndian.PutUint16(dst[2*i:], F32ToF16(f))
		case BF16:
			binary.LittleEndian.PutUint16(dst[2*i:], F32ToBF16(f))
		default:
			panic("dtype: no float32 in " + t.String())
		}
	}
}

// Convert writes all numbers of src, of one type, to dst in another.
func Convert(dst []byte, to Type, src []byte, from Type) {
	if to == from {
		copy(dst, src)
		return
	}
	var x [1024]float32
	for n := len(src) / from.Size(); n > 0; {
		part := x[:min(n, len(x))]
		ToF32(part, src, from)
		FromF32(dst, to, part)
		src, dst = src[len(part)*from.Size():], dst[len(part)*to.Size():]
		n -= len(part)
	}
}
