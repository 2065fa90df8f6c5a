// Command merge draws with a mixture of two checkpoints: the embedded model, and the same with some noise in its
// UNet. The mixture is a source of weights that this program writes; nothing of the model is copied.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"strings"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// merged is a source: of each weight of the UNet that both have, (1-share) of a and share of b; all else is a's.
type merged struct {
	a, b  loader.Source
	share float32
}

func (m merged) Info(name string) (loader.TensorInfo, bool) {
	info, ok := m.a.Info(name)
	if ok && strings.HasPrefix(name, "unet.") { // mixed in float32
		n := int64(1)
		for _, d := range info.Shape {
			n *= int64(d)
		}
		info.DType, info.Bytes = loader.F32, 4*n
	}
	return info, ok
}

func (m merged) ReadTensor(ctx context.Context, name string, dst []byte) error {
	if !strings.HasPrefix(name, "unet.") {
		return m.a.ReadTensor(ctx, name, dst)
	}
	a, err := loader.ReadFloat32(ctx, m.a, name)
	if err != nil {
		return err
	}
	b, err := loader.ReadFloat32(ctx, m.b, name)
	if err != nil {
		return err
	}
	for i := range a {
		v := (1-m.share)*a[i] + m.share*b[i]
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
	}
	return nil
}

// noisy is a source whose weights are another's, each 2 % larger.
type noisy struct{ loader.Source }

func (n noisy) ReadTensor(ctx context.Context, name string, dst []byte) error {
	x, err := loader.ReadFloat32(ctx, n.Source, name)
	if err != nil {
		return err
	}
	for i := range x {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(1.02*x[i]))
	}
	return nil
}

func (n noisy) Info(name string) (loader.TensorInfo, bool) {
	info, ok := n.Source.Info(name)
	if ok {
		info.Bytes = info.Bytes / int64(info.DType.Size()) * 4
		info.DType = loader.F32
	}
	return info, ok
}

func main() {
	m, err := loader.Tiny()
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	draw := func(opts ...graphs.Option) []float32 {
		p, err := pipeline.NewTextToImage(m, opts...)
		if err != nil {
			log.Fatal(err)
		}
		defer p.Close()
		res, err := p.Generate(context.Background(), pipeline.Request{
			Prompt: "a red circle on a blue background", NumInferenceSteps: 4, Seed: pipeline.Seed(1),
		})
		if err != nil {
			log.Fatal(err)
		}
		return res.Latents.Float32s()
	}
	plain := draw()
	for _, share := range []float32{0, 0.5, 1} {
		mixed := draw(graphs.WithWeights(merged{m, noisy{m}, share}))
		fmt.Printf("%3.0f %% of the other: %s\n", 100*share, compare(plain, mixed))
	}
}

func compare(a, b []float32) string {
	var d, n float64
	for i := range a {
		d += math.Pow(float64(a[i]-b[i]), 2)
		n += math.Pow(float64(a[i]), 2)
	}
	if d == 0 {
		return "the same latents"
	}
	if math.Sqrt(d/n) < 0.5 {
		return "latents like them"
	}
	return "other latents"
}
