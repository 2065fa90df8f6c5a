package loader

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/stack"
)

// Tensor is a float32 tensor to write.
type Tensor struct {
	Shape []int
	F32   []float32
}

// WriteSafetensors writes tensors in the safetensors format, in the order of their names.
func WriteSafetensors(w io.Writer, tensors map[string]Tensor) (err error) {
	defer stack.Add(&err)
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, at := map[string]entry{}, int64(0)
	names := slices.Sorted(maps.Keys(tensors))
	for _, name := range names {
		t := tensors[name]
		n := 1
		for _, d := range t.Shape {
			n *= d
		}
		if n != len(t.F32) {
			return stack.With(fmt.Errorf("tensor %q of shape %v has %d elements", name, t.Shape, len(t.F32)))
		}
		end := at + 4*int64(n)
		header[name] = entry{"F32", append([]int{}, t.Shape...), [2]int64{at, end}}
		at = end
	}
	raw, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(raw)%8 != 0 { // the data begin on a multiple of eight
		raw = append(raw, ' ')
	}
	out := append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...)
	for _, name := range names {
		for _, v := range tensors[name].F32 {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		}
	}
	_, err = w.Write(out)
	return err
}
