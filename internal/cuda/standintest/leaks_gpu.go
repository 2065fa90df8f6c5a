//go:build gpu

package standintest

import "testing"

// NoLeaks fails the test if anything of the driver is alive that it did not refuse to give back.
func NoLeaks(t *testing.T, when string) {
	t.Helper()
	if n := Live(); n != 0 {
		t.Errorf("%s: %d objects are left", when, n)
	}
}
