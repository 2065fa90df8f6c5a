package sysmem

import (
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limit is what the process's own limits (RLIMIT_AS, RLIMIT_DATA) leave of address space, and false without such limits.
func Limit() (int64, bool) {
	left := int64(math.MaxInt64)
	var pages []string
	for _, l := range []struct{ resource, field int }{{unix.RLIMIT_AS, 0}, {unix.RLIMIT_DATA, 5}} {
		var r unix.Rlimit
		if unix.Getrlimit(l.resource, &r) != nil || r.Cur > math.MaxInt64/2 {
			continue
		}
		if pages == nil {
			raw, _ := os.ReadFile("/proc/self/statm") // size resident shared text lib data dt
			pages = strings.Fields(string(raw))
		}
		if len(pages) > l.field {
			n, _ := strconv.ParseInt(pages[l.field], 10, 64)
			left = min(left, int64(r.Cur)-n*int64(os.Getpagesize()))
		}
	}
	return left, left < math.MaxInt64
}
