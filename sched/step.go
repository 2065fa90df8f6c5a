package sched

// Note [Steps as numbers]
//
// What a scheduler does to latents in a step is linear in them, in the model's output, in noise and in what it
// remembers of earlier steps; only the predicted clean sample may be clipped on the way. So a step is data, a few
// coefficients, and one op takes the step of every scheduler. The coefficients are an input of the graph: the same
// compiled loop serves all steps, and on a device the latents stay there from the first to the last.

// Step is one step of a scheduler and its guidance; see Note [Steps as numbers].
//
//	x         = state[0]
//	output    = negative + Guidance (positive - negative), brought back by Rescale to the spread of positive
//	clean     = (Clean[0] x + Clean[1] output) / Clean[2], clipped to Clip
//	state'[j] = sum over k of Rows[j].State[k] state[k], + Rows[j].Output output + Rows[j].Clean clean + Rows[j].Noise noise
type Step struct {
	InputScale float32 // of x, for the model
	Guidance   float32
	Rescale    float32 // guidance_rescale
	Clean      [3]float64
	Clip       float64 // infinite for none
	Rows       []Row   // one per sample of the state
	Draws      bool    // noise is drawn for the step, also where no row has a share of it
}

// Row makes one sample of the next state.
type Row struct {
	State                [MaxState]float64
	Output, Clean, Noise float64
}

// MaxState is the most samples a scheduler may keep: Runge-Kutta and then multistep needs them.
const MaxState = 6

// StepSize is the number of coefficients of a step.
const StepSize = AtRows + MaxState*(MaxState+3)

// Where the numbers lie among the coefficients, as in scheduler.cu.
const (
	AtScale = iota
	AtGuidance
	AtRescale
	AtClean
	AtClip = AtClean + 3
	AtRows = AtClip + 1
)

// Coefficients writes the step as the ops read it.
//
//	dst [StepSize]
func (s Step) Coefficients(dst []float32) {
	clear(dst)
	dst[AtScale], dst[AtGuidance], dst[AtRescale], dst[AtClip] = s.InputScale, s.Guidance, s.Rescale, float32(s.Clip)
	for i, v := range s.Clean {
		dst[AtClean+i] = float32(v)
	}
	for j, r := range s.Rows {
		row := dst[AtRows+j*(MaxState+3):]
		for k, v := range r.State {
			row[k] = float32(v)
		}
		row[MaxState], row[MaxState+1], row[MaxState+2] = float32(r.Output), float32(r.Clean), float32(r.Noise)
	}
}

// Apply takes a state past a step without guidance.
//
//	state  [K N]    in place
//	output [N]      of the model
//	noise  [N]      nil for none
func Apply(step, state, output, noise []float32) {
	n := len(output)
	var old [MaxState]float32
	for i, out := range output {
		slots := len(state) / n
		for k := range slots {
			old[k] = state[k*n+i]
		}
		clean := (step[AtClean]*old[0] + step[AtClean+1]*out) / step[AtClean+2]
		clean = min(max(clean, -step[AtClip]), step[AtClip])
		for j := range slots {
			row := step[AtRows+j*(MaxState+3):][:MaxState+3]
			sum := row[MaxState]*out + row[MaxState+1]*clean
			for k := range slots {
				sum += row[k] * old[k]
			}
			if noise != nil && row[MaxState+2] != 0 {
				sum += row[MaxState+2] * noise[i]
			}
			state[j*n+i] = sum
		}
	}
}
