package graphs

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/hfconfig"
)

// noiseSchedule is how much noise each training timestep has.
type noiseSchedule struct {
	n             int // num_train_timesteps
	schedule      string
	alphasCumprod []float32 // the share of signal, squared
	zeroSNR       bool
}

func newNoiseSchedule(c *hfconfig.Config, beta [2]float64, schedule string) noiseSchedule {
	s := noiseSchedule{
		n:        c.Int("num_train_timesteps", 1000, 1, 100000),
		schedule: c.String("beta_schedule", schedule, "linear", "scaled_linear", "squaredcos_cap_v2"),
		zeroSNR:  c.Bool("rescale_betas_zero_snr", false),
	}
	start, end := c.Float("beta_start", beta[0], 1e-9, 0.999), c.Float("beta_end", beta[1], 1e-9, 0.999)
	betas := s.betas(start, end)
	if s.zeroSNR {
		betas = zeroTerminalSNR(betas)
	}
	s.alphasCumprod = cumprodOfAlphas(betas)
	return s
}

func (s noiseSchedule) betas(start, end float64) []float32 {
	betas := make([]float32, s.n)
	line := func(a, b float64, i int) float32 {
		if s.n == 1 {
			return float32(a)
		}
		return float32(a + (b-a)*float64(i)/float64(s.n-1))
	}
	for i := range betas {
		switch s.schedule {
		case "linear":
			betas[i] = line(start, end, i)
		case "scaled_linear":
			v := line(math.Sqrt(start), math.Sqrt(end), i)
			betas[i] = v * v
		case "squaredcos_cap_v2": // Nichol and Dhariwal 2021
			bar := func(t float64) float64 {
				c := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
				return c * c
			}
			betas[i] = float32(min(1-bar(float64(i+1)/float64(s.n))/bar(float64(i)/float64(s.n)), 0.999))
		}
	}
	return betas
}

// cumprodOfAlphas multiplies up 1-beta. torch adds up float32 products in double precision.
func cumprodOfAlphas(betas []float32) []float32 {
	out, prod := make([]float32, len(betas)), 1.0
	for i, b := range betas {
		prod *= float64(1 - b)
		out[i] = float32(prod)
	}
	return out
}

// zeroTerminalSNR changes betas so that nothing of the signal is left at the end (algorithm 1 of arXiv
// 2305.08891).
func zeroTerminalSNR(betas []float32) []float32 {
	bar := cumprodOfAlphas(betas)
	root := make([]float32, len(bar))
	for i, a := range bar {
		root[i] = float32(math.Sqrt(float64(a)))
	}
	first, last := root[0], root[len(root)-1]
	for i := range root {
		root[i] = (root[i] - last) * (first / (first - last))
		bar[i] = root[i] * root[i]
	}
	out := make([]float32, len(betas))
	out[0] = 1 - bar[0]
	for i := 1; i < len(out); i++ {
		out[i] = 1 - bar[i]/bar[i-1]
	}
	return out
}

// sigmas is the noise in units of signal at each training timestep. The variance-exploding schedulers cannot
// take infinity, so with zero SNR the last is that of 2^-24 (as in FP16).
func (s noiseSchedule) sigmas() []float64 {
	out := make([]float64, s.n)
	for i, a := range s.alphasCumprod {
		if s.zeroSNR && i == s.n-1 {
			a = 1.0 / (1 << 24)
		}
		out[i] = float64(float32(math.Sqrt(float64((1 - a) / a))))
	}
	return out
}

// at is alphas_cumprod of a timestep, or what stands before the first.
func (s noiseSchedule) at(t int, alphaToOne bool) float64 {
	switch {
	case t >= 0:
		return float64(s.alphasCumprod[t])
	case alphaToOne:
		return 1
	}
	return float64(s.alphasCumprod[0])
}

// spaced picks n of the training timesteps, from the last down (table 2 of arXiv 2305.08891). In linspace and
// leading more than n points may be laid and the lowest dropped.
func (s noiseSchedule) spaced(spacing string, n, points, offset int) []float64 {
	t := make([]float64, 0, points)
	switch spacing {
	case "linspace":
		for i := points - 1; i >= 0; i-- {
			v := 0.0
			if points > 1 {
				v = float64(i) * (float64(s.n-1) / float64(points-1))
			}
			t = append(t, v)
		}
	case "leading":
		for i := points - 1; i >= 0; i-- {
			t = append(t, float64(i*(s.n/points)+offset))
		}
	case "trailing":
		step := float64(s.n) / float64(n)
		for i := range int(math.Ceil(float64(s.n) / step)) {
			t = append(t, math.RoundToEven(float64(s.n)-float64(i)*step)-1)
		}
		return t
	}
	return t[:n]
}

// checkSteps refuses more steps than the model was trained with, as diffusers does.
func (s noiseSchedule) checkSteps(n int) error {
	if n < 1 || n > s.n {
		return &RequestError{"num_inference_steps", fmt.Sprintf("is %d, want 1 to the scheduler's num_train_timesteps %d", n, s.n)}
	}
	return nil
}

// float32s converts timesteps.
func float32s(t []float64) []float32 {
	out := make([]float32, len(t))
	for i, v := range t {
		out[i] = float32(v)
	}
	return out
}
