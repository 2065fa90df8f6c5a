package pipeline_test

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"image"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/torchrand"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// matrixCase is a folder that make_matrix.py made, and what diffusers said to it: the upper left corner of the
// latents and of the picture, or why it refused.
type matrixCase struct {
	Name    string
	Files   map[string]string // path: hash of the content
	Weights map[string]struct{ Type, Header string }

	Scheduler string
	Arguments json.RawMessage
	Refused   string
	Shape     []int
	Latents   []byte // float32
	Pixels    []byte
}

type matrix struct {
	Files map[string]string // by hash
	Cases []matrixCase
}

func readMatrix(t testing.TB) (m matrix) {
	t.Helper()
	f, err := os.Open(filepath.Join(golden.Dir(), "matrix.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

// sample is how many folders there are to one that is tried.
func sample() int {
	switch {
	case testing.Short():
		return 64
	case bounded.Full():
		return 1
	}
	return 8
}

// Every folder of the matrix gives what it gives with diffusers, or is refused by a sentence that a table lists.
func TestFoldersOfEveryKind(t *testing.T) {
	m := readMatrix(t)
	if len(m.Cases) < 1000 {
		t.Fatalf("%d folders, want 1,000", len(m.Cases))
	}
	w := &madeWeights{values: map[string][]float32{}}
	used := map[string]bool{}
	for i, c := range m.Cases {
		if every := sample(); i%every != 0 {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			res, err := c.draw(m, w)
			sentence, listed := lookUp(c.Name)
			used[sentence.cases] = true
			switch {
			case errors.As(err, new(*graphs.PanicError)):
				t.Fatal(err)
			case err == nil && c.Refused == "" && !listed:
				c.compare(t, res)
			case err == nil && !sentence.runs:
				t.Errorf("runs; diffusers: %s", c.Refused)
			case err == nil:
			case sentence.runs || listed && !strings.Contains(err.Error(), sentence.want):
				t.Errorf("refused: %v\nwant %q", err, sentence.want)
			case listed:
			case c.Refused == "":
				t.Errorf("refused: %v\ndiffusers runs it", err)
			case !c.named(err):
				t.Errorf("refused, and the field is not named: %v\ndiffusers: %s", err, c.Refused)
			}
		})
	}
	if sample() > 1 {
		return
	}
	for _, s := range sentences {
		if !used[s.cases] {
			t.Errorf("no folder is %s", s.cases)
		}
	}
}

// named reports whether an error names the field that makes a folder odd: a word of the case's name with an
// underscore in it, or the name of a class.
func (c matrixCase) named(err error) bool {
	if errors.Is(err, graphs.ErrNonFinite) {
		return strings.Contains(c.Refused, "not finite")
	}
	if !errors.As(err, new(*loader.Error)) && !errors.As(err, new(*pipeline.RequestError)) {
		return false
	}
	for _, word := range strings.FieldsFunc(c.Name, func(r rune) bool { return strings.ContainsRune(" ,:\"", r) }) {
		if (strings.Contains(word, "_") || strings.Contains(word, "Pipeline") || strings.Contains(word, "Scheduler") ||
			strings.Contains(word, "Model")) && strings.Contains(err.Error(), word) {
			return true
		}
	}
	return c.explains(err)
}

// explains reports whether an error says what a case that names no field has.
func (c matrixCase) explains(err error) bool {
	for part, want := range map[string]string{
		"class absent": "_class_name", "class null": "_class_name", "another library": "a class of mylib", "no middle block": "mid_block_type",
		"text_time": "addition_time_embed_dim", "without a projection": "CLIPTextModelWithProjection", "nonsense": "_diffusers_version",
		"PNDM": "skip_prk_steps",
	} {
		if strings.Contains(c.Name, part) && strings.Contains(err.Error(), want) {
			return true
		}
	}
	return false
}

func (c matrixCase) draw(m matrix, w *madeWeights) (*pipeline.Result, error) {
	fsys := fstest.MapFS{}
	for path, hash := range c.Files {
		fsys[path] = &fstest.MapFile{Data: []byte(m.Files[hash])}
	}
	for path, f := range c.Weights {
		var shapes map[string][]int
		if err := json.Unmarshal([]byte(m.Files[f.Header]), &shapes); err != nil {
			return nil, err
		}
		fsys[path] = &fstest.MapFile{Data: w.file(f.Type, shapes)}
	}
	model, err := loader.OpenFS(fsys)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	p, err := pipeline.NewTextToImage(model, graphs.WithThreads(1))
	if err != nil {
		return nil, err
	}
	defer p.Close()
	a := arguments{Prompt: "a red circle", NumInferenceSteps: 3, GuidanceScale: 2}
	if err := json.Unmarshal(c.Arguments, &a); err != nil {
		return nil, err
	}
	r := a.request()
	if strings.Contains(string(c.Arguments), `"guidance_scale":0`) {
		r.GuidanceScale = 1 // zero is the default's here, and none in diffusers
	}
	r.Seed, r.Scheduler = pipeline.Seed(7), c.Scheduler
	return p.Generate(context.Background(), r)
}

func (c matrixCase) compare(t *testing.T, res *pipeline.Result) {
	t.Helper()
	want := make([]float32, len(c.Latents)/4)
	for i := range want {
		want[i] = math.Float32frombits(binary.LittleEndian.Uint32(c.Latents[4*i:]))
	}
	shape := res.Latents.Shape()
	got := res.Latents.Float32s()
	var corner []float32
	h, w := c.Shape[2], c.Shape[3]
	if shape[0] != c.Shape[0] || shape[1] != c.Shape[1] || min(shape[2], 16) != h || min(shape[3], 16) != w {
		t.Fatalf("latents are of shape %v, want %v", shape, c.Shape)
	}
	for n := range shape[0] * shape[1] {
		for y := range h {
			at := (n*shape[2] + y) * shape[3]
			corner = append(corner, got[at:at+w]...)
		}
	}
	if d := golden.RelL2(corner, want); !(d <= 1e-4) {
		t.Errorf("latents: relative L2 %g", d)
	}
	if len(c.Pixels) > 0 {
		comparePixels(t, res.Images[0], c.Pixels)
	}
}

func comparePixels(t *testing.T, img image.Image, want []byte) {
	t.Helper()
	side := min(16, img.Bounds().Dx(), img.Bounds().Dy())
	if len(want) != side*side*3 {
		t.Fatalf("%d bytes of pixels for a corner of %d pixels a side", len(want), side)
	}
	for i, v := range want {
		px := img.(*image.NRGBA).NRGBAAt(i/3%side, i/3/side)
		if d := int([...]uint8{px.R, px.G, px.B}[i%3]) - int(v); d < -1 || d > 1 {
			t.Fatalf("pixel %d: %v, want channel %d to be %d", i/3, px, i%3, v)
		}
	}
}

// madeWeights makes weights from their names, by the rule of make_matrix.py.
type madeWeights struct {
	mu     sync.Mutex
	values map[string][]float32
}

func (w *madeWeights) of(name string, shape []int) []float32 {
	key := name + string(must(json.Marshal(shape)))
	w.mu.Lock()
	defer w.mu.Unlock()
	if v, ok := w.values[key]; ok {
		return v
	}
	n, inner := 1, 1
	for i, d := range shape {
		n *= d
		if i > 0 {
			inner *= d
		}
	}
	v := make([]float32, n)
	torchrand.New(uint64(crc32.ChecksumIEEE([]byte(name)))).Randn(v)
	root := float32(math.Sqrt(float64(inner)))
	for i := range v {
		switch {
		case strings.Contains(name, "embedding") && len(shape) == 2 && !strings.Contains(name, "time") && !strings.Contains(name, "add"):
			v[i] *= 0.5
		case len(shape) > 1:
			v[i] /= root
		case strings.HasSuffix(name, "weight"):
			v[i] = 0.1*v[i] + 1
		default:
			v[i] *= 0.1
		}
	}
	w.values[key] = v
	return v
}

// file is a safetensors file.
func (w *madeWeights) file(stored string, shapes map[string][]int) []byte {
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header, data := map[string]entry{}, []byte{}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		shape, kind, at := shapes[name], stored, len(data)
		switch {
		case strings.HasSuffix(name, "position_ids"):
			kind = "I64"
			for i := range shape[len(shape)-1] {
				data = binary.LittleEndian.AppendUint64(data, uint64(i))
			}
		case strings.HasPrefix(name, "unused"):
			kind = "U8"
			data = append(data, make([]byte, shape[0])...)
		default:
			for _, v := range w.of(name, shape) {
				data = appendAs(data, kind, v)
			}
		}
		header[name] = entry{kind, shape, [2]int{at, len(data)}}
	}
	raw := must(json.Marshal(header))
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...), data...)
}

func appendAs(data []byte, kind string, v float32) []byte {
	switch kind {
	case "F16":
		return binary.LittleEndian.AppendUint16(data, dtype.F32ToF16(v))
	case "BF16":
		bits := math.Float32bits(v)
		return binary.LittleEndian.AppendUint16(data, uint16((bits+0x7fff+bits>>16&1)>>16))
	case "F64":
		return binary.LittleEndian.AppendUint64(data, math.Float64bits(float64(v)))
	}
	return binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
