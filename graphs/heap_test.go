package graphs_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/sysmem"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/loader"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// A model of 256 MiB, of 1 GiB with EURYALE_FULL and 4 GiB with EURYALE_LONG, is loaded and run with little of it on
// the Go heap.
func TestHeapStaysSmall(t *testing.T) {
	side := bounded.Some(1<<14, 1<<13) // squares of it in half precision are of 512 MiB, or 128
	count := 2
	if testkit.Long(2) == 1 {
		count, side = 8, 1<<14
	}
	if free, ok := sysmem.Available(); testing.Short() || ok && free < int64(count+4)*int64(2*side*side) {
		t.Skipf("it takes %d MiB of memory", (count+1)*2*side*side>>20)
	}
	dir := t.TempDir()
	var header strings.Builder
	for i := range count {
		fmt.Fprintf(&header, `,"l%d.weight":{"dtype":"F16","shape":[%d,%d],"data_offsets":[%d,%d]}`, i, side, side, i*2*side*side, (i+1)*2*side*side)
	}
	raw := []byte("{" + header.String()[1:] + "}")
	at := filepath.Join(dir, "unet", "model.safetensors")
	for _, err := range []error{
		os.Mkdir(filepath.Dir(at), 0o777),
		os.WriteFile(filepath.Join(dir, "model_index.json"), []byte(`{"_class_name": "P", "unet": ["diffusers", "UNet2DConditionModel"]}`), 0o666),
		os.WriteFile(at, append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...), 0o666),
		os.Truncate(at, int64(8+len(raw)+count*2*side*side)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m, err := loader.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, _ := m.Component("unet")
	w, err := c.Weights()
	if err != nil {
		t.Fatal(err)
	}
	g := G.NewGraph()
	s := layers.NewScope(g, "unet", w)
	x := s.Input("x", G.Float32, 1, side)
	var outs []*G.Node
	for i := range count {
		y, err := s.On(x).LinearNoBias(fmt.Sprint("l", i), side).Node()
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, y)
	}
	if err := G.Let(x, tensor.New(tensor.WithShape(1, side), tensor.Of(tensor.Float32))); err != nil {
		t.Fatal(err)
	}
	memory := graphs.NewHostMemory(0)
	vm, err := graphs.NewVM(g, graphs.WithModel(m), graphs.WithOutputs(outs...), graphs.WithHostMemory(memory))
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()

	runtime.GC()
	before, most := heap(), int64(0)
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			most = max(most, heap())
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	err = vm.RunAll()
	close(stop)
	<-stopped
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB of buffers, the heap grew by %d MiB", memory.Peak()>>20, (most-before)>>20)
	if memory.Used() < int64(count*2*side*side) || most-before > 64<<20+int64(len(raw)) {
		t.Errorf("%d MiB of buffers, the heap grew by %d MiB", memory.Used()>>20, (most-before)>>20)
	}
}

// heap is the bytes of objects on the Go heap, dead ones not yet collected too.
func heap() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}
