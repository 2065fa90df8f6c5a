package graphs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/loader"
)

// WithWeights reads the leaves of graphs whose names a source has from it. Of several sources the first that has a name
// gives the weight. Sources must stay open as long as the runtime.
func WithWeights(s ...loader.Source) Option {
	return option(func(o *options) { o.sources = append(o.sources, s...) })
}

// WithModel is WithWeights of a model folder, of any class: names are a component's name, a dot and a checkpoint key
// ("unet.conv_in.weight"). Weights of a component that cannot be opened are an
// error where a leaf is named after them.
func WithModel(m *loader.Model) Option {
	return option(func(o *options) {
		o.sources = append(o.sources, m)
		o.models = append(o.models, m)
	})
}

// openModels reads the headers of all weights of the models, which says what is wrong with them.
func (o *options) openModels() error {
	for _, s := range o.sources {
		if s == nil {
			return errors.New("a source of weights is nil")
		}
	}
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

// unread is the reason why a leaf is no weight although its name begins with a component's: the component's weights
// cannot be opened.
func (o *options) unread(p *program.Program) error {
	for _, v := range p.Values {
		name, _, _ := strings.Cut(v.Name, ".")
		for _, m := range o.models {
			c, err := m.Component(name)
			if v.Kind != program.Input || err != nil {
				continue
			}
			var e *loader.Error
			if _, err := c.Weights(); errors.As(err, &e) && e.Got != "no weights" {
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
