// Package bounded checks in tests that bad input takes little memory and little time.
package bounded

import (
	"runtime/metrics"
	"testing"
	"time"
)

// Do runs f and fails the test if it allocates more than mib MiB, freed or not, or takes longer than limit,
// ten times that under the race detector.
func Do(t testing.TB, mib uint64, limit time.Duration, f func()) {
	t.Helper()
	before, start := allocated(), time.Now()
	f()
	took, n := time.Since(start), allocated()-before
	if n > mib<<20 {
		t.Errorf("%d MiB were allocated, want at most %d", n>>20, mib)
	}
	if took > slower*limit {
		t.Errorf("it took %v, want at most %v", took, slower*limit)
	}
}

// Limit is a time limit as it is under the race detector.
func Limit(d time.Duration) time.Duration { return slower * d }

// allocated is what the process has allocated so far. runtime.ReadMemStats would stop every goroutine, which is
// slow under a fuzzer.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
