//go:build gpu

package cuda

/*
#include <cuda.h>

// What package cu lacks. A kernel has one parameter, whose bytes are in Go memory for the length of the call: the
// driver copies them.
static CUresult launch(CUfunction f, unsigned x, unsigned y, unsigned z, unsigned block, unsigned shared, CUstream s, void *params) {
	void *all[] = {params};
	return cuLaunchKernel(f, x, y, z, block, 1, 1, shared, s, all, 0);
}
static CUresult allow_shared(CUfunction f, int bytes) {
	return cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes);
}
// Relaxed: what is captured are launches alone, and a capture that cannot be ended must not forbid others their calls.
static CUresult begin(CUstream s) { return cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED); }
static CUresult lock(void *p, size_t n) { return cuMemHostRegister(p, n, 0); }
static CUresult unlock(void *p) { return cuMemHostUnregister(p); }
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/device"
	pkgerrors "github.com/pkg/errors"
	"gorgonia.org/cu"
)

// Note [Threads and contexts]
//
// A context is current per thread, and the Go scheduler moves goroutines between threads. So every call of the driver
// is made with the goroutine locked to its thread and the context set there first, which is cheap when it is set
// already. That other goroutines later run on a thread where the context is still set does no harm: they set theirs.

// oldest is the CUDA version that the PTX is of.
const oldest = 11080

// Device is an NVIDIA GPU.
type Device struct {
	name      string
	dev       cu.Device
	ctx       cu.CUContext
	streams   [device.Streams]cu.Stream
	drawn     cu.Stream // where graphs are captured; nothing runs in it
	functions map[string]*function
	kernels   device.Kernels
	hopper    bool           // the kernels for compute capability 9.0 are asked for
	free      []func() error // undoes what Open did, last first

	loading sync.Mutex // of kernels

	mu   sync.Mutex
	lost *device.Error // the error that ruined the context
}

var _ device.Device = (*Device)(nil)

// Open returns the GPU of that number. It holds the GPU's primary context.
func Open(ordinal int) (device.Device, error) {
	d := &Device{functions: map[string]*function{}}
	if err := d.open(ordinal); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Device) open(ordinal int) (err error) {
	n, err := cu.NumDevices()
	if err != nil {
		return d.fail("cuDeviceGetCount", err)
	}
	if ordinal < 0 || ordinal >= n {
		return fmt.Errorf("there is no device cuda:%d; %d are there", ordinal, n)
	}
	if v := cu.Version(); v < oldest {
		return fmt.Errorf("cuda:%d: the driver is for CUDA %d.%d; %d.%d is needed, with which version 520 came", ordinal, v/1000, v%1000/10, oldest/1000, oldest%1000/10)
	}
	if d.dev, err = cu.GetDevice(ordinal); err != nil {
		return d.fail("cuDeviceGet", err)
	}
	if d.name, err = d.dev.Name(); err != nil {
		return d.fail("cuDeviceGetName", err)
	}
	d.name = strings.TrimRight(d.name, "\x00")
	major, minor, err := d.dev.ComputeCapability()
	if err != nil {
		return d.fail("cuDeviceGetAttribute", err)
	}
	if major < 7 {
		return fmt.Errorf("cuda:%d, a %s, has compute capability %d.%d; 7.0 is needed", ordinal, d.name, major, minor)
	}
	d.kernels = device.Kernels{Names: map[string]bool{}, TensorCore: major >= 8}
	if d.kernels.Processors, err = d.dev.Attribute(cu.MultiprocessorCount); err != nil {
		return d.fail("cuDeviceGetAttribute", err)
	}
	switch wanted := os.Getenv("EURYALE_HOPPER"); wanted {
	case "", "0":
	default:
		return fmt.Errorf("EURYALE_HOPPER is %q; 1 asks for the kernels of compute capability 9.0", wanted)
	case "1":
		if err := d.wantHopper(ordinal, major, minor); err != nil {
			return err
		}
	}
	if d.ctx, err = d.dev.RetainPrimaryCtx(); err != nil {
		return d.fail("cuDevicePrimaryCtxRetain", err)
	}
	d.free = append(d.free, func() error { return d.fail("cuDevicePrimaryCtxRelease", d.dev.ReleasePrimaryCtx()) })
	return d.within(func() error {
		if err := d.makeStreams(); err != nil {
			return err
		}
		return d.listKernels()
	})
}

func (d *Device) makeStreams() error {
	for _, into := range []*cu.Stream{&d.streams[device.Compute], &d.streams[device.Copy], &d.drawn} {
		s, err := cu.MakeStream(cu.NonBlocking)
		if err != nil {
			return d.fail("cuStreamCreate", err)
		}
		*into = s
		d.free = append(d.free, func() error { return d.fail("cuStreamDestroy", into.Destroy()) })
	}
	return nil
}

// within calls f, or what it fails with once the device is lost, with the context current.
func (d *Device) within(f func() error) error {
	d.mu.Lock()
	lost := d.lost
	d.mu.Unlock()
	if lost != nil {
		return lost
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(d.ctx); err != nil {
		return d.fail("cuCtxSetCurrent", err)
	}
	return f()
}

// release is within for calls that give something back: they are made whatever happened before.
func (d *Device) release(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := d.fail("cuCtxSetCurrent", cu.SetCurrentContext(d.ctx))
	if e := f(); e != nil {
		return e
	}
	return err
}

// fail makes an error of package cu one of package device, and notes whether it ruined the context.
func (d *Device) fail(call string, err error) error {
	if err == nil {
		return nil
	}
	code := 0
	if v := reflect.ValueOf(pkgerrors.Cause(err)); v.CanInt() { // cu.cuResult, which is not exported
		code = int(v.Int())
	}
	return d.failed(call, code, pkgerrors.Cause(err).Error())
}

func (d *Device) failed(call string, code int, name string) error {
	e := &device.Error{Call: call, Code: code, Name: name, Lost: ruins[code]}
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Lost && d.lost == nil {
		d.lost = e
	}
	if code == int(C.CUDA_ERROR_OUT_OF_MEMORY) {
		return errors.Join(&device.MemoryError{}, e)
	}
	return e
}

// ruins are the codes after which CUDA's documentation says that the process must be ended to go on: deinitialized,
// no device, illegal address, launch timeout, and the errors of a kernel that went wrong. Unknown errors are treated
// so too.
var ruins = map[int]bool{4: true, 100: true, 214: true, 220: true, 700: true, 702: true, 710: true, 714: true, 715: true, 716: true,
	717: true, 718: true, 719: true, 999: true}

func (d *Device) result(call string, r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	var name *C.char
	C.cuGetErrorName(r, &name)
	return d.failed(call, int(r), C.GoString(name))
}

func (d *Device) Name() string            { return d.name }
func (d *Device) Kernels() device.Kernels { return d.kernels }

func (d *Device) Alloc(n int) (device.Ptr, error) {
	var p cu.DevicePtr
	err := d.within(func() (err error) {
		p, err = cu.MemAlloc(int64(n))
		return d.fail("cuMemAlloc", err)
	})
	var e *device.Error
	if errors.As(err, &e) && e.Code == int(C.CUDA_ERROR_OUT_OF_MEMORY) {
		free, _, _ := d.Memory()
		return 0, errors.Join(&device.MemoryError{Need: n, Free: free}, e)
	}
	return device.Ptr(p), err
}

func (d *Device) Free(p device.Ptr) error {
	return d.release(func() error { return d.fail("cuMemFree", cu.MemFree(cu.DevicePtr(p))) })
}

func (d *Device) Lock(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return d.within(func() error {
		return d.result("cuMemHostRegister", C.lock(unsafe.Pointer(unsafe.SliceData(b)), C.size_t(len(b))))
	})
}

func (d *Device) Unlock(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return d.release(func() error { return d.result("cuMemHostUnregister", C.unlock(unsafe.Pointer(unsafe.SliceData(b)))) })
}

func (d *Device) CopyIn(s device.Stream, dst device.Ptr, src []byte) error {
	return d.within(func() error {
		return d.fail("cuMemcpyHtoDAsync", cu.MemcpyHtoDAsync(cu.DevicePtr(dst), unsafe.Pointer(unsafe.SliceData(src)), int64(len(src)), d.streams[s]))
	})
}

func (d *Device) CopyOut(s device.Stream, dst []byte, src device.Ptr) error {
	return d.within(func() error {
		return d.fail("cuMemcpyDtoHAsync", cu.MemcpyDtoHAsync(unsafe.Pointer(unsafe.SliceData(dst)), cu.DevicePtr(src), int64(len(dst)), d.streams[s]))
	})
}

// mostShared is the dynamic shared memory a kernel may use without asking.
const mostShared = 48 << 10

func (d *Device) Launch(s device.Stream, k *device.Kernel) error {
	return d.within(func() error { return d.launch(d.streams[s], k) })
}

func (d *Device) launch(s cu.Stream, k *device.Kernel) error {
	f, err := d.function(k.Name)
	if err != nil {
		return err
	}
	if k.Shared > max(f.shared, mostShared) {
		if err := d.result("cuFuncSetAttribute", C.allow_shared(f.f, C.int(k.Shared))); err != nil {
			return fmt.Errorf("%s: %w", k.Name, err)
		}
		f.shared = k.Shared
	}
	r := C.launch(f.f, C.uint(k.Grid[0]), C.uint(k.Grid[1]), C.uint(k.Grid[2]), C.uint(k.Block), C.uint(k.Shared),
		stream(s), unsafe.Pointer(unsafe.SliceData(k.Params)))
	if err := d.result("cuLaunchKernel", r); err != nil {
		return fmt.Errorf("%s: %w", k.Name, err)
	}
	return nil
}

func stream(s cu.Stream) C.CUstream { return C.CUstream(unsafe.Pointer(s.C())) }

func (d *Device) Capture(ks []*device.Kernel) (g device.Graph, err error) {
	err = d.within(func() error {
		for _, k := range ks { // which must not happen in a capture
			if _, err := d.function(k.Name); err != nil {
				return err
			}
		}
		if err := d.result("cuStreamBeginCapture", C.begin(stream(d.drawn))); err != nil {
			return err
		}
		var err error
		for _, k := range ks {
			if err = d.launch(d.drawn, k); err != nil {
				break
			}
		}
		var graph C.CUgraph
		err = errors.Join(err, d.result("cuStreamEndCapture", C.cuStreamEndCapture(stream(d.drawn), &graph)))
		if graph == nil {
			C.cuStreamEndCapture(stream(d.drawn), &graph) // else nothing could be captured again; not to be there is no error
			if graph != nil {
				err = errors.Join(err, d.result("cuGraphDestroy", C.cuGraphDestroy(graph)))
			}
			return err
		}
		var exec C.CUgraphExec
		if err == nil {
			err = d.result("cuGraphInstantiate", C.cuGraphInstantiateWithFlags(&exec, graph, 0))
		}
		if err == nil {
			g = exec
		}
		return errors.Join(err, d.result("cuGraphDestroy", C.cuGraphDestroy(graph)))
	})
	if err != nil && g != nil { // what captured it was not given back
		err, g = errors.Join(err, d.FreeGraph(g)), nil
	}
	return g, err
}

func (d *Device) LaunchGraph(s device.Stream, g device.Graph) error {
	return d.within(func() error {
		return d.result("cuGraphLaunch", C.cuGraphLaunch(g.(C.CUgraphExec), stream(d.streams[s])))
	})
}

func (d *Device) FreeGraph(g device.Graph) error {
	return d.release(func() error { return d.result("cuGraphExecDestroy", C.cuGraphExecDestroy(g.(C.CUgraphExec))) })
}

func (d *Device) NewEvent() (device.Event, error) {
	var e cu.Event
	err := d.within(func() (err error) {
		e, err = cu.MakeEvent(cu.DefaultEvent)
		return d.fail("cuEventCreate", err)
	})
	if err != nil {
		return nil, err // not an Event that holds no event: it would be freed
	}
	return e, nil
}

func (d *Device) FreeEvent(e device.Event) error {
	ev := e.(cu.Event)
	return d.release(func() error { return d.fail("cuEventDestroy", cu.DestroyEvent(&ev)) })
}

func (d *Device) Record(e device.Event, s device.Stream) error {
	return d.within(func() error { return d.fail("cuEventRecord", e.(cu.Event).Record(d.streams[s])) })
}

func (d *Device) Wait(s device.Stream, e device.Event) error {
	return d.within(func() error { return d.fail("cuStreamWaitEvent", d.streams[s].Wait(e.(cu.Event), 0)) })
}

func (d *Device) Sync(e device.Event) error {
	return d.within(func() error { return d.fail("cuEventSynchronize", e.(cu.Event).Synchronize()) })
}

func (d *Device) Elapsed(from, to device.Event) (t time.Duration, err error) {
	err = d.within(func() error {
		ms, err := from.(cu.Event).Elapsed(to.(cu.Event))
		t = time.Duration(ms * float64(time.Millisecond))
		return d.fail("cuEventElapsedTime", err)
	})
	return t, err
}

func (d *Device) Memory() (free, total int, err error) {
	err = d.within(func() error {
		f, t, err := cu.MemInfo()
		free, total = int(f), int(t)
		return d.fail("cuMemGetInfo", err)
	})
	return free, total, err
}

// Name is that of a GPU, without opening it.
func Name(ordinal int) (string, error) {
	dev, err := cu.GetDevice(ordinal)
	if err != nil {
		return "", fmt.Errorf("cuda:%d: %w", ordinal, err)
	}
	name, err := dev.Name()
	return strings.TrimRight(name, "\x00"), err
}

// Devices describes the devices of this machine and build.
func Devices() []string {
	all := []string{"cpu"}
	n, err := cu.NumDevices()
	if err != nil {
		return append(all, "cuda: "+err.Error())
	}
	for i := range n {
		d, err := Open(i)
		if err != nil {
			all = append(all, fmt.Sprintf("cuda:%d: %v", i, err))
			continue
		}
		free, total, err := d.Memory()
		all = append(all, fmt.Sprintf("cuda:%d %s, driver for CUDA %d.%d, %d MiB free of %d", i, d.Name(), cu.Version()/1000, cu.Version()%1000/10, free>>20, total>>20))
		if err := errors.Join(err, d.Close()); err != nil {
			all = append(all, fmt.Sprintf("cuda:%d: %v", i, err))
		}
	}
	return all
}

// Close gives everything back, also of a lost device.
func (d *Device) Close() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	if len(d.free) > 0 {
		err = d.fail("cuCtxSetCurrent", cu.SetCurrentContext(d.ctx))
	}
	for i := len(d.free) - 1; i >= 0; i-- {
		err = errors.Join(err, d.free[i]())
	}
	d.free = nil
	return err
}
