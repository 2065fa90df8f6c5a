// Package device is the seam between plans and hardware: memory, two streams of work, events that order them. Host
// is ordinary memory with a budget of its own, on which everything above the seam is tested; package internal/cuda
// has the other device.
package device

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/dtype"
	"gorgonia.org/tensor"
)

// Device runs kernels over memory of its own. Streams are worked off in order, each by itself; calls return when the
// work is issued, not when it is done. What a device returned an error for may or may not have happened.
type Device interface {
	Name() string
	Kernels() Kernels

	// Alloc returns n bytes aligned to 256.
	Alloc(n int) (Ptr, error)
	Free(p Ptr) error
	// Lock makes host memory fit for copies. It must not be of the Go heap, whose collector knows nothing of copies.
	Lock(b []byte) error
	Unlock(b []byte) error

	// CopyIn and CopyOut copy between device memory and locked host memory, which must stay as it is until the copy
	// is done.
	CopyIn(s Stream, dst Ptr, src []byte) error
	CopyOut(s Stream, dst []byte, src Ptr) error
	Launch(s Stream, k *Kernel) error

	// Capture makes a graph of launches that are always issued together, each after the one before: issuing it is one
	// call, and its kernels follow each other closer. A graph may be freed while it runs.
	Capture(ks []*Kernel) (Graph, error)
	LaunchGraph(s Stream, g Graph) error
	FreeGraph(g Graph) error

	// An event happens when the stream has done all work issued before Record. Wait holds a stream's later work back
	// until then, Sync the caller. An event may be recorded again once everything that waits for it has been issued.
	NewEvent() (Event, error)
	FreeEvent(e Event) error
	Record(e Event, s Stream) error
	Wait(s Stream, e Event) error
	Sync(e Event) error
	// Elapsed is the time between two events that have happened.
	Elapsed(from, to Event) (time.Duration, error)

	// Memory is what is free, and all there is.
	Memory() (free, total int, err error)
	// Close gives everything back. Nothing may be under way.
	Close() error
}

// Ptr is an address of a device.
type Ptr uint64

// Stream is a queue of work.
type Stream uint8

const (
	Compute Stream = iota
	Copy
	Streams
)

// Event is a mark in a stream.
type Event any

// Graph is launches captured.
type Graph any

// Kernel is one launch.
type Kernel struct {
	Name   string
	Grid   [3]int
	Block  int    // threads
	Shared int    // bytes of dynamic shared memory
	Params []byte // the kernel's parameter, a struct
}

// Params views a struct as the bytes a kernel gets. The struct must be laid out as C lays it out.
func Params[T any](p *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p)) }

// Kernels is what a device can launch. The zero value is a device that runs ops' host forms.
type Kernels struct {
	Names      map[string]bool
	Load       func(name string) error // makes one ready; those that are launched without it are then
	TensorCore bool                    // those for tensor cores are among them
	TF32       bool                    // float32 is to be multiplied on tensor cores, which see 11 bits of it
	Processors int

	// Boxes makes the descriptor that the kernels for compute capability 9.0 need of a matrix; nil if there are none.
	Boxes func(Matrix) (TensorMap, error)
}

// Matrix has rows of 16-bit numbers that follow one another. Kernels copy it by boxes of 64 columns and BoxRows rows.
type Matrix struct {
	Ptr           Ptr
	DType         dtype.Type
	Rows, Columns int
	BoxRows       int
}

// TensorMap describes a Matrix as the driver has it: a part of a kernel's parameter, at a multiple of 64 bytes.
type TensorMap [128]byte

// Any reports whether the device has kernels.
func (k Kernels) Any() bool { return k.Names != nil }

// Arg is an argument of a kernel call on a device.
type Arg struct {
	Shape tensor.Shape
	DType dtype.Type
	Ptr   Ptr
}

// MemoryError reports that the device has no room.
type MemoryError struct{ Need, Free int }

func (e *MemoryError) Error() string {
	if e.Need == 0 { // of what the driver takes for itself: code of kernels, graphs
		return "out of device memory"
	}
	return fmt.Sprintf("out of device memory: %d bytes are needed, %d are free", e.Need, e.Free)
}

// Error is a failed call of a device's driver.
type Error struct {
	Call string // the driver's function
	Code int
	Name string // of the code
	Lost bool   // the device cannot be used by this process any more
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s (%d)", e.Call, e.Name, e.Code)
	if e.Lost {
		s += "; this process has lost the device"
	}
	return s
}

// Is makes errors.Is(err, ErrLost) true of the error that lost the device and of all later ones.
func (e *Error) Is(target error) bool { return target == ErrLost && e.Lost }

// ErrLost is the error of every call after one that ruined the device's state, as an illegal access does.
var ErrLost = errors.New("the device is lost")
