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
	python   bool // see AsPython
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

// read decodes a field into v; false if it is absent or of another type.
func (c *Config) read(field string, v any, want string) bool {
	if !c.Has(field) {
		if c.null(field) {
			c.refuse(field, want)
		}
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

// PerBlock reads one whole number per block, or one for all of them.
func (c *Config) PerBlock(field string, def, blocks, min, max int) []int {
	got := c.Ints(field, []int{def}, min, max)
	if len(got) == 1 && blocks > 1 {
		return slices.Repeat(got, blocks)
	}
	if len(got) != blocks {
		c.Bad(field, fmt.Sprintf("%d entries", len(got)), fmt.Sprintf("one per block: %d", blocks))
		return slices.Repeat([]int{def}, blocks)
	}
	return got
}

// Float reads a number between min and max, which may be infinite.
func (c *Config) Float(field string, def, min, max float64) float64 {
	if !c.Has(field) && !c.null(field) {
		return def
	}
	if f, ok := strictjson.Float(c.fields[field]); ok && f >= min && f <= max {
		return f
	}
	c.refuse(field, fmt.Sprintf("a number from %s to %s", bound(min), bound(max)))
	return def
}

// bound is a number as JSON and Python have it.
func bound(v float64) string {
	if math.IsInf(v, 0) {
		return strings.Replace(strings.Replace(fmt.Sprint(v), "Inf", "Infinity", 1), "+", "", 1)
	}
	return fmt.Sprintf("%g", v)
}

// Bool reads true or false.
func (c *Config) Bool(field string, def bool) bool {
	if c.null(field) {
		c.asked[field] = true
		return false
	}
	c.read(field, &def, "true or false")
	return def
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

// Strings reads a list of values, each one of allowed.
func (c *Config) Strings(field string, def []string, allowed ...string) []string {
	var got []string
	if !c.read(field, &got, "a list of strings") {
		return def
	}
	for _, s := range got {
		if !slices.Contains(allowed, s) {
			c.Bad(field, s, "one of "+strings.Join(allowed, ", "))
		}
	}
	if len(got) > maxList {
		c.Bad(field, fmt.Sprintf("%d entries", len(got)), fmt.Sprintf("at most %d", maxList))
		return def
	}
	return got
}

// Fixed checks fields of which only some values, written as JSON, are implemented. Null and absence pass: they mean the
// default, which always is.
func (c *Config) Fixed(fields map[string][]string) {
	for _, f := range slices.Sorted(mapKeys(fields)) {
		if !c.Has(f) && !c.null(f) {
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
