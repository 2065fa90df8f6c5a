package op

import (
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
)

// Activation is a pointwise function.
type Activation cpu.Activation

const (
	None      = Activation(cpu.None)
	SiLU      = Activation(cpu.SiLU)      // x sigmoid(x)
	GELU      = Activation(cpu.GELU)      // x Phi(x), by erf
	QuickGELU = Activation(cpu.QuickGELU) // x sigmoid(1.702 x)
	GEGLU     = Activation(cpu.GEGLU)     // first half times the GELU of the second (Shazeer 2020)
	GELUTanh  = Activation(cpu.GELUTanh)  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016)
	ReLU      = Activation(cpu.ReLU)      // max(x, 0)
	Tanh      = Activation(cpu.Tanh)
)

func (a Activation) String() string {
	return [...]string{None: "none", SiLU: "silu", GELU: "gelu", QuickGELU: "quick_gelu", GEGLU: "geglu",
		GELUTanh: "gelu_tanh", ReLU: "relu", Tanh: "tanh"}[a]
}

// InEpilogues reports whether products can apply the function to their result: epilogue.h has it.
func (a Activation) InEpilogues() bool { return a <= GEGLU }

// Define writes a(x) to y, which may be x.
func (a Activation) Define(y, x []float32) {
	for i := range y {
		v := float64(x[i])
		switch a {
		case None:
		case SiLU:
			v /= 1 + math.Exp(-v)
		case GELU:
			v *= 0.5 * math.Erfc(-v/math.Sqrt2)
		case QuickGELU:
			v /= 1 + math.Exp(-1.702*v)
		case GEGLU:
			g := float64(x[len(x)/2+i])
			v *= g * 0.5 * math.Erfc(-g/math.Sqrt2)
		case GELUTanh:
			v *= 0.5 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
		case ReLU:
			v = max(v, 0)
		case Tanh:
			v = math.Tanh(v)
		}
		y[i] = float32(v)
	}
}
