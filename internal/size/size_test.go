package size

import (
	"math/big"
	"math/bits"
	"testing"
)

// FuzzSize: sizes are those of exact arithmetic, or there is none because exact arithmetic leaves the limits.
func FuzzSize(f *testing.F) {
	f.Add(uint64(32), uint64(2), uint64(3), uint64(4), uint8(6))
	f.Add(uint64(1<<32), uint64(1<<32), uint64(0), uint64(1), uint8(0))
	f.Add(uint64(0), uint64(1<<63), uint64(1), uint64(0), uint8(1))
	f.Add(uint64(Max), uint64(1), uint64(1), uint64(0), uint8(5))
	f.Add(uint64(1<<48), uint64(0), uint64(0), uint64(0), uint8(0))
	f.Add(uint64(1<<64-32), uint64(1), uint64(1), uint64(1<<64-1), uint8(8))
	f.Add(uint64(1<<24), uint64(1<<24), uint64(1), uint64(0), uint8(20))
	limit := big.NewInt(Max)
	f.Fuzz(func(t *testing.T, a, b, c, d uint64, shift uint8) {
		within := true
		exact := func(x *big.Int) *big.Int {
			within = within && x.Cmp(limit) <= 0
			return x
		}
		to := int64(1) << (shift % 21)
		of := func(n uint64) *big.Int { return exact(new(big.Int).SetUint64(n)) }
		x := exact(new(big.Int).Mul(exact(new(big.Int).Mul(of(a), of(b))), of(c)))
		x = exact(new(big.Int).Add(x, of(d)))
		x = exact(new(big.Int).Add(x, big.NewInt(to-1)))
		x.Sub(x, new(big.Int).Mod(x, big.NewInt(to)))

		got, ok := Product(a, b, c).Add(Of(d)).Up(int(to)).Int()
		if bits.UintSize == 64 && ok != within || ok && (!within || big.NewInt(int64(got)).Cmp(x) != 0) {
			t.Fatalf("%d x %d x %d + %d, up to %d: %d, %t; exactly %v, %t", a, b, c, d, to, got, ok, x, within)
		}
		bytes, ok := Of(a).Bytes().Int()
		if want := a <= Max && a%8 == 0; bits.UintSize == 64 && ok != want || ok && uint64(bytes) != a/8 {
			t.Fatalf("%d bits are %d bytes, %t", a, bytes, ok)
		}
	})
}

func TestNegativeNumbersAreNoSizes(t *testing.T) {
	for _, s := range []Size{Of(-1), Of(int64(-1) << 63), Product(2, -3), Product(0, -1), Of(3).Add(Of(-3)), Of(-1).Up(64)} {
		if n, ok := s.Int(); ok {
			t.Errorf("there is a size %d", n)
		}
	}
}
