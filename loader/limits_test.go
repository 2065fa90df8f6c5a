package loader

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Every limit is one: what it just allows is read, and what is one more is refused in its name.
func TestLimits(t *testing.T) {
	const index = "unet/model.safetensors.index.json"
	meta := `{"__metadata__":{"a":"bcd"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8],"x":[[]]}}`
	two := `{"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}`
	single := map[string]string{"unet/model.safetensors": string(container(meta, 8))}
	sharded := map[string]string{index: two, "unet/a.safetensors": string(container(one, 8)),
		"unet/b.safetensors": string(container(strings.Replace(one, `"w"`, `"v"`, 1), 8))}
	small := map[string]string{"unet/config.json": `{"a": [[0]]}`, "unet/vocab.json": `{"a": 0}`}
	config := func(m *Model) error { c, _ := m.Component("unet"); _, _, err := c.Config(); return err }
	tokenizer := func(m *Model) error { c, _ := m.Component("unet"); _, err := c.TokenizerFile("vocab.json"); return err }
	weights := func(m *Model) error { c, _ := m.Component("unet"); _, err := c.Weights(); return err }
	for _, c := range []struct {
		name  string
		least int // that is enough
		set   func(l *Limits, n int)
		files map[string]string
		use   func(*Model) error
	}{
		{"Header", len(meta), func(l *Limits, n int) { l.Header = int64(n) }, single, weights},
		{"Name", 4, func(l *Limits, n int) { l.Name = n }, map[string]string{"unet/model.safetensors": string(container(strings.Replace(one, "w", "abcd", 1), 8))}, weights},
		{"Tensors", 2, func(l *Limits, n int) { l.Tensors = n }, sharded, weights},
		{"Rank", 2, func(l *Limits, n int) { l.Rank = n }, single, weights},
		{"TensorBytes", 8, func(l *Limits, n int) { l.TensorBytes = int64(n) }, single, weights},
		{"Metadata", 4, func(l *Limits, n int) { l.Metadata = n }, single, weights},
		{"Nesting", 2, func(l *Limits, n int) { l.Nesting = n }, single, weights},
		{"Nesting", 3, func(l *Limits, n int) { l.Nesting = n }, small, config},
		{"Shards", 2, func(l *Limits, n int) { l.Shards = n }, sharded, weights},
		{"Index", len(two), func(l *Limits, n int) { l.Index = int64(n) }, sharded, weights},
		{"Config", 67, func(l *Limits, n int) { l.Config = int64(n) }, map[string]string{"unet/config.json": `{"a": "` + strings.Repeat("a", 58) + `"}`}, config},
		{"Tokenizer", 8, func(l *Limits, n int) { l.Tokenizer = int64(n) }, small, tokenizer},
	} {
		t.Run(fmt.Sprint(c.name, c.least), func(t *testing.T) {
			for _, n := range []int{c.least, c.least - 1} {
				var l Limits
				c.set(&l, n)
				fsys := folder(c.files)
				fsys["model_index.json"].Data = []byte(`{"_class_name": "P", "unet": ["diffusers", "UNet2D"]}`)
				m, err := OpenFS(fsys, WithLimits(l))
				if err == nil {
					err = c.use(m)
				}
				switch {
				case n == c.least && err != nil:
					t.Errorf("%d: %v", n, err)
				case n < c.least && (!errors.As(err, new(*Error)) || !strings.Contains(err.Error(), fmt.Sprintf("at most %d, the limit %s", n, c.name))):
					t.Errorf("%d: %v", n, err)
				}
			}
		})
	}
}

func TestLimitsThatAreNotSetKeepTheirDefaults(t *testing.T) {
	m, err := OpenFS(folder(nil), WithLimits(Limits{Shards: 7, Header: 1 << 40}))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultLimits()
	want.Shards, want.Header = 7, headerCeiling
	if got := m.Components()[0].Limits(); got != want {
		t.Errorf("limits %+v, want %+v", got, want)
	}
}
