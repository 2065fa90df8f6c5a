package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// flagSet is a command's flags by topic, the only table of them: parsing, help and completion read it.
type flagSet struct {
	*flag.FlagSet
	command string
	topics  []topic
	// choices are what a flag, or the command itself under "", may be given; files and folders are completed as such.
	choices map[string][]string
}

type topic struct {
	title string
	flags []string // in the order of registration
}

// Stand-ins among choices for what a shell completes by itself.
const (
	anyFile   = "<file>"
	anyFolder = "<folder>"
)

func newFlagSet(command string) *flagSet {
	fs := &flagSet{flag.NewFlagSet(command, flag.ContinueOnError), command, nil, map[string][]string{}}
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// topic begins a group of flags.
func (fs *flagSet) topic(title string) { fs.topics = append(fs.topics, topic{title: title}) }

// value registers a flag in the latest topic. Flags have one dash or two.
func (fs *flagSet) value(v flag.Value, name, usage string, choices ...string) {
	if len(fs.topics) == 0 {
		fs.topic("")
	}
	t := &fs.topics[len(fs.topics)-1]
	t.flags = append(t.flags, name)
	if len(choices) > 0 {
		fs.choices[name] = choices
	}
	fs.Var(v, name, usage)
}

func (fs *flagSet) text(p *string, name, value, usage string, choices ...string) {
	*p = value
	fs.value((*text)(p), name, usage, choices...)
}

func (fs *flagSet) yes(p *bool, name, usage string) { fs.value((*yes)(p), name, usage) }

// whole is a flag for a number from least to most, which is 0 where something else bounds it.
func (fs *flagSet) whole(p *int, name string, least, most int, usage string) {
	fs.value(&whole{p, least, most}, name, usage)
}

func (fs *flagSet) real(p *float32, name, usage string) { fs.value((*real)(p), name, usage) }

// wholes and reals are flags for numbers with commas between.
func (fs *flagSet) wholes(p *[]int, name, usage string) {
	fs.value(&numbers[int]{p, strconv.Atoi, "whole numbers"}, name, usage)
}

func (fs *flagSet) reals(p *[]float64, name, usage string) {
	fs.value(&numbers[float64]{p, finite, "numbers"}, name, usage)
}

// given reports whether a flag is on the command line.
func (fs *flagSet) given(name string) (is bool) {
	fs.Visit(func(f *flag.Flag) { is = is || f.Name == name })
	return is
}

// parse reads the flags, and the operand of a command that has choices for one.
func (fs *flagSet) parse(args []string) (help bool, err error) {
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return true, nil
	} else if err != nil {
		return false, fs.explain(err)
	}
	most := 0
	if len(fs.choices[""]) > 0 {
		most = 1
	}
	if fs.NArg() > most {
		return false, fmt.Errorf("%s does not take the argument %q; flags begin with a dash, and what has spaces needs quotes",
			fs.command, fs.Arg(most))
	}
	return false, nil
}

// explain makes a line of an error of package flag.
func (fs *flagSet) explain(err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err
	}
	names := fs.names()
	near := elsewhere[name]
	if !slices.Contains(names, near) {
		near = nearest(name, names)
	}
	if near == "" {
		return fmt.Errorf("%s has no flag -%s; \"euryale %s -h\" lists them", fs.command, name, fs.command)
	}
	return fmt.Errorf("%s has no flag -%s; did you mean -%s?", fs.command, name, near)
}

func (fs *flagSet) names() (all []string) {
	for _, t := range fs.topics {
		all = append(all, t.flags...)
	}
	return all
}

// elsewhere are names that diffusers and other programs have for these flags.
var elsewhere = map[string]string{
	"prompt": "p", "negative-prompt": "n", "negative": "n", "model": "m", "output": "o", "out": "o", "seed": "s",
	"width": "W", "height": "H",
	"guidance-scale": "cfg-scale", "guidance": "cfg-scale", "cfg": "cfg-scale", "num-inference-steps": "steps",
	"scheduler":       "sampler",
	"sampling-method": "sampler", "num-images": "batch", "batch-count": "batch", "vram": "max-vram", "ram": "max-ram",
}

