package strictjson

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

// Python's literals become numbers where Python reads a value, and nothing else becomes JSON by it.
func TestPlain(t *testing.T) {
	for _, c := range []struct {
		in, want string
		valid    bool
	}{
		{`{"a": -Infinity}`, `{"a": -1e999999}`, true},
		{`[NaN,Infinity,-Infinity,NaN]`, `[1e888888,1e999999,-1e999999,1e888888]`, true},
		{`NaN`, `1e888888`, true},
		{`{"NaN": "Infinity, -Infinity \" NaN", "b\\": NaN}`, `{"NaN": "Infinity, -Infinity \" NaN", "b\\": 1e888888}`, true},
		{`{"a": 1.5}`, `{"a": 1.5}`, true},
		{`[1NaN]`, `[1NaN]`, false},
		{`[NaN1]`, `[NaN1]`, false},
		{`[--Infinity]`, `[--Infinity]`, false},
		{`[- Infinity]`, `[- 1e999999]`, false},
		{`[+Infinity]`, `[+Infinity]`, false},
		{`[-NaN]`, `[-NaN]`, false},
		{`[nan]`, `[nan]`, false},
		{`[Infinity_]`, `[Infinity_]`, false},
		{`{NaN: 1}`, `{1e888888: 1}`, false},
		{`[NaN NaN]`, `[1e888888 1e888888]`, false},
		{`"NaN`, `"NaN`, false},
		{`"\`, `"\`, false},
	} {
		got := Plain([]byte(c.in))
		if string(got) != c.want || json.Valid(got) != c.valid {
			t.Errorf("%s: %s, valid %t; want %s, %t", c.in, got, json.Valid(got), c.want, c.valid)
		}
		if again := Plain(got); string(again) != string(got) {
			t.Errorf("%s: a second time %s", c.in, again)
		}
	}
}

// A value in a message is one line of JSON, whatever the file holds.
func TestText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"[\n 1,\n 2 ]", `[1,2]`},
		{`[-Infinity, {"a": NaN, "NaN": "1e999999"}]`, `[-Infinity,{"a":NaN,"NaN":"1e999999"}]`},
		{`-1e999999`, `-Infinity`},
		{`11e999999`, `11e999999`},
		{"\"a\u202eb\u00e9\"", `"a\u202eb` + "\u00e9\""},
		{"\"\U000e0001\"", `"\udb40\udc01"`},
		{`{`, `"{"`},
		{"[" + strings.Repeat("1, ", 999) + "1]", "[" + strings.Repeat("1,", 499) + "1..."},
	} {
		if got := Text([]byte(c.in)); got != c.want {
			t.Errorf("%q: %s, want %s", c.in, got, c.want)
		}
	}
}

// Numbers are read as Python reads them.
func TestFloat(t *testing.T) {
	for _, c := range []struct {
		in   string
		want float64
		ok   bool
	}{
		{"-Infinity", math.Inf(-1), true}, {"Infinity", math.Inf(1), true}, {"1e400", math.Inf(1), true}, {" 2.5e-3 ", 0.0025, true},
		{`"1"`, 0, false}, {"null", 0, false}, {"true", 0, false}, {"[1]", 0, false}, {"", 0, false}, {"1 2", 0, false},
	} {
		if got, ok := Float([]byte(c.in)); got != c.want || ok != c.ok {
			t.Errorf("%s: %g, %t", c.in, got, ok)
		}
	}
	if got, ok := Float([]byte("NaN")); !math.IsNaN(got) || !ok {
		t.Errorf("NaN: %g, %t", got, ok)
	}
}
