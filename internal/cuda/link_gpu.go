//go:build gpu

package cuda

import _ "gorgonia.org/cu"
