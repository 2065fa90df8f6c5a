package stack_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
)

var errClose = errors.New("an error of another's code")

func file(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }

var index = file(`{"_class_name": "Pipeline", "net": ["diffusers", "Net"]}`)

// badFS has files whose Close fails.
type badFS struct{ fstest.MapFS }

type badFile struct {
	fs.File
	*bytes.Reader
}

func (f badFile) Read(p []byte) (int, error) { return f.Reader.Read(p) }
func (f badFile) Close() error               { return errClose }

func (b badFS) Open(name string) (fs.File, error) {
	f, err := b.MapFS.Open(name)
	if err != nil || b.MapFS[name] == nil {
		return f, err
	}
	return badFile{f, bytes.NewReader(b.MapFS[name].Data)}, nil
}

// model is one of a component, net, with a tensor x of float32, and ids.
func model(t *testing.T) *loader.Model {
	t.Helper()
	header := []byte(`{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
		"ids": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]}}`)
	raw := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	m, err := loader.OpenFS(badFS{fstest.MapFS{
		"model_index.json": index, "net/config.json": file("{"),
		"net/model.safetensors": {Data: append(raw, make([]byte, 16)...)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func component(t *testing.T) *loader.Component {
	t.Helper()
	c, err := model(t).Component("net")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func weights(t *testing.T) *loader.Weights {
	t.Helper()
	w, err := component(t).Weights()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func tokenizer(t *testing.T) *textenc.Tokenizer {
	t.Helper()
	m, err := loader.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Component("tokenizer")
	if err != nil {
		t.Fatal(err)
	}
	f := textenc.TokenizerFiles{Dir: "tokenizer"}
	for name, to := range map[string]*[]byte{
		"vocab.json": &f.Vocab, "merges.txt": &f.Merges,
		"tokenizer_config.json": &f.TokenizerConfig, "special_tokens_map.json": &f.SpecialTokens,
	} {
		if *to, err = c.TokenizerFile(name); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := textenc.NewTokenizer(f)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// none is a checkpoint without weights.
type none struct{}

func (none) Shape(string) ([]int, string, error) { return nil, "", fs.ErrNotExist }

var graph = G.NewGraph()

// scope is of a model whose weights all exist.
func scope() layers.Scope { return layers.NewScope(graph, "net", layers.Declared{}) }

func leaf(shape ...int) *G.Node {
	return G.NewTensor(graph, G.Float32, len(shape), G.WithShape(shape...), G.WithName("x"))
}

func unetConfig(t *testing.T) unet.Config {
	t.Helper()
	cfg, err := unet.ParseConfig("config.json", []byte(`{"block_out_channels": [4, 8], "norm_num_groups": 2,
		"attention_head_dim": 2, "cross_attention_dim": 3, "layers_per_block": 1,
		"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
		"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}`))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// vaeConfig is one that no weights fit: groups do not divide channels.
func vaeConfig() vae.Config {
	return vae.Config{InChannels: 4, OutChannels: 4, LatentChannels: 4, BlockOutChannels: []int{4}, LayersPerBlock: 1,
		NormGroups: 3}
}

var tiles = vae.Config{OutChannels: 1, BlockOutChannels: []int{4}}.Tiles(8)
