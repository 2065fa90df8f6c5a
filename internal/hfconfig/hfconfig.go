// Package hfconfig reads the config.json files of Hugging Face models: named fields with defaults and ranges,
// every problem collected, nothing silently dropped.
package hfconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/strictjson"
)

// Config is one file being read. Reading goes on after a problem, so that Err can report all of them.
type Config struct {
	file     string
	fields   map[string]json.RawMessage
	asked    map[string]bool
	problems []error
}

// Parse reads the object in raw, which may have Python's literals. file is its name in errors.
func Parse(file string, raw []byte) *Config {
	c := &Config{file: file, asked: map[string]bool{}}
	if err := json.Unmarshal(strictjson.Plain(raw), &c.fields); err != nil || c.fields == nil {
		c.problems = append(c.problems, &badmodel.Error{File: file, Got: "not a JSON object", Err: err})
		c.fields = map[string]json.RawMessage{}
	}
	return c
}

// ParseDiffusers is Parse for a config of diffusers, which leaves out the keys that _use_default_values lists.
func ParseDiffusers(file string, raw []byte) *Config {
	c := Parse(file, raw)
	for _, f := range c.Strings("_use_default_values", nil) {
		delete(c.fields, f)
	}
	return c
}

// Err joins every problem met so far.
func (c *Config) Err() error { return errors.Join(c.problems...) }

// Bad records a problem with a field.
func (c *Config) Bad(field, got, want string) {
	c.problems = append(c.problems, &badmodel.Error{File: c.file, Field: field, Got: badmodel.Quote(got), Want: want})
}

// refuse records that a field's value, shown as JSON, is not what is wanted.
func (c *Config) refuse(field, want string) {
	got := strictjson.Text(c.fields[field])
	if r := []rune(got); len(r) > 80 {
		got = string(r[:80]) + "..."
	}
	c.problems = append(c.problems, &badmodel.Error{File: c.file, Field: field, Got: got, Want: want})
}

// Has reports whether the field is there and not null.
func (c *Config) Has(field string) bool {
	c.asked[field] = true
	raw, ok := c.fields[field]
	return ok && !bytes.Equal(raw, []byte("null"))
}

// Null reports whether the field is there and null. That is no default: Python passes None on, which only some
// arguments take. Optional names those for which it means the same as absence.
func (c *Config) Null(field string) bool {
	return c.Is(field, "null")
}

// Optional names fields whose null means what their absence means.
func (c *Config) Optional(fields ...string) {
	for _, f := range fields {
		if c.Null(f) {
			delete(c.fields, f)
		}
	}
}

// Within goes on in an object inside, if there is one.
func (c *Config) Within(field string) *Config {
	if raw, ok := c.fields[field]; ok {
		return Parse(c.file, raw)
	}
	return c
}

// missing reports whether a field is absent, or null, which is then refused.
func (c *Config) missing(field, want string) bool {
	if c.Null(field) {
		c.refuse(field, want)
	}
	return !c.Has(field)
}

// read decodes a field into v; false if it is absent or of another type.
func (c *Config) read(field string, v any, want string) bool {
	if c.missing(field, want) {
		return false
	}
	if err := json.Unmarshal(c.fields[field], v); err != nil {
		c.refuse(field, want)
		return false
	}
	return true
}

// Int reads a whole number between min and max.
func (c *Config) Int(field string, def, min, max int) int {
	return c.ints(field, []int{def}, min, max, false)[0]
}

// Ints reads a list of whole numbers between min and max, or a single one as a list of one.
func (c *Config) Ints(field string, def []int, min, max int) []int {
	return c.ints(field, def, min, max, true)
}

const maxList = 64 // longer than any per-block list of a known model

func (c *Config) ints(field string, def []int, min, max int, list bool) []int {
	want := fmt.Sprintf("a whole number from %d to %d", min, max)
	raw := bytes.TrimSpace(c.fields[field])
	var got []json.Number
	if len(raw) > 0 && raw[0] == '[' {
		if !list || !c.read(field, &got, "a list, each "+want) {
			if !list {
				c.refuse(field, want)
			}
			return def
		}
	} else {
		got = make([]json.Number, 1)
		if !c.read(field, &got[0], want) {
			return def
		}
	}
	if len(got) == 0 || len(got) > maxList {
		c.Bad(field, fmt.Sprintf("%d entries", len(got)), fmt.Sprintf("1 to %d", maxList))
		return def
	}
	out := make([]int, len(got))
	for i, s := range got {
		n, err := s.Int64()
		if raw[0] == '"' || err != nil || n < int64(min) || n > int64(max) {
			c.refuse(field, want)
			return def
		}
		out[i] = int(n)
	}
	return out
}

// PerBlock reads a list of one whole number per block, or a number for all of them.
func (c *Config) PerBlock(field string, def, blocks, min, max int) []int {
	got := c.Ints(field, []int{def}, min, max)
	if !c.isList(field) {
		return slices.Repeat(got[:1], blocks)
	}
	if len(got) != blocks {
		c.Bad(field, fmt.Sprintf("%d entries", len(got)), fmt.Sprintf("one per block: %d", blocks))
		return slices.Repeat([]int{def}, blocks)
	}
	return got
}

