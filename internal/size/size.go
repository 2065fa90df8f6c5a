// Package size counts bytes and elements without overflow. Sizes come from files, configs and requests, and a
// product that wraps around to a small number is how a loader is made to write past its memory.
package size

import "math/bits"

// Max is the largest size there is: what a safetensors file may claim, and few enough that 2^15 of them can be
// added in an int64.
const Max = 1<<48 - 1

// Size is a number from 0 to Max, or none: what overflowed or was negative, and everything computed from it. The
// zero value is 0.
type Size struct {
	n    uint64
	none bool
}

// Of is n, or none if n is not from 0 to Max.
func Of[T int | int64 | uint64](n T) Size {
	if n < 0 || uint64(n) > Max {
		return Size{none: true}
	}
	return Size{n: uint64(n)}
}

// Product multiplies all of list; of no numbers it is 1.
func Product[T int | int64 | uint64](list ...T) Size {
	s := Size{n: 1}
	for _, n := range list {
		s = s.Mul(Of(n))
	}
	return s
}

// Add is s + t.
func (s Size) Add(t Size) Size {
	if s.none || t.none {
		return Size{none: true}
	}
	return Of(s.n + t.n)
}

// Mul is s * t.
func (s Size) Mul(t Size) Size {
	high, low := bits.Mul64(s.n, t.n)
	if s.none || t.none || high != 0 {
		return Size{none: true}
	}
	return Of(low)
}

// Up rounds up to a multiple of a power of two.
func (s Size) Up(to int) Size {
	t := s.Add(Of(to - 1))
	t.n &^= uint64(to - 1)
	return t
}

// Bytes turns bits into bytes; none if they are not whole.
func (s Size) Bytes() Size {
	if s.n%8 != 0 {
		return Size{none: true}
	}
	return Size{s.n / 8, s.none}
}

// Int is the size, and false if there is none or an int of this system does not hold it.
func (s Size) Int() (int, bool) {
	if s.none || s.n > 1<<(bits.UintSize-1)-1 {
		return 0, false
	}
	return int(s.n), true
}
