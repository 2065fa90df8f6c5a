package dtype

import (
	"math"
	"testing"
)

// Every binary16 value survives the way to binary32 and back; NaNs stay NaNs.
func TestEveryF16RoundTrips(t *testing.T) {
	for i := 0; i < 1<<16; i++ {
		h := uint16(i)
		f := F16ToF32(h)
		if got := F32ToF16(f); got != h && !(f != f && got&0x7c00 == 0x7c00 && got&0x3ff != 0) {
			t.Fatalf("%#04x -> %g -> %#04x", h, f, got)
		}
	}
}

func TestF32ToF16RoundsToNearestEven(t *testing.T) {
	for _, c := range []struct {
		in   float32
		want uint16
	}{
		{1 + 1.0/2048, 0x3c00},     // halfway to the next: to even
		{1 + 3.0/2048, 0x3c02},     // halfway: up to even
		{65519.996, 0x7bff},        // below the halfway point to infinity
		{65520, 0x7c00},            // at it
		{1.0 / (1 << 25), 0x0000},  // half the smallest subnormal: to even
		{1.1 / (1 << 25), 0x0001},  // just above
		{-1.0 / (1 << 24), 0x8001}, // the smallest subnormal
		{float32(math.Inf(-1)), 0xfc00},
	} {
		if got := F32ToF16(c.in); got != c.want {
			t.Errorf("%g: got %#04x, want %#04x", c.in, got, c.want)
		}
	}
}
