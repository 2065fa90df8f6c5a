package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/euryale-ml/euryale/pipeline"
)

// progress shows the steps: a bar on a terminal, lines elsewhere.
type progress struct {
	w     io.Writer
	bar   bool
	quiet bool
	first time.Time // end of the first step: what came before is mostly loading
	last  time.Time
	shown bool
}

func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w, quiet: quiet}
	if f, ok := w.(*os.File); ok {
		st, err := f.Stat()
		p.bar = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) step(s pipeline.Step) error {
	if p.quiet {
		return nil
	}
	now := time.Now()
	took := now.Sub(p.last)
	p.last = now
	rest := ""
	if p.first.IsZero() {
		p.first = now
	} else {
		per := now.Sub(p.first) / time.Duration(s.Index)
		rest = fmt.Sprintf("  %s/step  %s left", round(took), round(per*time.Duration(s.Total-s.Index-1)))
	}
	done := s.Index + 1
	if !p.bar {
		fmt.Fprintf(p.w, "step %d/%d%s\n", done, s.Total, rest)
		return nil
	}
	const width = 30
	full := width * done / s.Total
	fmt.Fprintf(p.w, "\r%s%s %d/%d%s\x1b[K", strings.Repeat("█", full), strings.Repeat("░", width-full), done, s.Total, rest)
	p.shown = true
	return nil
}

// end leaves the bar's line.
func (p *progress) end() {
	if p.shown {
		fmt.Fprintln(p.w)
	}
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
