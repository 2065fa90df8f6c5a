package pipeline_test

import (
	"context"
	"fmt"
	"log"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/scenes"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/offload"
	"github.com/euryale-ml/euryale/pipeline"
)

// A picture from a prompt, with the model embedded in the module.
func ExampleNewTextToImage() {
	m, err := loader.Tiny()
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	res, err := p.Generate(context.Background(), pipeline.Request{
		Prompt: "a red circle on a blue background", NumInferenceSteps: 20, Seed: pipeline.Seed(1),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Images[0].Bounds().Size(), scenes.Read(res.Images[0]))
	// Output: (64,64) {red circle blue}
}

// The same picture in a quarter of the memory: the strategy sees what will run and says where weights live.
func ExampleWithOffload() {
	m, err := loader.Tiny()
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m, graphs.WithOffload(offload.Auto(3<<20)))
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	res, err := p.Generate(context.Background(), pipeline.Request{
		Prompt: "a red circle on a blue background", NumInferenceSteps: 20, Seed: pipeline.Seed(1),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(scenes.Read(res.Images[0]), res.Offload.Peak <= 3<<20)
	// Output: {red circle blue} true
}
