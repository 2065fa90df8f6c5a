package pipeline

import (
	"github.com/euryale-ml/euryale/internal/torchrand"
	"gorgonia.org/tensor"
)

// Noise is torch's generator on the CPU: a seed means the same numbers here as there.
type Noise struct{ torch *torchrand.Generator }

// NewNoise is torch.Generator().manual_seed(seed).
func NewNoise(seed uint64) *Noise { return &Noise{torchrand.New(seed)} }

// Randn fills x as torch.randn fills a tensor of its size: in the order of its elements, which for latents are [N L h w].
func (n *Noise) Randn(x []float32) { n.torch.Randn(x) }

// ChannelsLast copies pictures or latents [N C h w], as diffusers has them, to [N h w C], as graphs have them.
func ChannelsLast(dst, src []float32, shape ...int) { eachImage(channelsLast, dst, src, shape) }

// ChannelsFirst copies [N h w C] to the shape [N C h w].
func ChannelsFirst(dst, src []float32, shape ...int) { eachImage(channelsFirst, dst, src, shape) }

// eachImage turns every picture of a batch of shape [N C h w] into the other layout.
func eachImage(turn func(dst, src []float32, c int), dst, src []float32, shape tensor.Shape) {
	n := len(src) / shape[0]
	for i := range shape[0] {
		turn(dst[i*n:][:n], src[i*n:][:n], shape[1])
	}
}

// channelsLast turns [C ...] into [... C].
func channelsLast(dst, src []float32, c int) {
	n := len(src) / c
	for i := range n {
		for j := range c {
			dst[i*c+j] = src[j*n+i]
		}
	}
}

// channelsFirst turns [... C] into [C ...].
func channelsFirst(dst, src []float32, c int) {
	n := len(src) / c
	for i := range n {
		for j := range c {
			dst[j*n+i] = src[i*c+j]
		}
	}
}