// help prints the flags by topic.
func (fs *flagSet) help(w io.Writer, summary string) {
	fmt.Fprintf(w, "usage: euryale %s [flags]", fs.command)
	if c := fs.choices[""]; len(c) > 0 {
		fmt.Fprintf(w, " %s", strings.Join(c, "|"))
	}
	fmt.Fprintf(w, "\n\n%s%s.\n", strings.ToUpper(summary[:1]), summary[1:])
	for _, t := range fs.topics {
		fmt.Fprintf(w, "\n%s\n", t.title)
		for _, name := range t.flags {
			f := fs.Lookup(name)
			arg, usage := flag.UnquoteUsage(f)
			fmt.Fprintf(w, "  %-26s %s\n", strings.TrimSpace("-"+name+" "+arg), usage)
		}
	}
}

// nearest is the name that few changes make of a word, or "".
func nearest(word string, names []string) string {
	best, least := "", 1+len(word)/3
	for _, n := range names {
		if d := distance(word, n); d <= least && d < max(len(n), len(word)) && (best == "" || d < least) {
			best, least = n, d
		}
	}
	return best
}

// distance is the least number of letters that must be added, removed, changed or swapped with their neighbour.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, last, row := rows[0], rows[1], rows[2]
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

type text string

func (t *text) Set(s string) error { *t = text(s); return nil }
func (t *text) String() string     { return string(*t) }

type yes bool

func (y *yes) Set(s string) error {
	v, err := strconv.ParseBool(s)
	*y = yes(v)
	if err != nil {
		return errors.New("want true or false")
	}
	return nil
}
func (y *yes) String() string   { return strconv.FormatBool(bool(*y)) }
func (y *yes) IsBoolFlag() bool { return true }

type whole struct {
	p           *int
	least, most int
}

func (v *whole) Set(s string) error {
	n, err := strconv.Atoi(s)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errors.New("that is more than any limit")
	case err != nil:
		return errors.New("want a whole number")
	case n < v.least && v.most == 0:
		return fmt.Errorf("want %d or more", v.least)
	case n < v.least || v.most > 0 && n > v.most:
		return fmt.Errorf("want %d to %d", v.least, v.most)
	}
	*v.p = n
	return nil
}

func (v *whole) String() string {
	if v.p == nil || *v.p == 0 {
		return ""
	}
	return strconv.Itoa(*v.p)
}

// real is a finite number.
type real float32

func (r *real) Set(s string) error {
	v, err := strconv.ParseFloat(s, 32)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return errors.New("want a number")
	}
	*r = real(v)
	return nil
}

func (r *real) String() string { return strconv.FormatFloat(float64(*r), 'g', -1, 32) }

// numbers is a list with commas between, and spaces if they are quoted.
type numbers[T any] struct {
	p     *[]T
	parse func(string) (T, error)
	what  string
}

func (l *numbers[T]) Set(s string) error {
	var all []T
	for _, part := range strings.Split(s, ",") {
		v, err := l.parse(strings.TrimSpace(part))
		if err != nil {
			return fmt.Errorf("want %s with commas between, as in 9,6,3", l.what)
		}
		all = append(all, v)
	}
	*l.p = all
	return nil
}

func (l *numbers[T]) String() string {
	if l.p == nil {
		return ""
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*l.p), " ", ","), "[]")
}

// finite reads a number that is finite.
func finite(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
		err = strconv.ErrRange
	}
	return v, err
}

// seed is a number from 0 on; negative ones ask for a random one.
type seed int64

func (v *seed) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("want a whole number up to %d; a negative one asks for a random seed", int64(math.MaxInt64))
	}
	*v = seed(n)
	return nil
}

func (v *seed) String() string { return strconv.FormatInt(int64(*v), 10) }
