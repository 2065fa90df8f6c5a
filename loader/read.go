package loader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"sync"
	"syscall"

	"github.com/euryale-ml/euryale/internal/stack"
)

const readChunk = 2 << 20 // as fast as a mapping, and soon enough to stop

// maxInterrupts is how often in a row a read may be interrupted by a signal before that is an error.
const maxInterrupts = 1000

// readFull fills p from an offset on. A read that gave less is continued, an interrupted one made again. n is how
// much was read in any case.
func readFull(f io.ReaderAt, p []byte, at int64) (n int, err error) {
	for interrupts := 0; n < len(p); {
		k, err := f.ReadAt(p[n:], at+int64(n))
		switch n += k; {
		case n == len(p):
			return n, nil
		case errors.Is(err, syscall.EINTR) && interrupts < maxInterrupts:
			interrupts++
		case err == io.EOF, err == nil && k == 0:
			return n, io.ErrUnexpectedEOF
		case err != nil:
			return n, err
		}
	}
	return n, nil
}

// reader reads tensors. It remembers a checksum of each: one that is read again must be the same.
type reader struct {
	mu      sync.Mutex
	seed    maphash.Seed
	sums    map[string]uint64
	buffers sync.Pool // of *[readChunk]byte
}

// read fills dst with a tensor, in chunks. Float64 is narrowed to float32.
func (r *reader) read(ctx context.Context, t TensorInfo, dst []byte) error {
	r.mu.Lock()
	if r.sums == nil {
		r.sums, r.seed = map[string]uint64{}, maphash.MakeSeed()
	}
	r.mu.Unlock()
	sum := uint64(0)
	var wide []byte
	stored := t.stored()
	if stored != t.Bytes {
		wide = make([]byte, min(stored, readChunk))
	}
	for at := int64(0); at < stored; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(stored-at, readChunk)
		chunk := wide[:min(n, int64(len(wide)))]
		if wide == nil {
			chunk = dst[at:][:n]
		}
		got, err := r.chunk(ctx, t.in, chunk, t.begin+at)
		if err != nil && err == ctx.Err() {
			return err
		}
		if err != nil {
			return stack.With(&Error{File: t.File, Tensor: t.Name,
				Got: fmt.Sprintf("reading stopped at byte %d", t.begin+at+int64(got)), Err: err})
		}
		if wide != nil {
			narrow(dst[at/2:], chunk)
		}
		sum = sum*0x9e3779b97f4a7c15 ^ maphash.Bytes(r.seed, chunk)
		at += int64(len(chunk))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, again := r.sums[t.Name]; again && before != sum {
		return stack.With(&Error{File: t.File, Tensor: t.Name, Err: ErrChanged})
	}
	r.sums[t.Name] = sum
	return nil
}

// narrow rounds float64 to float32, both little-endian.
func narrow(dst, src []byte) {
	for i := range len(src) / 8 {
		f := float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(f))
	}
}

// chunk fills dst, unless the context ends first. The read is then left to itself: a disk may take its time to
// answer, or never do it, and the memory it reads into is its own.
func (r *reader) chunk(ctx context.Context, f io.ReaderAt, dst []byte, at int64) (n int, err error) {
	if ctx.Done() == nil {
		return readFull(f, dst, at)
	}
	buf, ok := r.buffers.Get().(*[readChunk]byte)
	if !ok {
		buf = new([readChunk]byte)
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := readFull(f, buf[:len(dst)], at)
		done <- result{n, err}
	}()
	select {
	case got := <-done:
		copy(dst, buf[:got.n])
		r.buffers.Put(buf)
		return got.n, got.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
