package unet_test

import (
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/unet"
	G "gorgonia.org/gorgonia"
)

// The network that perturbed-attention guidance compares the model's own with: in the middle block each position
// attends to itself alone.
func ExampleSeams() {
	cfg, err := unet.ParseConfig("config.json", []byte(`{"block_out_channels": [32, 64], "cross_attention_dim": 16,
		"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}`))
	if err != nil {
		panic(err)
	}
	s := layers.NewScope(G.NewGraph(), "unet", layers.Declared{}) // or the weights of a model folder
	in := unet.NewInputs(s, cfg, 1, 8, 8, 77)
	perturbed, err := unet.BuildWith(s, cfg, in, unet.Seams{Attention: func(a unet.Attention) (*G.Node, error) {
		if a.Context != nil || !strings.HasPrefix(a.Name, "mid_block.") {
			return a.Build()
		}
		c := a.X.Shape()[3]
		return a.Scope.On(a.X).LinearNoBias("to_v", c).Linear("to_out.0", c).Node()
	}})
	if err != nil {
		panic(err)
	}
	fmt.Println(perturbed.Shape())
	// Output: (1, 8, 8, 4)
}
