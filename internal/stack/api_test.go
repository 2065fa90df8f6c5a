package stack_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/textenc"
	"github.com/euryale-ml/euryale/unet"
	"github.com/euryale-ml/euryale/vae"
	G "gorgonia.org/gorgonia"
)

// failure is one way in which a public function fails.
type failure struct {
	call  func(t *testing.T) error
	arose string // a function that the stack has: where the error arose
	as    any    // what errors.As finds, nil if the error has no type
	is    error  // what errors.Is finds
}

var ofModel = new(*loader.Error)

// failures has a row for each public function that returns an error, and answers those whose error is one.
var failures = map[string]failure{
	"loader.Open": {func(t *testing.T) error {
		_, err := loader.Open(filepath.Join(t.TempDir(), "none"))
		return err
	}, "loader.openDir", ofModel, fs.ErrNotExist},
	"loader.OpenFS": {func(*testing.T) error {
		_, err := loader.OpenFS(fstest.MapFS{})
		return err
	}, "loader.openFile", ofModel, fs.ErrNotExist},
	"loader.OpenFile": {func(t *testing.T) error {
		_, err := loader.OpenFile(t.TempDir())
		return err
	}, "loader.openFile", ofModel, nil},
	"loader.Model.Component": {func(t *testing.T) error {
		_, err := model(t).Component("unet")
		return err
	}, "loader.(*Model).Component", ofModel, nil},
	"loader.Model.OpenWeights": {func(t *testing.T) error {
		m, err := loader.OpenFS(fstest.MapFS{"model_index.json": index,
			"net/model.safetensors": file("\x08\x00\x00\x00\x00\x00\x00\x00{\"x\":{}}")})
		if err != nil {
			t.Fatal(err)
		}
		return m.OpenWeights()
	}, "loader.", ofModel, nil},
	"loader.Model.ReadTensor": {func(t *testing.T) error {
		return model(t).ReadTensor(context.Background(), "net.none", nil)
	}, "loader.(*Weights).ReadTensor", ofModel, nil},
	"loader.Model.Close": {func(t *testing.T) error {
		m := model(t)
		if err := m.ReadTensor(context.Background(), "net.x", make([]byte, 8)); err != nil { // opens the weights
			t.Fatal(err)
		}
		return m.Close()
	}, "loader.(*Model).Close", nil, errClose},
	"loader.Component.Config": {func(t *testing.T) error {
		_, _, err := component(t).Config()
		return err
	}, "loader.(*Model).readJSON", ofModel, nil},
	"loader.Component.File": {func(t *testing.T) error {
		_, err := component(t).File("none")
		return err
	}, "loader.openFile", ofModel, fs.ErrNotExist},
	"loader.Component.TokenizerFile": {func(t *testing.T) error {
		_, err := component(t).TokenizerFile("none")
		return err
	}, "loader.openFile", ofModel, fs.ErrNotExist},
	"loader.Component.Weights": {func(t *testing.T) error {
		m, err := loader.OpenFS(fstest.MapFS{"model_index.json": index,
			"net/model.safetensors": file("\x08\x00\x00\x00\x00\x00\x00\x00{\"x\":{}}")})
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.Component("net")
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Weights()
		return err
	}, "loader.entry", ofModel, nil},
	"loader.Weights.ReadTensor": {func(t *testing.T) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return weights(t).ReadTensor(ctx, "x", make([]byte, 8))
	}, "loader.(*Weights).ReadTensor", nil, context.Canceled},
	"loader.Weights.Shape": {func(t *testing.T) error {
		_, _, err := weights(t).Shape("ids")
		return err
	}, "loader.(*Weights).Shape", ofModel, nil},
	"loader.Values.ReadTensor": {func(*testing.T) error {
		return loader.Values{}.ReadTensor(context.Background(), "x", nil)
	}, "loader.Values.ReadTensor", nil, nil},
	"loader.ReadFloat32": {func(*testing.T) error {
		_, err := loader.ReadFloat32(context.Background(), loader.Values{}, "x")
		return err
	},
		"loader.ReadFloat32", ofModel, fs.ErrNotExist},
	"loader.WriteSafetensors": {func(*testing.T) error {
		return loader.WriteSafetensors(io.Discard, map[string]loader.Tensor{"x": {Shape: []int{2}}})
	}, "loader.WriteSafetensors", nil, nil},

	"layers.Flow.Node": {func(*testing.T) error {
		_, err := scope().On(leaf(1, 2)).Add(scope().On(leaf(1, 3))).Node()
		return err
	},
		"layers.Flow.Add", nil, nil},
	"layers.Scope.Err": {func(*testing.T) error {
		s := layers.NewScope(graph, "net", none{})
		s.Weight("w", 1)
		return s.Err()
	}, "layers.Scope.Weight", ofModel, nil},
	"layers.Misfits.Err": {func(*testing.T) error {
		m := layers.Misfits{Params: layers.Declared{"w": {3}}, File: "config.json"}
		m.Dim("width", 4, "w", 0)
		return m.Err()
	}, "layers.(*Misfits).Err", ofModel, nil},
	"layers.ResBlock": {func(*testing.T) error {
		_, err := layers.ResBlock(scope(), layers.ResBlockConfig{Out: 5, Groups: 2}, leaf(1, 2, 2, 4), nil)
		return err
	}, "layers.ResBlock", nil, nil},
	"layers.NonFinite": {func(*testing.T) error {
		_, err := layers.NonFinite(scope(), leaf(1), leaf(1, 2))
		return err
	}, "layers.NonFinite", nil, nil},
	"layers.ScaleModelInput": {func(*testing.T) error {
		_, err := layers.ScaleModelInput(scope(), leaf(1), leaf(1), 1, 1)
		return err
	}, "layers.ScaleModelInput", nil, nil},
	"layers.SchedulerStep": {func(*testing.T) error {
		_, err := layers.SchedulerStep(scope(), leaf(1), leaf(1), leaf(1), nil, 1)
		return err
	}, "layers.SchedulerStep", nil, nil},

	"unet.ParseConfig": {func(*testing.T) error {
		_, err := unet.ParseConfig("c", []byte(`{"act_fn": 1}`))
		return err
	}, "unet.ParseConfig", ofModel, nil},
	"unet.Config.Explain": {func(*testing.T) error {
		return unet.Config{}.Explain(layers.Declared{"down_blocks.0.resnets.0.conv1.weight": nil})
	}, "unet.Config.Explain", ofModel, nil},
	"unet.Build": {func(t *testing.T) error {
		s := layers.NewScope(G.NewGraph(), "unet", none{})
		_, err := unet.Build(s, unetConfig(t), unet.NewInputs(s, unetConfig(t), 1, 4, 4, 3))
		return err
	}, "unet.timeEmbedding", ofModel, nil},
	"unet.BuildWith": {func(t *testing.T) error {
		s := scope()
		_, err := unet.BuildWith(s, unetConfig(t), unet.NewInputs(s, unetConfig(t), 1, 4, 4, 3),
			unet.Seams{Attention: func(unet.Attention) (*G.Node, error) { return nil, errClose }})
		return err
	}, "unet.builder.attend", nil, errClose},
	"unet.Attention.Build": {func(*testing.T) error {
		_, err := unet.Attention{Scope: scope(), X: leaf(1, 2, 2, 4), Heads: 3}.Build()
		return err
	}, "layers.SelfAttention", nil, nil},
	"unet.Config.ResidualShapes": {func(t *testing.T) error {
		cfg := unetConfig(t)
		cfg.NormGroups = 3
		_, err := cfg.ResidualShapes(1, 4, 4)
		return err
	}, "unet.builder.res", nil, nil},

	"vae.ParseConfig": {func(*testing.T) error {
		_, err := vae.ParseConfig("c", []byte(`{"act_fn": 1}`))
		return err
	}, "vae.ParseConfig", ofModel, nil},
	"vae.Config.Explain": {func(*testing.T) error {
		return vae.Config{}.Explain(layers.Declared{"post_quant_conv.weight": nil})
	}, "vae.Config.Explain", ofModel, nil},
	"vae.Decode": {func(*testing.T) error {
		_, err := vae.Decode(scope(), vaeConfig(), leaf(1, 2, 2, 4))
		return err
	}, "vae.builder.mid", nil, nil},
	"vae.Encode": {func(*testing.T) error {
		_, err := vae.Encode(layers.NewScope(G.NewGraph(), "vae", none{}), vaeConfig(), leaf(1, 2, 2, 4))
		return err
	}, "vae.Encode", nil, nil},
	"vae.Tiles.Each": {func(*testing.T) error {
		return tiles.Each(1, 1, func(int, int, int, int) error { return errClose })
	}, "vae.Tiles.Each", nil, errClose},
	"vae.Tiles.Decode": {func(*testing.T) error {
		return tiles.Decode(nil, make([]float32, 1), 1, 1, 1,
			func([]float32, int, int) ([]float32, error) { return nil, errClose })
	}, "vae.Tiles.Each", nil, errClose},

	"textenc.ParseConfig": {func(*testing.T) error {
		_, err := textenc.ParseConfig("c", []byte(`{"hidden_size": 1.5}`))
		return err
	}, "textenc.ParseConfig", ofModel, nil},
	"textenc.Config.Explain": {func(*testing.T) error {
		return textenc.Config{ProjectionDim: 2}.Explain(layers.Declared{"text_projection.weight": {1, 1}})
	}, "textenc.Config.Explain", ofModel, nil},
	"textenc.Build": {func(*testing.T) error {
		s := scope()
		_, _, err := textenc.Build(s, textenc.Config{}, textenc.NewInputs(s, 1, 1, false), textenc.Options{Skip: 1})
		return err
	}, "textenc.Build", nil, nil},
	"textenc.NewTokenizer": {func(*testing.T) error {
		_, err := textenc.NewTokenizer(textenc.TokenizerFiles{Dir: "tok"})
		return err
	}, "internal/hftokenizer.(*Tokenizer).loadPython", ofModel, fs.ErrNotExist},
	"textenc.Tokenizer.CheckRows": {func(t *testing.T) error {
		return tokenizer(t).CheckRows(1)
	}, "textenc.(*Tokenizer).CheckRows", ofModel, nil},
	"textenc.Tokenizer.Encode": {func(t *testing.T) error {
		_, err := tokenizer(t).Encode("\xff")
		return err
	}, "textenc.(*Tokenizer).Encode", nil, nil},
}

