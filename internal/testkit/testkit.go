// Package testkit is what tests of several packages share.
package testkit

import (
	"os"
	"runtime"
	"testing"
	"time"

	G "gorgonia.org/gorgonia"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
)

// NoMoreGoroutines waits until there are at most n.
func NoMoreGoroutines(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, before %d\n%s", runtime.NumGoroutine(), n, buf[:runtime.Stack(buf, true)])
		}
	}
}

// NeedDevice skips a test where there is no GPU; with GPU=1 that is a failure.
func NeedDevice(t *testing.T) {
	t.Helper()
	vm, err := graphs.NewVM(G.NewGraph(), graphs.WithDevice(graphs.DeviceOption{Name: "cuda:0"}))
	if err == nil {
		if err := vm.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Getenv("GPU") == "1" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// TinyUNet is the embedded model, and its UNet's weights.
func TinyUNet(t *testing.T) (*loader.Model, *loader.Weights) {
	t.Helper()
	m, err := loader.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	c, err := m.Component("unet")
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Weights()
	if err != nil {
		t.Fatal(err)
	}
	return m, w
}

// Long is 1 if EURYALE_LONG is set, for runs that CI has no time for, else n.
func Long(n int) int {
	if os.Getenv("EURYALE_LONG") != "" {
		return 1
	}
	return n
}
