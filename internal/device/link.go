package device

import (
	"errors"
	"fmt"
	"time"

	"github.com/euryale-ml/euryale/internal/hostmem"
)

// LinkRate is the bytes per second of the best of five copies from page-locked memory.
func LinkRate(dev Device, mem *hostmem.Memory, n int) (rate float64, err error) {
	src, err := mem.Alloc(n)
	if err != nil {
		return 0, err
	}
	if err := dev.Lock(src); err != nil {
		mem.Free(src)
		return 0, err
	}
	defer func() {
		if e := dev.Unlock(src); e != nil {
			err = errors.Join(err, e)
			mem.Abandon(src)
			return
		}
		mem.Free(src)
	}()
	dst, err := dev.Alloc(n)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dev.Free(dst)) }()
	begin, err := dev.NewEvent()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dev.FreeEvent(begin)) }()
	end, err := dev.NewEvent()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dev.FreeEvent(end)) }()
	for range 5 {
		for _, issue := range []func() error{
			func() error { return dev.Record(begin, Copy) },
			func() error { return dev.CopyIn(Copy, dst, src) },
			func() error { return dev.Record(end, Copy) },
			func() error { return dev.Sync(end) },
		} {
			if err := issue(); err != nil {
				return 0, err
			}
		}
		d, err := dev.Elapsed(begin, end)
		if err != nil {
			return 0, err
		}
		rate = max(rate, float64(n)/max(d, time.Nanosecond).Seconds())
	}
	return rate, nil
}

// HasRoom refuses what a device has no memory for, before anything is loaded. Other processes may take it in the
// meantime: what counts is the allocation.
func HasRoom(dev Device, need int) error {
	free, total, err := dev.Memory()
	switch {
	case err != nil:
		return err
	case total == 0:
		return fmt.Errorf("%s does not say how much memory it has, and so cannot be planned for", dev.Name())
	case need > free:
		return &MemoryError{Need: need, Free: free}
	}
	return nil
}
