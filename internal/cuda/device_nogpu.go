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
	return nil, fmt.Errorf("cuda:%d: %s", ordinal, without())
}

// Name returns an error, as Open does.
func Name(ordinal int) (string, error) {
	_, err := Open(ordinal)
	return "", err
}

// Devices describes the devices of this machine and build.
func Devices() []string { return []string{"cpu", without()} }

func without() string {
	s := "this program was built without CUDA; build it with: make gpu, or where there is a CUDA toolkit go build -tags gpu"
	if raw, err := os.ReadFile("/proc/driver/nvidia/version"); err == nil {
		line, _, _ := strings.Cut(string(raw), "\n")
		return s + "; the driver here: " + strings.Join(strings.Fields(line), " ")
	}
	return s + "; no NVIDIA driver was found here"
}
