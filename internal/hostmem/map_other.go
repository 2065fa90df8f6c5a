//go:build !unix || race

package hostmem

// mappable is false where memory is not mapped: on other systems, and under the race detector, which sees only
// what is on the heap.
const mappable = false

func mapMemory(int) ([]byte, error) { panic("hostmem: not mappable") }
func unmap([]byte)                  {}
