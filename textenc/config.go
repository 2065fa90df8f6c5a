// Package textenc turns prompts into embeddings: CLIP's byte-pair tokenizer and its text transformer, as a
// Gorgonia graph. Structure and names are those of transformers 4.53.
package textenc

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/hfconfig"
	"github.com/euryale-ml/euryale/internal/stack"
)

// Config is the part of a transformers CLIPTextConfig that this package reads. Unknown keys are ignored; known
// keys with values that are not implemented are errors.
type Config struct {
	VocabSize     int // vocab_size
	Hidden        int // hidden_size
	Intermediate  int // intermediate_size
	Layers        int // num_hidden_layers
	Heads         int // num_attention_heads
	MaxPositions  int // max_position_embeddings
	ProjectionDim int // projection_dim
	Activation    string
	LayerNormEps  float32
	EOS           int  // eos_token_id: the position that is pooled
	UseMask       bool // use_attention_mask: padding is not attended to, in Stable Diffusion 1 and 2

	file string
}

// ParseConfig reads config.json and reports every problem at once. file is its name in errors.
func ParseConfig(file string, raw []byte) (Config, error) {
	// A folder may hold the config of all of CLIP, whose text_config is then read, as transformers does.
	c := hfconfig.Parse(file, raw).Within("text_config")
	c.Optional("projection_dim") // which only a model with a projection reads
	cfg := Config{
		VocabSize:     c.Int("vocab_size", 49408, 1, 1<<20),
		Hidden:        c.Int("hidden_size", 512, 1, 1<<14),
		Intermediate:  c.Int("intermediate_size", 2048, 1, 1<<16),
		Layers:        c.Int("num_hidden_layers", 12, 1, 256),
		Heads:         c.Int("num_attention_heads", 8, 1, 1<<10),
		MaxPositions:  c.Int("max_position_embeddings", 77, 2, 1<<14),
		ProjectionDim: c.Int("projection_dim", 512, 1, 1<<14),
		Activation:    c.String("hidden_act", "quick_gelu", "quick_gelu", "gelu"),
		LayerNormEps:  float32(c.Float("layer_norm_eps", 1e-5, 0, 1)),
		EOS:           c.Int("eos_token_id", 49407, 0, 1<<20),
		UseMask:       c.Bool("use_attention_mask", false),
		file:          file,
	}
	if cfg.Hidden%cfg.Heads != 0 {
		c.Bad("num_attention_heads", fmt.Sprint(cfg.Heads), fmt.Sprintf("a divisor of hidden_size %d", cfg.Hidden))
	}
	return cfg, stack.With(c.Err())
}

// PooledPosition is the position whose state stands for the whole text. Configs written before transformers
// 4.30 say eos_token_id 2 whatever the vocabulary; there it is the largest id, which is the end token's.
func (cfg Config) PooledPosition(ids []int32) int32 {
	best := 0
	for i, id := range ids {
		if cfg.EOS != 2 && int(id) == cfg.EOS {
			return int32(i)
		}
		if cfg.EOS == 2 && id > ids[best] {
			best = i
		}
	}
	return int32(best)
}
