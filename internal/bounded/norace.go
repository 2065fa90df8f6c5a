//go:build !race

package bounded

// Race says whether the race detector is on, which takes memory and time of its own.
const Race = false

const slower = 1
