package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// ours is the engine that the others are compared with.
const ours = "euryale"

// record is what bench/peers/record.py writes.
type record struct {
	Date     string         `json:"date"`
	Command  string         `json:"command"`
	Seed     int            `json:"seed"`
	Machine  map[string]any `json:"machine"`
	Versions map[string]any `json:"versions"`
	Samples  []sample       `json:"samples"`
	Failures []failure      `json:"failures"`
}

type sample struct {
	Case     string  `json:"case"`
	Engine   string  `json:"engine"` // empty: a property of the machine
	Quantity string  `json:"quantity"`
	Unit     string  `json:"unit"` // s, B, FLOP/s
	Round    int     `json:"round"`
	Value    float64 `json:"value"`
	Work     float64 `json:"work"` // done in Value seconds, if known
	WorkUnit string  `json:"work_unit"`
}

type failure struct{ Case, Engine, Error string }

// markdown writes what was run on what, and a table for each case.
func (r record) markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`, %s, seed %d; %s; %s.\n", r.Command, r.Date, r.Seed, list(r.Machine), list(r.Versions))
	r.verdict(&b)
	for _, c := range r.cases() {
		fmt.Fprintf(&b, "\n### %s\n\n", c)
		t := r.in(c)
		t.leaveOutDisturbed()
		for _, f := range r.Failures {
			if f.Case == c {
				t.failures = append(t.failures, f)
			}
		}
		t.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func list(m map[string]any) string {
	var s []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s = append(s, fmt.Sprintf("%s %v", k, m[k]))
	}
	return strings.Join(s, ", ")
}

// cases are in the order in which they first appear.
func (r record) cases() (cases []string) {
	for _, s := range r.Samples {
		cases = first(cases, s.Case)
	}
	for _, f := range r.Failures {
		cases = first(cases, f.Case)
	}
	return cases
}

// first appends s unless it is there.
func first(all []string, s string) []string {
	if slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

// table is one case.
type table struct {
	samples  []sample
	failures []failure
	notes    []string
}

// others is the share of the cores that other processes took while a picture was made; beyond tolerated, its times
// tell little, because threads that wait by spinning lose out of proportion.
const (
	others    = "other processes"
	tolerated = 0.1
)

// leaveOutDisturbed leaves out the pictures that were disturbed, and says so. An engine of which nothing would be left
// keeps them all, and its name says so.
func (t *table) leaveOutDisturbed() {
	type picture struct {
		engine string
		round  int
	}
	disturbed := map[picture]bool{}
	all, quiet := map[string]int{}, map[string]int{}
	for _, s := range t.samples {
		if s.Quantity == others {
			all[s.Engine]++
			if s.Value > tolerated {
				disturbed[picture{s.Engine, s.Round}] = true
			} else {
				quiet[s.Engine]++
			}
		}
	}
	var kept []sample
	for _, s := range t.samples {
		switch {
		case disturbed[picture{s.Engine, s.Round}] && quiet[s.Engine] > 0:
			continue
		case all[s.Engine] > 0 && quiet[s.Engine] == 0:
			s.Engine += disturbedMark
		}
		kept = append(kept, s)
	}
	t.samples = kept
	for _, e := range slices.Sorted(maps.Keys(all)) {
		if n := all[e] - quiet[e]; n > 0 && quiet[e] > 0 {
			t.notes = append(t.notes, fmt.Sprintf("%s: %d of %d pictures left out, because other processes took more than %g of the cores.", e, n, all[e], tolerated))
		}
	}
}

// disturbedMark is added to an engine's name. Such a row is compared with nothing.
const disturbedMark = " (disturbed by other processes: of no worth)"

func (t table) write(b *strings.Builder) {
	var quantities []string
	engines := []string{ours} // has a row, measured or not
	for _, s := range t.samples {
		quantities = first(quantities, s.Quantity)
		engines = first(engines, s.Engine)
	}
	if slices.Contains(engines, ours+disturbedMark) {
		engines = engines[1:]
	}
	if len(engines) == 2 && engines[1] == "" {
		t.machine(b, quantities)
		return
	}
	if len(quantities) == 0 { // everything failed
		quantities = []string{""}
	}
	lines, columns, cell := engines, quantities, t.cell
	if len(quantities) > wide {
		lines, columns, cell = quantities, engines, func(quantity, engine string) string { return t.cell(engine, quantity) }
	}
	fmt.Fprintf(b, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, l := range lines {
		fmt.Fprintf(b, "| %s |", l)
		for _, c := range columns {
			fmt.Fprintf(b, " %s |", cell(l, c))
		}
		b.WriteByte('\n')
	}
	t.failed(b, len(columns))
	for _, n := range t.notes {
		fmt.Fprintf(b, "\n%s\n", n)
	}
}

// wide is the most quantities that are columns; more are lines.
const wide = 10

// machine is a table of one row per quantity.
func (t table) machine(b *strings.Builder, quantities []string) {
	b.WriteString("| | |\n|---|---|\n")
	for _, q := range quantities {
		fmt.Fprintf(b, "| %s | %s |\n", q, t.cell("", q))
	}
	t.failed(b, 1)
}

// failed adds a row for each failure, as wide as the others.
func (t table) failed(b *strings.Builder, columns int) {
	for _, f := range t.failures {
		text := strings.NewReplacer("|", "\\|", "\n", " ").Replace(f.Error)
		fmt.Fprintf(b, "| %s | failed: %s |%s\n", f.Engine, text, strings.Repeat(" |", columns-1))
	}
}

// cell is the median with the least and the greatest, as a rate where one is known, and as a multiple of ours.
func (t table) cell(engine, quantity string) string {
	got := t.of(engine, quantity)
	if len(got) == 0 {
		return "not measured"
	}
	var values, rates []float64
	for _, s := range got {
		values = append(values, s.Value)
		if s.Work > 0 && s.Value > 0 {
			rates = append(rates, s.Work/s.Value)
		}
	}
	text := spread(values, got[0].Unit)
	if len(rates) > 0 {
		text += ", " + amount(median(rates), got[0].WorkUnit+"/s")
	}
	if x, ok := ratio(got, t.of(ours, quantity)); ok && engine != ours && !strings.HasSuffix(engine, disturbedMark) && slices.Contains([]string{"s", "B"}, got[0].Unit) {
		text += fmt.Sprintf("; %.2f x", x)
	}
	return text
}

func (t table) of(engine, quantity string) (got []sample) {
	for _, s := range t.samples {
		if s.Engine == engine && s.Quantity == quantity {
			got = append(got, s)
		}
	}
	return got
}

// ratio is the median over the rounds in which both took part of a's median to b's; of times per work where the work
// is known. Rounds are compared each within itself, because the machine may be slower in one than in another.
func ratio(a, b []sample) (float64, bool) {
	var of []float64
	for round, x := range rounds(a) {
		if y := rounds(b)[round]; len(y) > 0 && median(y) > 0 {
			of = append(of, median(x)/median(y))
		}
	}
	if len(of) == 0 {
		return 0, false
	}
	return median(of), true
}

func rounds(all []sample) map[int][]float64 {
	m := map[int][]float64{}
	for _, s := range all {
		v := s.Value
		if s.Work > 0 {
			v /= s.Work
		}
		m[s.Round] = append(m[s.Round], v)
	}
	return m
}

// median of at least one number; of an even count, the middle of the two in the middle.
func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// spread is the median, with the least and greatest if there are several.
func spread(x []float64, unit string) string {
	text := amount(median(x), unit)
	if len(x) == 1 {
		return text
	}
	return fmt.Sprintf("%s (%s to %s)", text, number(slices.Min(x), unit), number(slices.Max(x), unit))
}

// scales are the units that figures are shown in.
var scales = map[string]struct {
	by   float64
	unit string
}{"s": {1, "s"}, "B": {1 << 20, "MiB"}, "FLOP/s": {1e9, "GFLOP/s"}, "B/s": {1e9, "GB/s"}}

func amount(v float64, unit string) string {
	shown := unit
	if s, ok := scales[unit]; ok {
		shown = s.unit
	}
	return number(v, unit) + " " + shown
}

// number is v in the unit's scale, with three digits that count.
func number(v float64, unit string) string {
	if s, ok := scales[unit]; ok {
		v /= s.by
	}
	if v >= 100 || v == 0 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%#.3g", v)
}
