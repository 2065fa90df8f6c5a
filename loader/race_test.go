//go:build race

package loader

import "time"

// limit is how long a refusal may take, under the race detector.
const limit = 20 * time.Second
