package hftokenizer

import (
	"io/fs"
	"strconv"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/internal/words"
)

// loadPython is CLIPTokenizer of transformers 4.53.
func (t *Tokenizer) loadPython(f Files, s *settings) error {
	t.Rules = words.Rules{Python: true}
	for _, part := range []struct {
		name string
		raw  []byte
	}{{vocabFile, f.Vocab}, {mergesFile, f.Merges}} {
		if part.raw == nil {
			return stack.With(&badmodel.Error{File: t.file(part.name), Got: "missing", Want: "it, or " + tokenizerFile,
				Err: fs.ErrNotExist})
		}
	}
	if key := "model_input_names"; s.init.has(key) {
		// transformers takes what it pads by the first of these names.
		if names, ok := s.init.get(key).([]any); !ok || len(names) == 0 || names[0] != "input_ids" {
			return s.bad(key, "a list that begins with input_ids")
		}
	}
	if err := t.readVocab(t.file(vocabFile), f.Vocab, f.MaxTokens); err != nil {
		return err
	}
	if err := t.readMerges(t.file(mergesFile), f.Merges); err != nil {
		return err
	}
	if err := t.common(s, "right", "right"); err != nil {
		return err
	}
	if err := s.defaults(required...); err != nil {
		return err
	}
	for _, key := range []string{"bos_token", "eos_token", "unk_token"} {
		if text, ok := s.init.get(key).(string); ok {
			s.init.set(key, AddedToken{Content: text})
		}
	}
	specials, err := s.specials()
	if err != nil {
		return err
	}
	t.addPython(s, specials)
	if t.unknown = -1; s.init.get("unk_token") != nil {
		text, _ := content(s.init.get("unk_token"))
		t.unknown = t.inVocab(text)
	}
	return t.ends(s, required...)
}

// ends sets the ids of those of begin, end and padding that are named.
func (t *Tokenizer) ends(s *settings, keys ...string) error {
	into := map[string]*int32{"bos_token": &t.Begin, "eos_token": &t.End, "pad_token": &t.Pad}
	for _, key := range keys {
		text, _ := content(s.init.get(key))
		id, ok := t.Added.IDs[text]
		if !ok {
			if id, ok = t.ID(text); !ok {
				return s.bad(key, "a token in the vocabulary")
			}
		}
		*into[key] = id
	}
	return nil
}

// addPython adds the special tokens to those that were saved. A token that the vocabulary has not gets the next id; a
// special token that comes as an AddedToken takes the place of what has its id.
func (t *Tokenizer) addPython(s *settings, specials []any) {
	a := &t.Added
	for _, key := range s.added.keys {
		n, _ := strconv.Atoi(key)
		a.put(int32(n), s.added.get(key).(AddedToken))
	}
	current := map[string]int32{} // beside the vocabulary
	count := len(t.vocab)
	ids, tokens := s.sorted()
	for i, tok := range tokens {
		_, known := t.vocab[tok.Content]
		if _, twice := current[tok.Content]; !known && !twice {
			count++
		}
		current[tok.Content] = ids[i]
	}
	for _, v := range specials {
		text, _ := content(v)
		tok, ok := v.(AddedToken)
		if !ok {
			if _, added := a.IDs[text]; added {
				continue
			}
			tok = AddedToken{Content: text}
		}
		if text == "" {
			continue
		}
		tok.special = true
		id, known := current[text]
		if !known {
			id, known = t.vocab[text]
		}
		if !known {
			id = int32(count)
			count++
			current[text] = id
		}
		a.put(id, tok)
	}
}
