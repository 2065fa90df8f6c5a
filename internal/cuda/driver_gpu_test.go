//go:build gpu

package cuda

import (
	"testing"

	"gorgonia.org/cu"
)

// 11.8 is the oldest CUDA version whose driver reads the PTX of the kernels.
func TestDriverVersion(t *testing.T) {
	if v := cu.Version(); v < 11080 {
		t.Errorf("the driver is of CUDA version %d, below 11080", v)
	}
}
