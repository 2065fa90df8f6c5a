package profile

import (
	"testing"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/testkit"
)

// A device is measured for planning; what it says of an emulated one means nothing but that the way is right.
func TestDeviceProfile(t *testing.T) {
	if _, err := Measure(graphs.DeviceOption{}); err == nil {
		t.Error("the CPU is measured as a device")
	}
	testkit.NeedDevice(t)
	p, err := measure(graphs.DeviceOption{Name: "cuda:0"}, 1, 8, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil || p.Name == "" {
		t.Errorf("%+v: %v", p, err)
	}
}
