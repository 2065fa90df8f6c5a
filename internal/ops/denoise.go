package ops

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/cpu"
	"github.com/euryale-ml/euryale/internal/device"
	"github.com/euryale-ml/euryale/internal/ops/op"
	"github.com/euryale-ml/euryale/internal/program"
	"github.com/euryale-ml/euryale/sched"
	"gorgonia.org/tensor"
)

// onFloats is what the ops of the denoising loop share: they read and write float32 whatever the target's type, but for
// the model's input and output.
type onFloats struct{ op.Plain }

func (onFloats) FloatResult() bool { return true }

// schedulerParams is SchedulerParams of scheduler.cu.
type schedulerParams struct {
	state, model, spread, noise, step, out device.Ptr
	n, image                               int64 // elements: of a sample of all pictures; of one picture
	slots, sides                           int32
}

type ScaleModelInput struct {
	op.Plain
	N, B int
}

func (k ScaleModelInput) String() string   { return fmt.Sprintf("ScaleModelInput{n=%d b=%d}", k.N, k.B) }
func (k ScaleModelInput) Arity() int       { return 2 }
func (k ScaleModelInput) Float(i int) bool { return true }

func (k ScaleModelInput) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) != 4 || k.N < 1 || in[0][0]%k.N != 0 || k.B%k.N != 0 || !in[1].Eq(tensor.Shape{sched.StepSize}) {
		return nil, op.BadShapes(k, in)
	}
	out := in[0].Clone()
	out[0] = k.B
	return out, nil
}

func (k ScaleModelInput) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	state, scale := in[0].F32(), in[1].F32()[sched.AtScale]
	all := len(out) / shape[0] * k.N
	for i := range out {
		out[i] = state[i%all] * scale
	}
}

func (k ScaleModelInput) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	k.Define(out.F32(), out.Shape, in)
}

func (k ScaleModelInput) Device(_ device.Kernels, out device.Arg, in []device.Arg,
	_ device.Ptr) ([]device.Kernel, error) {
	image := out.Shape.TotalSize() / k.B
	p := &schedulerParams{state: in[0].Ptr, step: in[1].Ptr, out: out.Ptr, n: int64(image * k.N), image: int64(image),
		sides: int32(k.B / k.N)}
	return []device.Kernel{op.Launch("scale_model_input", out.DType, p, blocks(int(p.n)), 256, 0)}, nil
}

// blocks are those of 256 threads for n elements.
func blocks(n int) int { return min(65535, op.Ceil(n, 256)) }

// GuidanceSpread is what guided outputs are multiplied by so that their spread comes back towards that of the positive
// prompt's (rescale_noise_cfg of diffusers; section 3.4 of arXiv 2305.08891): 1 without guidance_rescale.
//
//	model  [2N H W C]
//	step   [sched.StepSize]
//	result [N]
type GuidanceSpread struct{ onFloats }

func (k GuidanceSpread) String() string   { return "GuidanceSpread{}" }
func (k GuidanceSpread) Arity() int       { return 2 }
func (k GuidanceSpread) Rank() int        { return 1 }
func (k GuidanceSpread) Float(i int) bool { return i == 1 }

func (k GuidanceSpread) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) != 4 || in[0][0]%2 != 0 || !in[1].Eq(tensor.Shape{sched.StepSize}) {
		return nil, op.BadShapes(k, in)
	}
	return tensor.Shape{in[0][0] / 2}, nil
}

func (k GuidanceSpread) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	model, step := in[0].F32(), in[1].F32()
	scale, rescale := step[sched.AtGuidance], step[sched.AtRescale]
	size := len(model) / 2 / shape[0]
	for b := range out {
		if rescale == 0 {
			out[b] = 1
			continue
		}
		neg, pos := model[b*size:][:size], model[(shape[0]+b)*size:][:size]
		wanted := spread(size, func(i int) float32 { return pos[i] })
		is := spread(size, func(i int) float32 { return neg[i] + scale*(pos[i]-neg[i]) })
		out[b] = rescale*float32(wanted/is) + (1 - rescale)
	}
}

// spread is the standard deviation, torch's, over n-1.
func spread(n int, x func(int) float32) float64 {
	_, inv := moments(n, 0, x)
	return math.Sqrt(float64(n)/float64(n-1)) / inv
}

func (k GuidanceSpread) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	k.Define(out.F32(), out.Shape, in)
}

func (k GuidanceSpread) Device(_ device.Kernels, out device.Arg, in []device.Arg,
	_ device.Ptr) ([]device.Kernel, error) {
	n := out.Shape[0]
	image := in[0].Shape.TotalSize() / 2 / n
	p := &schedulerParams{model: in[0].Ptr, step: in[1].Ptr, out: out.Ptr, n: int64(n * image), image: int64(image)}
	return []device.Kernel{op.Launch("guidance_spread", in[0].DType, p, n, 256, 8*4)}, nil
}

