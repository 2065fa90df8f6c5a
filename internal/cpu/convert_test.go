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
