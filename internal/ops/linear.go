package ops

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/elem"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"gorgonia.org/tensor"
)

// Linear is Act(x w^T + bias) + residual.
//
//	x        [... In]
//	w        [Out In]
//	bias     [Out]          if Bias
//	residual [... Out]      if Residual
//	result   [... Out]      Out/2 if Act is GEGLU
type Linear struct {
	op.Plain
	Bias, Residual bool
	Act            op.Activation
}

func (k Linear) String() string {
	return fmt.Sprintf("Linear{bias=%t residual=%t act=%v}", k.Bias, k.Residual, k.Act)
}

func (k Linear) Arity() int { return 2 + op.Count(k.Bias, k.Residual) }

func (k Linear) Infer(in []tensor.Shape) (tensor.Shape, error) {
	x, w := in[0], in[1]
	if len(x) < 2 || len(w) != 2 || op.Last(x) != w[1] || k.Bias && !in[2].Eq(tensor.Shape{w[0]}) {
		return nil, op.BadShapes(k, in)
	}
	out := x.Clone()
	out[len(out)-1] = w[0]
	if k.Act == op.GEGLU {
		out[len(out)-1] = w[0] / 2
	}
	if k.Residual && !in[len(in)-1].Eq(out) {
		return nil, op.BadShapes(k, in)
	}
	return out, nil
}

func (k Linear) Define(out []float32, _ tensor.Shape, in []program.Arg) {
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

func (k Linear) Layout(i int) program.Layout {
	if i == 1 {
		return program.LinearPanels
	}
	return program.Plain
}

func (k Linear) epilogue(in []program.Arg) cpu.Epilogue {
	ep := cpu.Epilogue{Act: cpu.Activation(k.Act)}
	if k.Bias {
		ep.Bias = in[2].F32()
	}
	if k.Residual {
		ep.Residual = in[len(in)-1].F32()
	}
	return ep
}

func (k Linear) Host(p *cpu.Pool, out program.Arg, in []program.Arg) {
	p.Linear(out.F32(), in[0].F32(), op.Rows(in[0].Shape), in[1].Panels(), k.epilogue(in))
}

func (k Linear) DeviceLayout(i int) program.Layout {
	if i == 1 {
		return program.Rows
	}
	return program.Plain
}

func (k Linear) Float(i int) bool { return k.Bias && i == 2 }

func (k Linear) params(out device.Arg, in []device.Arg) *gemmParams {
	p := &gemmParams{x: in[0].Ptr, w: in[1].Ptr, out: out.Ptr, act: int32(k.Act),
		m: int32(op.Rows(in[0].Shape)), n: int32(in[1].Shape[0]), k: int32(in[1].Shape[1])}
	if k.Bias {
		p.bias = in[2].Ptr
	}
	if k.Residual {
		p.residual = in[len(in)-1].Ptr
	}
	return p
}

func (k Linear) Scratch(dev device.Kernels, out device.Arg, in []device.Arg) int {
	p := k.params(out, in)
	return gemmScratch(dev, p, int(p.k), out)
}

func (k Linear) Device(dev device.Kernels, out device.Arg, in []device.Arg,
	scratch device.Ptr) ([]device.Kernel, error) {
	p := k.params(out, in)
	return gemm(dev, "linear", p, int(p.k), out, scratch)
}

func (k Linear) FLOPs(_ tensor.Shape, in []tensor.Shape) int64 {
	return 2 * int64(op.Rows(in[0])) * int64(in[1].TotalSize())
}

func (k Linear) InPlace() []int {
	if k.Residual {
		return []int{k.Arity() - 1}
	}
	return nil
}

func (k Linear) Fuse(next op.Kind, _ int, out tensor.Shape) op.Kind {
	switch n := next.(type) {
	case elem.Activate:
		if k.Act == op.None && !k.Residual && n.Act.InEpilogues() && (n.Act != op.GEGLU || op.Last(out)%16 == 0) {
			k.Act = n.Act
			return k
		}
	case elem.Add:
		if !k.Residual {
			k.Residual = true
			return k
		}
	}
	return nil
}
