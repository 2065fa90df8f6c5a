package hfconfig

import (
	"math"
	"strings"
	"testing"
)

// NaN and the infinities are what Python's json module writes: a config that has them is read, and a field that may not
// be one names it.
func TestLiteralsOfPython(t *testing.T) {
	raw := []byte(`{"a": -Infinity, "b": NaN, "c": [1, Infinity], "d": "NaN", "e": 2}`)
	c := Parse("config.json", raw)
	if got := c.Float("a", 0, math.Inf(-1), 0); !math.IsInf(got, -1) {
		t.Errorf("a is %g", got)
	}
	if got := c.String("d", ""); got != "NaN" {
		t.Errorf("d is %q", got)
	}
	if got := c.Int("e", 0, 0, 9); got != 2 || c.Err() != nil {
		t.Errorf("e is %d: %v", got, c.Err())
	}
	c.Float("b", 0, 0, math.Inf(1))
	c.Float("a", 0, -9, 0)
	c.Int("b", 0, 0, 9)
	c.Ints("c", nil, 0, 9)
	c.Fixed(map[string][]string{"a": {"-Infinity"}, "b": {"false"}})
	want := `config.json: b: NaN, want a number from 0 to Infinity
config.json: a: -Infinity, want a number from -9 to 0
config.json: b: NaN, want a whole number from 0 to 9
config.json: c: [1,Infinity], want a whole number from 0 to 9
config.json: b: NaN, want false, the only value implemented`
	if got := c.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A value in an error is JSON on one line, however the file is laid out and however long it is.
func TestValuesPrintAsJSON(t *testing.T) {
	c := Parse("f", []byte("{\"a\": [\n 1,\n 2\n], \"b\": \"x\\\"y\", \"c\": ["+strings.Repeat("1,\n", 99)+"1]}"))
	c.Fixed(map[string][]string{"a": {"1"}})
	c.String("b", "", "z")
	c.String("a", "", "z")
	c.Int("c", 0, 0, 1)
	want := `f: a: [1,2], want 1, the only value implemented
f: b: "x\"y", want one of z
f: a: [1,2], want a string
f: c: [` + strings.Repeat("1,", 39) + `1..., want a whole number from 0 to 1`
	if got := c.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
