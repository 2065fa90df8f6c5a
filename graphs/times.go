package graphs

import (
	"time"

	"github.com/euryale-ml/euryale/internal/program"
)

// Times is where the time of a call went. Compiling a network counts with the stage that first runs it.
type Times struct {
	Load   time.Duration   // reading and packing weights; nothing once they are held
	Text   time.Duration   // the text encoders
	Steps  []time.Duration // the first also computes what is the same in all steps; OnStepEnd is left out
	Decode time.Duration
}

// times fills a Times in.
type times struct {
	Times
	weights       *program.Weights
	took          time.Duration // by the weights before the call
	last          time.Time     // the end of the last lap
	tookUntilLast time.Duration
}

func newTimes(w *program.Weights) *times {
	return &times{weights: w, took: w.Took(), last: time.Now(), tookUntilLast: w.Took()}
}

// lap is the time since the last one, without that of loading weights.
func (t *times) lap() time.Duration {
	now, took := time.Now(), t.weights.Took()
	d := now.Sub(t.last) - (took - t.tookUntilLast)
	t.last, t.tookUntilLast = now, took
	return d
}
