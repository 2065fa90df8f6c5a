//go:build !gpu

package cuda

import (
	"fmt"
	"os"
	"strings"

	"github.com/euryale-ml/euryale/internal/device"
)

// Open returns an error: this build has no CUDA in it.
func Open(ordinal int) (device.Device, error) {
	return nil, fmt.Errorf("cuda:%d: this program was built without CUDA; build it with: make gpu (or go build -tags gpu)%s", ordinal, driver())
}

// driver says whether an NVIDIA driver is there.
func driver() string {
	raw, err := os.ReadFile("/proc/driver/nvidia/version")
	if err != nil {
		return ". No NVIDIA driver was found here"
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	return ". The driver here: " + strings.Join(strings.Fields(line), " ")
}
