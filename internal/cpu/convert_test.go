package cpu

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/euryale-ml/euryale/internal/dtype"
)

// Numbers of all kinds become what package dtype says, to the bit: ties, subnormals, what overflows, infinities, NaN.
func TestConvert(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var x []byte
	for h := range 1 << 16 { // every 16-bit number of both types, and what lies halfway to the next
		f := math.Float32bits(dtype.F16ToF32(uint16(h)))
		for _, b := range []uint32{f, f + 0xfff, f + 0x1000, f + 0x1001, uint32(h) << 16, uint32(h)<<16 | 0x7fff, uint32(h)<<16 | 0x8000, uint32(h)<<16 | 0x8001} {
			x = binary.LittleEndian.AppendUint32(x, b)
		}
	}
	for range 100003 {
		x = binary.LittleEndian.AppendUint32(x, rng.Uint32())
	}
	n := len(x) / 4
	for _, k := range twins() {
		p := &Pool{k: k, threads: 1}
		for _, half := range []dtype.Type{dtype.F16, dtype.BF16} {
			got, want := make([]byte, 2*n), make([]byte, 2*n)
			p.Convert(got, half, x, dtype.F32)
			dtype.Convert(want, half, x, dtype.F32)
			if i := differ(got, want, 2); i >= 0 {
				t.Errorf("%s: %08x becomes %v %04x, want %04x", k.name, binary.LittleEndian.Uint32(x[4*i:]), half, got[2*i:2*i+2], want[2*i:2*i+2])
			}
			back, exact := make([]byte, 4*n), make([]byte, 4*n)
			p.Convert(back, dtype.F32, want, half)
			dtype.Convert(exact, dtype.F32, want, half)
			if i := differ(back, exact, 4); i >= 0 {
				t.Errorf("%s: %v %04x becomes %08x, want %08x", k.name, half, want[2*i:2*i+2], back[4*i:4*i+4], exact[4*i:4*i+4])
			}
		}
	}
}

// differ is the first element of a size in which two slices differ, or -1.
func differ(a, b []byte, size int) int {
	for i := 0; i < len(a); i += size {
		if !bytes.Equal(a[i:i+size], b[i:i+size]) {
			return i / size
		}
	}
	return -1
}

// A filter's channels come together, whatever type it had and gets.
func TestTaps(t *testing.T) {
	const out, in, taps = 3, 300, 9
	x := make([]byte, 4*out*in*taps)
	for i := range out * in * taps {
		binary.LittleEndian.PutUint32(x[4*i:], math.Float32bits(float32(i%2039)))
	}
	p := NewPool(2)
	defer p.Close()
	for _, from := range []dtype.Type{dtype.F32, dtype.F16, dtype.BF16} {
		for _, to := range []dtype.Type{dtype.F32, dtype.F16, dtype.BF16} {
			src, dst, got := make([]byte, len(x)/4*from.Size()), make([]byte, len(x)/4*to.Size()), make([]byte, len(x))
			dtype.Convert(src, from, x, dtype.F32)
			p.Taps(dst, to, src, from, out, in, taps)
			dtype.Convert(got, dtype.F32, dst, to)
			for o := range out {
				for c := range in {
					for tap := range taps {
						var want float32
						for _, t := range []dtype.Type{from, to} { // both roundings
							b, f := make([]byte, 4), make([]byte, 4)
							v := want
							if t == from {
								v = float32(((o*in+c)*taps + tap) % 2039)
							}
							dtype.FromF32(b, t, []float32{v})
							dtype.Convert(f, dtype.F32, b[:t.Size()], t)
							want = math.Float32frombits(binary.LittleEndian.Uint32(f))
							if from == to {
								break
							}
						}
						i := (o*taps+tap)*in + c
						if v := math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:])); v != want {
							t.Fatalf("%v to %v: filter %d, tap %d, channel %d is %g, want %g", from, to, o, tap, c, v, want)
						}
					}
				}
			}
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	p := NewPool(0)
	defer p.Close()
	x, y := make([]byte, 4<<20), make([]byte, 2<<20)
	for _, c := range []struct {
		name     string
		dst, src []byte
		to, from dtype.Type
	}{{"to=F16", y, x, dtype.F16, dtype.F32}, {"to=BF16", y, x, dtype.BF16, dtype.F32}, {"from=F16", x, y, dtype.F32, dtype.F16}} {
		for _, form := range []string{"pool", "definition"} {
			b.Run(c.name+"/form="+form, func(b *testing.B) {
				b.SetBytes(int64(len(c.src)))
				for b.Loop() {
					if form == "pool" {
						p.Convert(c.dst, c.to, c.src, c.from)
					} else {
						dtype.Convert(c.dst, c.to, c.src, c.from)
					}
				}
			})
		}
	}
}
