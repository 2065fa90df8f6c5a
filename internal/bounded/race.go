//go:build race

package bounded

// Race says whether the race detector is on, which takes memory and time of its own.
const Race = true

// slower is how much longer things take under the race detector.
const slower = 10
