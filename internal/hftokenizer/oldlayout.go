package hftokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
)

// readOldLayout reads what a folder without added_tokens_decoder has in its place.
func (s *settings) readOldLayout(f Files) error {
	last := "None" // what 4.53 calls the last token of added_tokens.json by, see readAdded
	if f.SpecialTokens != nil {
		d, err := readDict(s.file(specialsFile), f.SpecialTokens)
		if err != nil {
			return err
		}
		for _, key := range d.keys {
			v, err := s.special(key, d.get(key), &last)
			if err != nil {
				return err
			}
			s.init.set(key, v)
			s.origin[key] = specialsFile
		}
	}
	if f.AddedTokens != nil {
		if err := s.readAdded(f.AddedTokens, last); err != nil {
			return err
		}
	}
	if f.TokenizerJSON != nil {
		d, err := readDict(s.file(tokenizerFile), f.TokenizerJSON)
		if err != nil {
			return err
		}
		return s.readSerialized(d)
	}
	return nil
}

// special is the value that a key of special_tokens_map.json gives. Lists are added to those of the config.
func (s *settings) special(key string, v any, last *string) (any, error) {
	listKey := additionalKey
	if s.ref == rust5 {
		listKey = extraKey
	}
	switch v := v.(type) {
	case *dict:
		if s.ref == rust5 && key == extraKey {
			return v, nil
		}
		return s.token(specialsFile, key, v, true)
	case []any:
		if key != listKey {
			return v, nil
		}
		old, _ := s.init.get(key).([]any)
		list := slices.Clone(old)
		for _, item := range v {
			if d, ok := item.(*dict); ok {
				t, err := s.token(specialsFile, key, d, true)
				if err != nil {
					return nil, err
				}
				item = t
			}
			if text, ok := content(item); ok {
				*last = text
			}
			if !slices.ContainsFunc(list, func(known any) bool { return same(known, item) }) {
				list = append(list, item)
			}
		}
		return list, nil
	}
	return v, nil
}

// same is Python's equality of tokens: a string is never an AddedToken.
func same(a, b any) bool {
	switch a := a.(type) {
	case string:
		return a == b
	case AddedToken:
		t, ok := b.(AddedToken)
		return ok && a.equal(t)
	}
	return false
}

// readAdded reads added_tokens.json. A token of it is special if a key says so.
//
// Transformers 4.53 means to note each by its name, so that a special token of that name has its flags, but notes it
// by that of the last additional special token. That is followed.
func (s *settings) readAdded(raw []byte, last string) error {
	d, err := readDict(s.file(addedFile), raw)
	if err != nil {
		return err
	}
	special := map[string]bool{}
	note := func(v any) {
		if text, ok := content(v); ok {
			special[text] = true
		}
	}
	for _, key := range named {
		note(s.init.get(key))
	}
	for _, key := range []string{additionalKey, extraKey} {
		if list, ok := s.init.get(key).([]any); ok && (key == extraKey) == (s.ref == rust5) {
			for _, v := range list {
				note(v)
			}
		}
	}
	for _, text := range d.keys {
		id, ok := d.get(text).(json.Number)
		if !ok {
			return stack.With(&badmodel.Error{File: s.file(addedFile), Field: text, Got: show(d.get(text)), Want: "an id"})
		}
		if n := len(text); n > maxAddedBytes {
			return stack.With(&badmodel.Error{File: s.file(addedFile), Field: text, Got: fmt.Sprintf("%d bytes", n),
				Want: addedLimit})
		}
		t := AddedToken{Content: text, special: special[text], normalized: !special[text], stated: true}
		if err := s.add(addedFile, text, id.String(), t); err != nil {
			return err
		}
		name := text
		if s.ref != rust5 {
			name = last
		}
		s.known[name] = t
	}
	return nil
}

// readSerialized reads the added tokens of tokenizer.json.
func (s *settings) readSerialized(d *dict) error {
	bad := func(field string, v any, want string) error {
		return stack.With(&badmodel.Error{File: s.file(tokenizerFile), Field: field, Got: show(v), Want: want})
	}
	list, ok := d.get("added_tokens").([]any)
	if !ok {
		return bad("added_tokens", d.get("added_tokens"), "a list of tokens")
	}
	for _, item := range list {
		t, err := s.token(tokenizerFile, "added_tokens", item, false)
		if err != nil {
			return err
		}
		v := item.(*dict).get("id")
		id, ok := v.(json.Number)
		if !ok {
			return bad("added_tokens.id", v, "an id")
		}
		if err := s.add(tokenizerFile, "added_tokens", id.String(), t); err != nil {
			return err
		}
		s.known[t.Content] = t
	}
	return nil
}

// renameAdditional moves what transformers 5 has under other names: additional special tokens that no extra ones
// take the place of, and tokens of names that not every tokenizer has.
func (s *settings) renameAdditional() {
	if s.init.has(additionalKey) && !truthy(s.init.get(extraKey)) {
		s.init.set(extraKey, s.init.pop(additionalKey))
	}
	names := &dict{values: map[string]any{}}
	for _, key := range slices.Clone(s.init.keys) {
		if _, ok := s.init.get(key).(string); ok && strings.HasSuffix(key, "_token") && !slices.Contains(named, key) {
			names.set(key, s.init.pop(key))
		}
	}
	if d, ok := s.init.get(extraKey).(*dict); ok {
		s.init.pop(extraKey)
		for _, key := range d.keys {
			names.set(key, d.get(key))
		}
	}
	if len(names.keys) > 0 {
		s.init.set(modelSpecificKey, names)
	}
}

// renameRest does the same once special_tokens_map.json is read.
func (s *settings) renameRest() {
	if s.init.has(additionalKey) && !s.init.has(extraKey) {
		s.init.set(extraKey, s.init.pop(additionalKey))
	}
	if s.init.has(extraKey) && s.init.get(extraKey) == nil {
		s.init.pop(extraKey)
	}
	names := &dict{values: map[string]any{}}
	for _, key := range slices.Clone(s.init.keys) {
		if _, ok := content(s.init.get(key)); ok && strings.HasSuffix(key, "_token") && !slices.Contains(named, key) {
			names.set(key, s.init.pop(key))
		}
	}
	for _, key := range []string{modelSpecificKey, extraKey} {
		if d, ok := s.init.get(key).(*dict); ok {
			s.init.pop(key)
			for _, name := range d.keys {
				names.set(name, d.get(name))
			}
		}
	}
	if len(names.keys) > 0 {
		s.init.set(modelSpecificKey, names)
	}
}
