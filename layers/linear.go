package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// linear is act(x w^T + bias) + residual.
//
//	x        [... In]
//	w        [Out In]
//	bias     [Out]          if bias
//	residual [... Out]      if residual
//	result   [... Out]      Out/2 if act is GEGLU
type linear struct {
	plain
	Bias, Residual bool
	Act            activation
}

func (k linear) String() string {
	return fmt.Sprintf("Linear{bias=%t residual=%t act=%v}", k.Bias, k.Residual, k.Act)
}

func (k linear) Arity() int { return 2 + b2i(k.Bias, k.Residual) }

func (k linear) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x, w := in[0], in[1]
	if len(x) < 2 || len(w) != 2 || last(x) != w[1] || k.Bias && !in[2].Eq(tensor.Shape{w[0]}) {
		return nil, shapeError(k, in)
	}
	out := x.Clone()
	out[len(out)-1] = w[0]
	if k.Act == GEGLU {
		out[len(out)-1] = w[0] / 2
	}
	if k.Residual && !in[len(in)-1].Eq(out) {
		return nil, shapeError(k, in)
	}
	return out, nil
}

func (k linear) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	x, w := in[0].F32(), in[1].F32()
	n, kk := in[1].Shape[0], in[1].Shape[1]
	y := make([]float32, n)
	wide := len(out) / (len(x) / kk)
	for r := range len(x) / kk {
		for j := range y {
			var sum float64
			for i := range kk {
				sum += float64(x[r*kk+i]) * float64(w[j*kk+i])
			}
			if k.Bias {
				sum += float64(in[2].F32()[j])
			}
			y[j] = float32(sum)
		}
		row := out[r*wide:][:wide]
		k.Act.Define(row, y)
		if k.Residual {
			for j, v := range in[len(in)-1].F32()[r*wide:][:wide] {
				row[j] += v
			}
		}
	}
}

func (k linear) Layout(i int) program.Layout {
	if i == 1 {
		return program.LinearPanels
	}
	return program.Plain
}

func (k linear) epilogue(in []program.Arg) cpu.Epilogue {
	ep := cpu.Epilogue{Act: cpu.Activation(k.Act)}
	if k.Bias {
		ep.Bias = in[2].F32()
	}
	if k.Residual {
		ep.Residual = in[len(in)-1].F32()
	}
	return ep
}

func (k linear) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Linear(out.F32(), in[0].F32(), rows(in[0].Shape), in[1].Panels(), k.epilogue(in))
}

func (k linear) DeviceLayout(i int) program.Layout {
	if i == 1 {
		return program.Rows
	}
	return program.Plain
}

func (k linear) Float(i int) bool { return k.Bias && i == 2 }

func (k linear) params(out device.Arg, in []device.Arg) *gemmParams {
	p := &gemmParams{x: in[0].Ptr, w: in[1].Ptr, out: out.Ptr, act: int32(k.Act),
		m: int32(rows(in[0].Shape)), n: int32(in[1].Shape[0]), k: int32(in[1].Shape[1])}
	if k.Bias {
		p.bias = in[2].Ptr
	}
	if k.Residual {
		p.residual = in[len(in)-1].Ptr
	}
	return p
}

func (k linear) Scratch(dev device.Kernels, out device.Arg, in []device.Arg) int {
	p := k.params(out, in)
	return gemmScratch(dev, p, int(p.k), out)
}

func (k linear) Device(dev device.Kernels, out device.Arg, in []device.Arg, scratch device.Ptr) ([]device.Kernel, error) {
	p := k.params(out, in)
	return gemm(dev, "linear", p, int(p.k), out, scratch)
}

func (k linear) FLOPs(_ tensor.Shape, in []tensor.Shape) int64 {
	return 2 * int64(rows(in[0])) * int64(in[1].TotalSize())
}

func (k linear) InPlace() []int {
	if k.Residual {
		return []int{k.Arity() - 1}
	}
	return nil
}

func (k linear) Fuse(next kind, _ int, out tensor.Shape) kind {
	switch n := next.(type) {
	case activate:
		if k.Act == None && !k.Residual && (n.Act != GEGLU || last(out)%16 == 0) {
			k.Act = n.Act
			return k
		}
	case add:
		if !k.Residual {
			k.Residual = true
			return k
		}
	}
	return nil
}
