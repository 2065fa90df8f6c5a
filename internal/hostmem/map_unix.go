//go:build unix && !race

package hostmem

import "golang.org/x/sys/unix"

const mappable = true

// mapMemory maps n zero bytes.
func mapMemory(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmap gives them back.
func unmap(raw []byte) {
	if err := unix.Munmap(raw); err != nil {
		panic("hostmem: " + err.Error()) // raw is as mapMemory returned it
	}
}
