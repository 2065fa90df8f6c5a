package golden

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/euryale-ml/euryale/internal/torchrand"
)

// Model is a case of make_models.py: a small model and what the reference made of inputs.
type Model struct {
	Name    string
	Config  json.RawMessage
	Weights map[string][]int // shapes by name
	Inputs  map[string]Tensor
	Outputs map[string]Tensor

	mu   sync.Mutex
	seen map[string]bool
}

// Models reads testdata/name.json.gz of the package under test.
func Models(t testing.TB, name string) (models []*Model) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err == nil {
		err = json.NewDecoder(z).Decode(&models)
	}
	if err != nil {
		t.Fatal(err)
	}
	return models
}

// Shape makes a Model the params of a scope. It remembers which weights were asked for.
func (m *Model) Shape(name string) ([]int, string, error) {
	shape, ok := m.Weights[name]
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = map[string]bool{}
	}
	m.seen[name] = true
	return shape, m.Name, nil
}

// Unused are the weights that the reference has and that no scope has asked for.
func (m *Model) Unused() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.Weights)) {
		if !m.seen[name] {
			names = append(names, name)
		}
	}
	return names
}

// UnmarshalJSON reads a tensor as make_models.py writes it: its numbers, or the seed of torch.randn that gives them.
func (x *Tensor) UnmarshalJSON(raw []byte) error {
	var from struct {
		Shape  []int
		Seed   uint64
		Values []float32
		F32    string
	}
	if err := json.Unmarshal(raw, &from); err != nil {
		return err
	}
	x.Shape = from.Shape
	n := 1
	for _, d := range x.Shape {
		n *= d
	}
	switch {
	case from.Seed > 0:
		x.F32 = Randn(from.Seed, n)
	case from.F32 != "":
		data, err := base64.StdEncoding.DecodeString(from.F32)
		if err != nil {
			return err
		}
		for ; len(data) >= 4; data = data[4:] {
			x.F32 = append(x.F32, math.Float32frombits(binary.LittleEndian.Uint32(data)))
		}
	default:
		x.F32 = from.Values
		for _, v := range x.F32 {
			x.IDs = append(x.IDs, int32(v))
		}
	}
	if len(x.F32) != n {
		return fmt.Errorf("a tensor of shape %v has %d numbers", x.Shape, len(x.F32))
	}
	return nil
}

// ChannelsLast is a tensor [B C H W] as [B H W C]; of another rank it is as it was.
func (x Tensor) ChannelsLast() []float32 {
	if len(x.Shape) != 4 {
		return x.F32
	}
	c, n := x.Shape[1], x.Shape[2]*x.Shape[3]
	out := make([]float32, len(x.F32))
	for i, v := range x.F32 {
		out[(i/(c*n)*n+i%n)*c+i/n%c] = v
	}
	return out
}

// Randn is torch.randn(n) of a generator with a seed.
func Randn(seed uint64, n int) []float32 {
	x := make([]float32, n)
	torchrand.New(seed).Randn(x)
	return x
}

// Weight gives the values that a weight of a made model has, by its checkpoint name: the rule of make_matrix.py, under
// which activations stay about as large as they are.
func Weight(name string, shape []int) []float32 {
	n, inner := 1, 1
	for i, d := range shape {
		n *= d
		if i > 0 {
			inner *= d
		}
	}
	v := Randn(uint64(crc32.ChecksumIEEE([]byte(name))), n)
	table := strings.Contains(name, "embedding") && !strings.Contains(name, "time") && !strings.Contains(name, "add")
	root := float32(math.Sqrt(float64(inner)))
	for i := range v {
		switch {
		case table && len(shape) == 2:
			v[i] *= 0.5
		case len(shape) > 1:
			v[i] /= root
		case strings.HasSuffix(name, "weight"):
			v[i] = 0.1*v[i] + 1
		default:
			v[i] *= 0.1
		}
	}
	return v
}