// SchedulerStep is Step's formulas.
type SchedulerStep struct {
	onFloats
	N             int
	Guided, Noisy bool
}

func (k SchedulerStep) String() string {
	return fmt.Sprintf("SchedulerStep{n=%d guided=%t noisy=%t}", k.N, k.Guided, k.Noisy)
}
func (k SchedulerStep) Arity() int       { return 3 + op.Count(k.Guided, k.Noisy) }
func (k SchedulerStep) Float(i int) bool { return i != 1 }
func (k SchedulerStep) InPlace() []int   { return []int{0} }

func (k SchedulerStep) Infer(in []tensor.Shape) (tensor.Shape, error) {
	state, model, sides := in[0], in[1], 1+op.Count(k.Guided)
	ok := len(state) == 4 && len(model) == 4 && k.N > 0 &&
		state[0]%k.N == 0 && state[0] <= sched.MaxState*k.N && model[0] == sides*k.N &&
		state[1:].Eq(model[1:]) && in[2].Eq(tensor.Shape{sched.StepSize})
	if k.Guided {
		ok = ok && in[3].Eq(tensor.Shape{k.N})
	}
	if k.Noisy {
		noise := in[len(in)-1]
		ok = ok && len(noise) == 4 && noise[0] == k.N && noise[1:].Eq(model[1:])
	}
	if !ok {
		return nil, op.BadShapes(k, in)
	}
	return op.SameShape(in)
}

func (k SchedulerStep) Define(out []float32, shape tensor.Shape, in []program.Arg) {
	state, model, step := in[0].F32(), in[1].F32(), in[2].F32()
	n := len(state) / (shape[0] / k.N)
	output := make([]float32, n)
	copy(output, model)
	if k.Guided {
		for i, neg := range output {
			output[i] = (neg + step[sched.AtGuidance]*(model[n+i]-neg)) * in[3].F32()[i/(n/k.N)]
		}
	}
	var noise []float32
	if k.Noisy {
		noise = in[len(in)-1].F32()
	}
	copy(out, state)
	sched.Apply(step, out, output, noise)
}

func (k SchedulerStep) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	k.Define(out.F32(), out.Shape, in)
}

func (k SchedulerStep) Device(_ device.Kernels, out device.Arg, in []device.Arg,
	_ device.Ptr) ([]device.Kernel, error) {
	slots := out.Shape[0] / k.N
	n := out.Shape.TotalSize() / slots
	p := &schedulerParams{state: in[0].Ptr, model: in[1].Ptr, step: in[2].Ptr, out: out.Ptr, n: int64(n),
		image: int64(n / k.N), slots: int32(slots), sides: int32(1 + op.Count(k.Guided))}
	if k.Guided {
		p.spread = in[3].Ptr
	}
	if k.Noisy {
		p.noise = in[len(in)-1].Ptr
	}
	return []device.Kernel{op.Launch("scheduler_step", in[1].DType, p, blocks(n), 256, 0)}, nil
}

// NonFinite has the definition of NonFinite. Several flags, so that several blocks look.
type NonFinite struct{ onFloats }

const flags = 64

func (k NonFinite) String() string   { return "NonFinite{}" }
func (k NonFinite) Arity() int       { return 2 }
func (k NonFinite) Rank() int        { return 2 }
func (k NonFinite) Float(i int) bool { return i == 1 }

func (k NonFinite) Infer(in []tensor.Shape) (tensor.Shape, error) {
	if len(in[0]) != 4 || len(in[1]) != 4 {
		return nil, op.BadShapes(k, in)
	}
	return tensor.Shape{2, flags}, nil
}

func (k NonFinite) Define(out []float32, _ tensor.Shape, in []program.Arg) {
	for j, a := range in {
		for i, v := range a.F32() {
			if v-v != 0 {
				out[j*flags+i/256%flags] = 1 // as the kernel's blocks share the elements
			}
		}
	}
}

func (k NonFinite) Host(_ *cpu.Pool, out program.Arg, in []program.Arg) {
	clear(out.F32())
	k.Define(out.F32(), out.Shape, in)
}

func (k NonFinite) Device(_ device.Kernels, out device.Arg, in []device.Arg, _ device.Ptr) ([]device.Kernel, error) {
	p := &schedulerParams{model: in[0].Ptr, state: in[1].Ptr, out: out.Ptr, image: int64(in[0].Shape.TotalSize()), n: int64(in[1].Shape.TotalSize())}
	return []device.Kernel{op.Launch("non_finite", in[0].DType, p, flags, 256, 8*4)}, nil
}
