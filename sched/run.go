package sched

import (
	"fmt"
	"math"
)

// Run is what a scheduler is asked to do: what diffusers' set_timesteps and set_begin_index are told. It has a number
// of steps, or one of the two lists, which not every class takes.
type Run struct {
	Steps     int       // num_inference_steps
	Timesteps []int     // what the model is told at each step, in place of the scheduler's own spacing
	Sigmas    []float64 // the noise before each step in units of signal, and after the last, where it is 0 as a rule

	// First is the step that the run begins with. Those before it are not taken, and a scheduler that remembers earlier
	// steps remembers none of them. See FirstStep.
	First int
	// FromImage says that the run is of image-to-image or inpainting, as is every run with First. Their pipelines tell the
	// scheduler the index of the first step. In text-to-image it looks for the first timestep, which must not come again.
	FromImage bool
}

// Beginner is a Scheduler that is told of the whole Run, and refuses by itself what it cannot do. Its SetTimesteps(n)
// is Begin(Run{Steps: n}).
type Beginner interface {
	// Begin begins a run. A run that the scheduler cannot do is an *Error.
	Begin(Run) error
}

// Mixer is a Scheduler for image-to-image and inpainting.
type Mixer interface {
	// Mix says what the sample before step i of a run consists of, as diffusers' add_noise makes it of a clean sample and
	// unit normal noise: signal*clean + noise*eps. Image-to-image begins with that of its first step. Inpainting replaces
	// what is known after each step by that of the next, and by the clean sample after the last.
	Mix(i int) (signal, noise float64)
}

// Begin begins a run of any scheduler. One that is no Beginner takes a number of steps alone. It can begin at a later
// step if it remembers nothing of earlier ones.
func Begin(s Scheduler, r Run) error {
	if b, ok := s.(Beginner); ok {
		return b.Begin(r)
	}
	n, err := r.spaced(s.Name())
	if err != nil {
		return err
	}
	if r.First > 0 && s.Samples() > 1 {
		return firstError("is %d, and %s can begin with step 0 alone: it keeps %d samples", r.First, s.Name(), s.Samples())
	}
	if err := s.SetTimesteps(n); err != nil || r.First == 0 {
		return err
	}
	return r.checkFirst(len(s.Timesteps()))
}

// FirstStep is the step that image-to-image of n steps begins with, as get_timesteps of diffusers' pipelines has it: a
// strength of 1 takes all steps, one of 0.3 the last three of ten. With lists n is the number of timesteps.
func FirstStep(n int, strength float64) (int, error) {
	if !(strength >= 0 && strength <= 1) {
		return 0, &Error{"strength", fmt.Sprintf("is %g, want 0 to 1", strength)}
	}
	left := int(float64(n) * strength)
	if left < 1 {
		return 0, &Error{"strength", fmt.Sprintf("%g leaves no step of %d, want %g at least", strength, n, 1/float64(n))}
	}
	return n - left, nil
}

// listed is the field of a run that has a list, or "".
func (r Run) listed() string {
	switch {
	case r.Timesteps != nil:
		return "timesteps"
	case r.Sigmas != nil:
		return "sigmas"
	}
	return ""
}

// Count is the number of steps that a run asks for. A run that no scheduler takes is an *Error.
func (r Run) Count() (int, error) {
	field, n := r.listed(), len(r.Timesteps)
	if r.Timesteps == nil {
		n = len(r.Sigmas) - 1
	}
	switch {
	case r.Timesteps != nil && r.Sigmas != nil:
		return 0, &Error{"sigmas", "cannot be given together with timesteps"}
	case field == "":
		return r.Steps, checkSteps(r.Steps)
	case r.Steps != 0:
		return 0, stepsError("is %d, and cannot be given together with %s", r.Steps, field)
	case field == "timesteps" && n < 1:
		return 0, &Error{field, "is an empty list, want one timestep at least"}
	case field == "sigmas" && n < 1:
		return 0, &Error{field, fmt.Sprintf("is a list of %d, want two at least: one a step and one after the last", n+1)}
	}
	return n, nil
}

// spaced is the number of steps of a run for a class that takes no lists.
func (r Run) spaced(class string) (int, error) {
	n, err := r.Count()
	if field := r.listed(); err == nil && field != "" {
		return 0, r.untaken(class)
	}
	return n, err
}

// takers are the classes that take a list.
var takers = map[string]string{
	"timesteps": "EulerDiscreteScheduler, DPMSolverMultistepScheduler and LCMScheduler take them",
	"sigmas":    "EulerDiscreteScheduler takes them",
}

// untaken is the error of a list that a class does not take.
func (r Run) untaken(class string) error {
	field := r.listed()
	return &Error{field, fmt.Sprintf("cannot be given to %s, which has a spacing of its own; %s", class, takers[field])}
}

// indexed reports whether the scheduler is told at which index the run begins.
func (r Run) indexed() bool { return r.FromImage || r.First > 0 }

// gives is the error of a run whose timesteps or sigmas come out wrong.
func (r Run) gives(format string, a ...any) error {
	what := fmt.Sprintf(format, a...)
	if field := r.listed(); field != "" {
		return &Error{field, "as listed give " + what}
	}
	return stepsError("%d gives %s", r.Steps, what)
}

// fewer is what a run that gives something twice needs.
func (r Run) fewer() string {
	if r.listed() != "" {
		return "it once"
	}
	return "fewer steps"
}

func firstError(format string, a ...any) error {
	return &Error{"begin_index", fmt.Sprintf(format, a...)}
}

// checkFirst refuses a run of n timesteps that begins with none of them.
func (r Run) checkFirst(n int) error {
	if n == 0 {
		return r.gives("no timestep at all")
	}
	if r.First < 0 || r.First >= n {
		return firstError("is %d, want 0 to %d: there are %d timesteps", r.First, n-1, n)
	}
	return nil
}

// checkTimesteps refuses what checkFirst does, and schedules that begin with a timestep that comes again. diffusers then
// begins with the second of them and fails after the last, unless it is told the index.
func (r Run) checkTimesteps(t []float32) error {
	if err := r.checkFirst(len(t)); err != nil || r.indexed() {
		return err
	}
	for _, v := range t[1:] {
		if v == t[0] {
			return r.gives("the first timestep, %g, twice, want %s", v, r.fewer())
		}
	}
	return nil
}

// maxSigma is the most that a sigma may be: more has no square in the float32 of diffusers.
const maxSigma = 1e18

// checkSigmas refuses lists whose samples would not be finite: each step divides by its sigma.
func (r Run) checkSigmas() error {
	for i, v := range r.Sigmas {
		switch {
		case !(math.Abs(v) <= maxSigma):
			return &Error{"sigmas", fmt.Sprintf("is %g at index %d, want a number up to %g", v, i, maxSigma)}
		case float32(v) == 0 && i+1 < len(r.Sigmas) && i >= r.First:
			return &Error{"sigmas", fmt.Sprintf("is 0 at index %d, want that only after the last step", i)}
		}
	}
	return nil
}

// whole are listed timesteps as numbers.
func (r Run) whole() []float64 {
	t := make([]float64, len(r.Timesteps))
	for i, v := range r.Timesteps {
		t[i] = float64(v)
	}
	return t
}
