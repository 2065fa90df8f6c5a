package graphs

import (
	"context"
	"errors"
	"fmt"

	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/loader"
)

// WithWeights reads the leaves of graphs whose names a source has from it. Of several sources the first that has a name
// gives the weight. Sources must stay open as long as the runtime.
func WithWeights(s ...loader.Source) Option {
	return func(o *options) { o.sources = append(o.sources, s...) }
}

// WithModel is WithWeights of a model folder, of any class: names are a component's name, a dot and a checkpoint key
// ("unet.conv_in.weight"). All of its weights must be readable.
func WithModel(m *loader.Model) Option {
	return func(o *options) {
		o.sources = append(o.sources, m)
		o.models = append(o.models, m)
	}
}

// openModels reads the headers of all weights of the models, which says what is wrong with them.
func (o *options) openModels() error {
	for _, m := range o.models {
		if m == nil {
			return errors.New("the model is nil")
		}
		for _, c := range m.Components() {
			if !c.HasWeights() {
				continue
			}
			if _, err := c.Weights(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sources are where weights come from. They are a program.Source.
type sources []loader.Source

func (s sources) find(name string) (loader.Source, loader.TensorInfo) {
	for _, src := range s {
		if info, ok := src.Info(name); ok {
			return src, info
		}
	}
	return nil, loader.TensorInfo{}
}

// Stored implements program.Source.
func (s sources) Stored(name string) ([]int, dtype.Type, bool) {
	src, info := s.find(name)
	return info.Shape, info.DType, src != nil
}

// ReadTensor implements program.Source.
func (s sources) ReadTensor(ctx context.Context, name string, dst []byte) error {
	src, _ := s.find(name)
	if src == nil {
		return fmt.Errorf("no source has the weight %s", name)
	}
	return src.ReadTensor(ctx, name, dst)
}
