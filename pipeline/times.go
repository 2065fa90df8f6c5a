package pipeline

import "time"

// Times is where the time of a call went. Planning it and compiling its networks count nowhere.
type Times struct {
	Load   time.Duration   // reading and packing weights; nothing once they are held
	Text   time.Duration   // the text encoders
	Steps  []time.Duration // the first also computes what is the same in all steps; OnStepEnd is left out
	Decode time.Duration
}

// times fills a Times in.
type times struct {
	Times
	loaded        func() time.Duration // so far, ever
	took          time.Duration        // before the call
	last          time.Time            // the end of the last lap
	tookUntilLast time.Duration
}

func newTimes(loaded func() time.Duration) *times {
	took := loaded()
	return &times{loaded: loaded, took: took, last: time.Now(), tookUntilLast: took}
}

// lap is the time since the last one, without that of loading weights.
func (t *times) lap() time.Duration {
	now, took := time.Now(), t.loaded()
	d := now.Sub(t.last) - (took - t.tookUntilLast)
	t.last, t.tookUntilLast = now, took
	return d
}
