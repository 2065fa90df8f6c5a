//go:build race

package bounded

// slower is how much longer things take under the race detector.
const slower = 10
