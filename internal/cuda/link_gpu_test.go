//go:build gpu

package cuda

import (
	"testing"

	"gorgonia.org/cu"
)

// 11.4 is the oldest driver with every symbol this build links to.
func TestDriverVersion(t *testing.T) {
	if v := cu.Version(); v < 11040 {
		t.Errorf("the driver is of CUDA version %d, below 11040", v)
	}
}
