// Package offload decides where every weight of a diffusion pipeline lives at every moment.
//
// An Inventory says what will run: phases (text encoders, UNet, VAE), their calls, and the weights each call
// reads. A Strategy makes a Plan of it: an address in device memory for every weight, copies with what each
// waits for, and the peak, all known before anything runs. Verify proves a plan, Simulate runs it on a clock,
// Engine executes it. Plans are data: they print, marshal, load and replay.
//
// Weights are immutable. Their masters stay on the host, so moving a layer off the device copies nothing: its
// memory is given to another.
package offload

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// Plan places a pipeline's weights in one arena of Peak bytes.
//
// Every load has a fixed address, and a phase runs the same loads in each pass, so a plan of a phase describes
// all of its passes. Copies run one after the other in the order of Loads; a copy begins when the one before it
// is done and when the calls it waits for are.
type Plan struct {
	Strategy string         `json:"strategy"`
	Why      string         `json:"why,omitempty"` // of a strategy that searched
	Peak     int            `json:"peak"`
	Phases   []PhaseRegion  `json:"phases"`
	Loads    []Load         `json:"loads"` // by phase, then by first use
	Options  map[string]int `json:"options,omitempty"`
}

// PhaseRegion is where a phase's activations lie.
type PhaseRegion struct {
	Title  string `json:"title"`
	Offset int    `json:"offset"`
	Bytes  int    `json:"bytes"`
}

// Residence is how long a load stays.
type Residence uint8

const (
	Streamed Residence = iota // for one pass: copied again in each
	Held                      // from its phase to the phase Until: copied once per image
	Kept                      // for ever: copied once
)

func (r Residence) String() string { return [...]string{"streamed", "held", "kept"}[r] }

// MarshalText and UnmarshalText make plans readable.
func (r Residence) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r *Residence) UnmarshalText(b []byte) error {
	for _, v := range []Residence{Streamed, Held, Kept} {
		if v.String() == string(b) {
			*r = v
			return nil
		}
	}
	return fmt.Errorf("offload: residence %q is not streamed, held or kept", b)
}

// Load is a run of weights copied together.
type Load struct {
	Phase   int       `json:"phase"`
	Until   int       `json:"until"` // last phase that reads it; Phase if streamed
	Stays   Residence `json:"stays"`
	Weights []int     `json:"weights"` // of the inventory, one after the other from Offset, aligned
	Offset  int       `json:"offset"`
	Bytes   int       `json:"bytes"`
	First   int       `json:"first"` // calls of Phase that read it first and last
	Last    int       `json:"last"`  // of Until
	Waits   []Point   `json:"waits,omitempty"`
}

// Point is a call. A copy that waits for it waits for the latest time it runs before the load is needed: in the
// same pass if the call comes before First, else in the pass before; of an earlier phase, in its last pass.
type Point struct {
	Phase int `json:"phase"`
	Call  int `json:"call"`
}

// Uploaded is the number of bytes copied for an image, once per image and per step of each phase.
func (p *Plan) Uploaded(inv *Inventory) (once int, perPass []int) {
	perPass = make([]int, len(inv.Phases))
	for _, l := range p.Loads {
		n := 0
		for _, w := range l.Weights {
			n += inv.Weights[w].Bytes
		}
		if l.Stays == Streamed {
			perPass[l.Phase] += n
		} else {
			once += n
		}
	}
	return once, perPass
}

// WriteTable prints the plan: per phase, what is where.
func (p *Plan) WriteTable(w io.Writer, inv *Inventory) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "phase\tpasses\tcalls\tactivations\tkept\theld\tstreamed per pass\tloads\t\n")
	for i := range inv.Phases {
		var bytes [3]int
		loads := 0
		for _, l := range p.Loads {
			if l.Phase <= i && i <= l.Until {
				bytes[l.Stays] += l.Bytes
				if l.Phase == i {
					loads++
				}
			}
		}
		ph := &inv.Phases[i]
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%d\t\n", ph.Title(), ph.Passes, len(ph.Calls), mib(p.Phases[i].Bytes), mib(bytes[Kept]), mib(bytes[Held]), mib(bytes[Streamed]), loads)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s: peak %s of device memory\n", p.Strategy, mib(p.Peak))
	if p.Why != "" && err == nil {
		_, err = fmt.Fprintln(w, p.Why)
	}
	return err
}

// maxPlanText bounds the text of a plan, to many times that of the largest model's.
const maxPlanText = 32 << 20

// ReadPlan loads a plan that was marshalled as JSON. Verify it against the inventory before use.
func ReadPlan(r io.Reader) (*Plan, error) {
	p := &Plan{}
	in := &io.LimitedReader{R: r, N: maxPlanText}
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	switch err := d.Decode(p); {
	case in.N == 0:
		return nil, bad(-1, "its text is longer than %d bytes", maxPlanText-1)
	case err != nil:
		return nil, fmt.Errorf("offload: plan: %w", err)
	}
	return p, nil
}
