//go:build !race

package loader

import "time"

// limit is how long a refusal may take.
const limit = 2 * time.Second
