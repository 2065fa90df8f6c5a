package loader

import "fmt"

// Limits bound what a model folder may ask for. A refusal names the limit. The format allows more; the defaults
// are far above any known model, and a field left 0 keeps its default.
type Limits struct {
	Header      int64 // bytes of a safetensors header; never more than 100,000,000, the format's own limit
	Tensors     int   // tensors in a file
	Name        int   // bytes of a tensor's name
	Rank        int   // dimensions of a tensor
	TensorBytes int64 // bytes of a tensor
	Metadata    int   // bytes of the __metadata__ of a file
	Shards      int   // files of a component
	Index       int64 // bytes of an index of shards
	Config      int64 // bytes of model_index.json and of each config
	Nesting     int   // depth of JSON
	Tokenizer   int64 // bytes of each of a tokenizer's vocab.json, merges.txt, tokenizer.json and added_tokens.json
	Tokens      int   // tokens in vocab.json or tokenizer.json
}

// DefaultLimits are those of Open.
func DefaultLimits() Limits {
	return Limits{
		Header: 16 << 20, Tensors: 1 << 16, Name: 512, Rank: 8, TensorBytes: 1<<45 - 1, Metadata: 1 << 20,
		Shards: 1024, Index: 32 << 20, Config: 4 << 20, Nesting: 64, Tokenizer: 32 << 20, Tokens: 1 << 18,
	}
}

const headerCeiling = 100_000_000

// WithLimits sets limits; fields left 0 keep their defaults.
func WithLimits(l Limits) Option {
	return func(m *Model) {
		keep(&m.limits.Header, min(l.Header, headerCeiling))
		keep(&m.limits.Tensors, l.Tensors)
		keep(&m.limits.Name, l.Name)
		keep(&m.limits.Rank, l.Rank)
		keep(&m.limits.TensorBytes, l.TensorBytes)
		keep(&m.limits.Metadata, l.Metadata)
		keep(&m.limits.Shards, l.Shards)
		keep(&m.limits.Index, l.Index)
		keep(&m.limits.Config, l.Config)
		keep(&m.limits.Nesting, l.Nesting)
		keep(&m.limits.Tokenizer, l.Tokenizer)
		keep(&m.limits.Tokens, l.Tokens)
	}
}

func keep[T int | int64](into *T, n T) {
	if n > 0 {
		*into = n
	}
}

// Limits are those the model was opened with.
func (c *Component) Limits() Limits { return c.m.limits }

// atMost is what is wanted of a number that has a limit.
func atMost[T int | int64](n T, limit string) string {
	return fmt.Sprintf("at most %d, the limit %s", n, limit)
}