func (c *Config) isList(field string) bool {
	return bytes.HasPrefix(bytes.TrimSpace(c.fields[field]), []byte("["))
}

// Float reads a number between min and max, which may be infinite.
func (c *Config) Float(field string, def, min, max float64) float64 {
	want := fmt.Sprintf("a number from %s to %s", bound(min), bound(max))
	if c.missing(field, want) {
		return def
	}
	if f, ok := strictjson.Float(c.fields[field]); ok && f >= min && f <= max {
		return f
	}
	c.refuse(field, want)
	return def
}

// bound is a number as JSON and Python have it.
func bound(v float64) string {
	if math.IsInf(v, 0) {
		return strings.Replace(strings.Replace(fmt.Sprint(v), "Inf", "Infinity", 1), "+", "", 1)
	}
	return fmt.Sprintf("%g", v)
}

// Bool reads true or false. Null is false, as None is in a condition.
func (c *Config) Bool(field string, def bool) bool {
	if c.Null(field) {
		c.asked[field] = true
		return false
	}
	c.read(field, &def, "true or false")
	return def
}

// Bools reads a list of true and false, or a single one as a list of one.
func (c *Config) Bools(field string, def []bool) []bool {
	const want = "true, false or a list of them"
	var one bool
	if !c.isList(field) {
		if c.read(field, &one, want) {
			return []bool{one}
		}
		return def
	}
	var list []bool
	if !c.read(field, &list, want) {
		return def
	}
	return list
}

// Lists reads, for each block, a list of at least as many whole numbers as lengths says, which is cut there, or a
// number that stands for all of them. One number may stand for all blocks.
func (c *Config) Lists(field string, def int, lengths []int, min, max int) [][]int {
	if !c.isList(field) {
		def = c.Int(field, def, min, max)
	}
	all := make([][]int, len(lengths))
	for i, n := range lengths {
		all[i] = slices.Repeat([]int{def}, n)
	}
	if !c.isList(field) {
		return all
	}
	var blocks []json.RawMessage
	if !c.read(field, &blocks, "a list") {
		return all
	}
	if len(blocks) != len(lengths) {
		c.Bad(field, fmt.Sprintf("%d entries", len(blocks)), fmt.Sprintf("one per block: %d", len(lengths)))
		return all
	}
	for i, raw := range blocks {
		var list []int
		var one int
		var layers []*int // nil for null, which is no number
		switch {
		case json.Unmarshal(raw, &one) == nil && string(raw) != "null":
			list = slices.Repeat([]int{one}, lengths[i])
		case json.Unmarshal(raw, &layers) != nil || slices.Contains(layers, nil) || json.Unmarshal(raw, &list) != nil || len(list) < lengths[i]:
			c.refuse(field, fmt.Sprintf("for each block a number, or a list of one for each of its layers: %v", lengths))
			return all
		}
		list = list[:lengths[i]]
		if slices.Min(list) < min || slices.Max(list) > max {
			c.refuse(field, fmt.Sprintf("whole numbers from %d to %d", min, max))
			return all
		}
		all[i] = list
	}
	return all
}

// String reads one of the allowed values; any, if none are given.
func (c *Config) String(field, def string, allowed ...string) string {
	got := def
	if c.read(field, &got, "a string") && len(allowed) > 0 && !slices.Contains(allowed, got) {
		c.refuse(field, "one of "+strings.Join(allowed, ", "))
		return def
	}
	return got
}

// Nested reports whether a field is a list of lists.
func (c *Config) Nested(field string) bool {
	var list []json.RawMessage
	return json.Unmarshal(c.fields[field], &list) == nil && slices.ContainsFunc(list, func(v json.RawMessage) bool { return v[0] == '[' })
}

// Strings reads a list of values, each one of allowed; any, if none are given.
func (c *Config) Strings(field string, def []string, allowed ...string) []string {
	var got []string
	if !c.read(field, &got, "a list of strings") {
		return def
	}
	for _, s := range got {
		if len(allowed) > 0 && !slices.Contains(allowed, s) {
			c.Bad(field, s, "one of "+strings.Join(allowed, ", "))
		}
	}
	if len(got) > maxList {
		c.Bad(field, fmt.Sprintf("%d entries", len(got)), fmt.Sprintf("at most %d", maxList))
		return def
	}
	return got
}

// Fixed checks fields of which only some values, written as JSON, are implemented. Absence passes: it means the
// default, which always is. A field without values may only be null.
func (c *Config) Fixed(fields map[string][]string) {
	for _, f := range slices.Sorted(mapKeys(fields)) {
		if !c.Has(f) && (!c.Null(f) || len(fields[f]) == 0) {
			continue
		}
		if got := strictjson.Text(c.fields[f]); !slices.Contains(fields[f], got) {
			switch want := fields[f]; len(want) {
			case 0:
				c.refuse(f, "null, the only value implemented")
			case 1:
				c.refuse(f, want[0]+", the only value implemented")
			default:
				c.refuse(f, strings.Join(want, " or ")+", the only values implemented")
			}
		}
	}
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
