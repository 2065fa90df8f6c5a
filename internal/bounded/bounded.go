// Package bounded checks in tests that bad input takes little memory and little time, and says how much of a long loop
// a test runs.
package bounded

import (
	"os"
	"runtime/metrics"
	"testing"
	"time"
)

// Do runs f and fails the test if it allocates more than mib MiB, freed or not, or takes more processor time than limit,
// ten times that under the race detector. The clock on the wall would count what else the machine does.
func Do(t testing.TB, mib uint64, limit time.Duration, f func()) {
	t.Helper()
	before, start := allocated(), CPU()
	f()
	took, n := CPU()-start, allocated()-before
	if n > mib<<20 {
		t.Errorf("%d MiB were allocated, want at most %d", n>>20, mib)
	}
	if took > slower*limit {
		t.Errorf("it took %v of processor time, want at most %v", took, slower*limit)
	}
}

// Limit is a limit of processor time as it is under the race detector.
func Limit(d time.Duration) time.Duration { return slower * d }

// Hang is how long a test waits for what takes a moment before it takes it for a deadlock: long enough for a machine that
// does much else.
const Hang = time.Minute

// Full reports that loops are to run whole: with EURYALE_FULL=1, as in continuous integration. Else they take samples,
// so that the tests of a fresh checkout take two minutes.
func Full() bool { return os.Getenv("EURYALE_FULL") != "" }

// Some is all, or where loops take samples that many.
func Some(all, sample int) int {
	if Full() {
		return all
	}
	return sample
}

// allocated is what the process has allocated so far. runtime.ReadMemStats would stop every goroutine, which is
// slow under a fuzzer.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
