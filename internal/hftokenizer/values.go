package hftokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
)

// dict is a JSON object in its order, as Python keeps it. Values are nil, bool, json.Number, string, []any, *dict or
// AddedToken.
type dict struct {
	keys   []string
	values map[string]any
}

func (d *dict) get(key string) any { return d.values[key] }

func (d *dict) has(key string) bool { _, ok := d.values[key]; return ok }

func (d *dict) set(key string, v any) {
	if !d.has(key) {
		d.keys = append(d.keys, key)
	}
	d.values[key] = v
}

func (d *dict) pop(key string) any {
	v := d.values[key]
	delete(d.values, key)
	d.keys = slices.DeleteFunc(d.keys, func(k string) bool { return k == key })
	return v
}

// maxValues bounds what is read of one file; the tokenizer.json of CLIP has 200,000 values.
const maxValues = 1 << 21

// readDict reads a file that holds an object.
func readDict(file string, raw []byte) (*dict, error) {
	r := valueReader{json.NewDecoder(bytes.NewReader(raw)), 0}
	r.UseNumber()
	v, err := r.value(0)
	if o, ok := v.(*dict); ok && err == nil && !r.More() {
		return o, nil
	}
	return nil, stack.With(&badmodel.Error{File: file, Got: "not a JSON object", Err: err})
}

// valueReader counts the values that it has read.
type valueReader struct {
	*json.Decoder
	n int
}

func (r *valueReader) value(depth int) (any, error) {
	if r.n++; r.n > maxValues || depth > 64 {
		return nil, stack.With(fmt.Errorf("more than %d values, or nested more than 64 deep", maxValues))
	}
	t, err := r.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		o := &dict{values: map[string]any{}}
		for r.More() {
			key, err := r.Token()
			if err != nil {
				return nil, err
			}
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			o.set(key.(string), v)
		}
		_, err = r.Token()
		return o, err
	case json.Delim('['):
		list := []any{}
		for r.More() {
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = r.Token()
		return list, err
	}
	return t, nil
}

// show prints a value as JSON for a message.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case *dict:
		return "an object"
	case []any:
		return "a list"
	case AddedToken:
		return badmodel.Quote(v.Content)
	case string:
		return badmodel.Quote(strconv.Quote(v))
	}
	return badmodel.Quote(fmt.Sprint(v))
}

// content is the text of a token that is given as such or as an AddedToken.
func content(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case AddedToken:
		return v.Content, true
	}
	return "", false
}

// truthy is Python's bool of a value.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0
	case []any:
		return len(v) > 0
	case *dict:
		return len(v.keys) > 0
	}
	return true
}
