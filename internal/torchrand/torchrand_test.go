package torchrand

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// testdata/randn.json holds what torch 2.7.1 gives, made by internal/golden/make_golden.py: for calls of the
// listed sizes one after the other, the bits of the first numbers and the hash of all.
func TestRandnBits(t *testing.T) {
	raw, err := os.ReadFile("testdata/randn.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Seed   uint64 `json:"seed,string"`
		Sizes  []int
		First  []uint32
		SHA256 string
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		g := New(c.Seed)
		var all bytes.Buffer
		for i, n := range c.Sizes {
			x := make([]float32, n)
			g.Randn(x)
			if i == 0 {
				for j, want := range c.First {
					if got := math.Float32bits(x[j]); got != want {
						t.Errorf("seed %d, sizes %v: number %d is %g, torch's is %g", c.Seed, c.Sizes, j, x[j], math.Float32frombits(want))
					}
				}
			}
			binary.Write(&all, binary.LittleEndian, x)
		}
		if sum := sha256.Sum256(all.Bytes()); hex.EncodeToString(sum[:]) != c.SHA256 {
			t.Errorf("seed %d, sizes %v: the bits differ from torch's", c.Seed, c.Sizes)
		}
	}
}
