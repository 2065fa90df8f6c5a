//go:build !linux

package sysmem

// Limit is not known on this system.
func Limit() (int64, bool) { return 0, false }