// exempt are functions without a row.
var exempt = map[string]string{
	"loader.Tiny":           "the embedded model opens",
	"loader.File.Close":     "only a disk makes it fail",
	"layers.Declared.Shape": "fs.ErrNotExist is its answer: a scope asks for each weight",
}

// Every public function of these packages says with %+v where its error arose, and is else the error that it was.
func TestPublicErrors(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(failures)) {
		t.Run(name, func(t *testing.T) {
			f := failures[name]
			err := f.call(t)
			if err == nil {
				t.Fatal("no error")
			}
			short, long := fmt.Sprintf("%v", err), fmt.Sprintf("%+v", err)
			if short != err.Error() || strings.Contains(short, ".go:") || fmt.Sprintf("%s", err) != short {
				t.Errorf("%%v prints %q", short)
			}
			if !strings.Contains(long, "/euryale/"+f.arose) || strings.Count(long, "runtime.goexit") != 1 {
				t.Errorf("%%+v has no stack, or more than one, or it is not of %s:\n%s", f.arose, long)
			}
			if f.as != nil && !errors.As(err, f.as) {
				t.Errorf("%v is no %T", err, f.as)
			}
			if f.is != nil && !errors.Is(err, f.is) {
				t.Errorf("%v is not %v", err, f.is)
			}
		})
	}
	// An answer, and no failure: a scope asks for every weight.
	if _, _, err := weights(t).Shape("none"); err != fs.ErrNotExist {
		t.Errorf("a weight that is not there: %v", err)
	}
}

// There is a row for each function.
func TestPublicErrorsAreAllOfThem(t *testing.T) {
	for _, pkg := range []string{"loader", "layers", "unet", "vae", "textenc", "graphs", "pipeline"} {
		names := public(t, pkg)
		if len(names) < 5 {
			t.Errorf("%s has %d functions that return errors", pkg, len(names))
		}
		for _, name := range names {
			if _, ok := failures[name]; !ok && exempt[name] == "" {
				t.Errorf("%s returns an error: add a row for a way in which it fails", name)
			}
		}
	}
}

// public lists the exported functions and methods of a package that return an error.
func public(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !fn.Name.IsExported() || fn.Type.Results == nil {
				continue
			}
			name := fn.Name.Name
			if fn.Recv != nil {
				of := fn.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				id, ok := of.(*ast.Ident)
				if !ok || !id.IsExported() {
					continue
				}
				name = id.Name + "." + name
			}
			last := fn.Type.Results.List[len(fn.Type.Results.List)-1]
			if id, ok := last.Type.(*ast.Ident); ok && id.Name == "error" {
				names = append(names, pkg+"."+name)
			}
		}
	}
	return names
}
