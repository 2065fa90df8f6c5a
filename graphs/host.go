package graphs

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/loader"
)

// host is what the VMs of one pipeline share. Its calls take turns.
type host struct {
	turn    chan struct{} // holds one element while a call runs
	running sync.Mutex    // held by a call, but not during the caller's functions
	open    context.Context
	end     context.CancelFunc // of open
	pool    *cpu.Pool
	weights *program.Weights
	arena   *program.Arena
	session *session // of the image that is made, if it is offloaded
}

// ErrClosed is returned by a VM or pipeline after Close.
var ErrClosed = errors.New("used after Close")

func newHost(threads int, m *loader.Model) (*host, error) {
	src := checkpoints{}
	if m != nil {
		for _, c := range m.Components() {
			if !slices.Contains(weighted, c.Class) {
				continue
			}
			w, err := c.Weights()
			if err != nil {
				return nil, err
			}
			src[c.Name] = w
		}
	}
	h := &host{turn: make(chan struct{}, 1), pool: cpu.NewPool(threads), weights: program.NewWeights(src), arena: new(program.Arena)}
	h.open, h.end = context.WithCancel(context.Background())
	return h, nil
}

// do waits for the caller's turn and calls f.
func (h *host) do(ctx context.Context, f func(context.Context) error) error {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-h.open.Done():
		return ErrClosed
	}
	defer func() { <-h.turn }()
	h.running.Lock()
	defer h.running.Unlock()
	if h.closed() {
		return ErrClosed
	}
	return f(untilClose{ctx, h})
}

// untilClose is the caller's context for one call; Close ends it too. Only Err is looked at here, and so only Err
// tells of it.
type untilClose struct {
	context.Context
	host *host
}

func (c untilClose) Err() error {
	if err := c.Context.Err(); err != nil || !c.host.closed() {
		return err
	}
	return ErrClosed
}

// callback calls a function of the caller's, which may call Close.
func (h *host) callback(f func() error) error {
	h.running.Unlock()
	defer h.running.Lock()
	return f()
}

func (h *host) closed() bool { return h.open.Err() != nil }

// close stops the call that runs, if one does, and ends the threads.
func (h *host) close() error {
	h.end()
	h.running.Lock()
	defer h.running.Unlock()
	h.pool.Close()
	return nil
}

// weighted are the classes whose weights the pipelines run.
var weighted = []string{"CLIPTextModel", "CLIPTextModelWithProjection", "UNet2DConditionModel", "AutoencoderKL"}

// checkpoints are the weights of a model's components. Node names are "component.key".
type checkpoints map[string]*loader.Weights

func (c checkpoints) split(node string) (*loader.Weights, string) {
	for i := range node {
		if node[i] == '.' {
			return c[node[:i]], node[i+1:]
		}
	}
	return nil, ""
}

// Stored implements program.Source.
func (c checkpoints) Stored(node string) ([]int, dtype.Type, bool) {
	w, key := c.split(node)
	if w == nil {
		return nil, dtype.Invalid, false
	}
	info, ok := w.Info(key)
	return info.Shape, info.DType, ok
}

// ReadTensor implements program.Source.
func (c checkpoints) ReadTensor(ctx context.Context, node string, dst []byte) error {
	w, key := c.split(node)
	return w.ReadTensor(ctx, key, dst)
}
