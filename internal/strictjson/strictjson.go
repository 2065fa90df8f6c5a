// Package strictjson reads JSON of which every key and every number is checked.
package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/euryale-ml/euryale/internal/badmodel"
)

// Decoder reads JSON token by token: encoding/json by itself takes keys twice, in any case, and arrays of any
// length.
type Decoder struct {
	json    *json.Decoder
	nesting int
}

// New reads raw. Values that are skipped may be nested that deep.
func New(raw []byte, nesting int) Decoder {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return Decoder{d, nesting}
}

// Object calls field for each key; it must read the value.
func (d Decoder) Object(field func(key string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.json.More() {
		t, err := d.json.Token()
		if err != nil {
			return err
		}
		key := t.(string) // the syntax allows nothing else here
		if seen[key] {
			return fmt.Errorf("key %s comes twice", badmodel.Quote(key))
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	return d.delim('}')
}

func (d Decoder) delim(want json.Delim) error {
	t, err := d.json.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("found %v, want %v", badmodel.Quote(fmt.Sprint(t)), want)
	}
	return nil
}

// String reads a string.
func (d Decoder) String() (string, error) {
	t, err := d.json.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("found %s, want a string", badmodel.Quote(fmt.Sprint(t)))
	}
	return s, nil
}

// Numbers reads an array of at most most whole numbers from 0 on.
func (d Decoder) Numbers(most int, limit string) ([]uint64, error) {
	if err := d.delim('['); err != nil {
		return nil, err
	}
	list := []uint64{}
	for d.json.More() {
		t, err := d.json.Token()
		if err != nil {
			return nil, err
		}
		n, err := whole(t)
		if err != nil {
			return nil, err
		}
		if len(list) == most {
			return nil, fmt.Errorf("more numbers, want at most %d%s", most, limit)
		}
		list = append(list, n)
	}
	return list, d.delim(']')
}

func whole(t json.Token) (uint64, error) {
	text, ok := t.(json.Number)
	n, err := strconv.ParseUint(string(text), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("found %s, want a whole number", badmodel.Quote(fmt.Sprint(t)))
	}
	return n, nil
}

// Skip reads over any value.
func (d Decoder) Skip() error {
	depth := 0
	for {
		t, err := d.json.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > d.nesting {
			return fmt.Errorf("nested deeper, want at most %d, the limit Nesting", d.nesting)
		}
		if depth == 0 {
			return nil
		}
	}
}

// End makes sure that only white space follows.
func (d Decoder) End() error {
	if t, err := d.json.Token(); err != io.EOF {
		return fmt.Errorf("%s after the end", badmodel.Quote(fmt.Sprint(t)))
	}
	return nil
}

// Extent counts what valid JSON holds without building it: the keys of an object, those that come twice too, and how
// deep it is nested.
func Extent(raw []byte) (keys, deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch b := raw[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{', b == '[':
			depth++
			deepest = max(deepest, depth)
		case b == '}', b == ']':
			depth--
		case b == ':' && depth == 1:
			keys++
		}
	}
	return keys, deepest
}
