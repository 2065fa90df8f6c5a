// Package golden reads the golden files that make_golden.py and make_models.py wrote with diffusers on PyTorch.
package golden

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Tensor is one result. Numbers of any stored type are float32 here, but token ids.
type Tensor struct {
	Shape []int
	F32   []float32
	IDs   []int32
}

// Dir is where the golden files and model folders are: in the folder EURYALE_GOLDEN names, where a test runs away from
// its source.
func Dir() string {
	if dir := os.Getenv("EURYALE_GOLDEN"); dir != "" {
		return dir
	}
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "testdata")
}

// Load reads testdata/name.safetensors.
func Load(t testing.TB, name string) map[string]Tensor {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(Dir(), name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	n := 8 + binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		DType   string
		Shape   []int
		Offsets [2]uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw[8:n], &header); err != nil {
		t.Fatal(err)
	}
	out := map[string]Tensor{}
	for key, h := range header {
		data := raw[n+h.Offsets[0] : n+h.Offsets[1]]
		r := Tensor{Shape: h.Shape}
		switch h.DType {
		case "F32":
			for ; len(data) > 0; data = data[4:] {
				r.F32 = append(r.F32, math.Float32frombits(binary.LittleEndian.Uint32(data)))
			}
		case "I64":
			for ; len(data) > 0; data = data[8:] {
				r.IDs = append(r.IDs, int32(binary.LittleEndian.Uint64(data)))
			}
		case "U8":
			for _, b := range data {
				r.F32 = append(r.F32, float32(b))
			}
		default:
			t.Fatalf("%s: %s is %s", name, key, h.DType)
		}
		out[key] = r
	}
	return out
}

// Manifest reads testdata/name.json into v.
func Manifest(t testing.TB, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(Dir(), name+".json"))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// RelL2 is |got-want| / |want|. It is infinite for other lengths and NaN where either has one.
func RelL2(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var d, n float64
	for i := range got {
		e := float64(got[i]) - float64(want[i])
		d += e * e
		n += float64(want[i]) * float64(want[i])
	}
	if d == 0 {
		return 0
	}
	return math.Sqrt(d / n)
}
