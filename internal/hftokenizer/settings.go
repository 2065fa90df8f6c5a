package hftokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
)

// Note [Precedence of a tokenizer's files]
//
// Three references read these files, each in its own way:
//
//	CLIPTokenizer in transformers 4.53      vocab.json, merges.txt; Python splits the text
//	CLIPTokenizerFast in transformers 4.53  tokenizer.json, or else what the former read; tokenizers splits the text
//	CLIPTokenizer in transformers 5.24      tokenizer.json, or else vocab.json and merges.txt; tokenizers splits
//
// What diffusers 0.34 makes of a folder with transformers 4.53 is followed wherever that runs, since it is what the
// folders were published for. Transformers 5 is followed where 4.53 cannot open a folder: CLIPTokenizer with a
// tokenizer.json and no vocab.json or merges.txt, which is all that transformers 5 itself writes. The two differ:
// with vocab.json and tokenizer.json both there, 4.53 takes of the latter only the added tokens, and drops control
// characters, sets ideographs apart and lets a capital SIGMA end a word, none of which tokenizers does.
//
// In all three, tokenizer_config.json with the key added_tokens_decoder is complete: special_tokens_map.json and
// added_tokens.json are not read, and of tokenizer.json not the added tokens. Without that key the folder is of an
// old layout: special_tokens_map.json wins over tokenizer_config.json, whatever its keys, then added_tokens.json,
// then tokenizer.json say which tokens were added.
//
// Keys that no constructor of these classes reads have no effect there and none here: do_lower_case, errors,
// add_prefix_space (CLIP's pre-tokenizer has none to set), clean_up_tokenization_spaces, tokenizer_class,
// name_or_path, chat_template and the like. Of the others each value is honoured, or refused by an error that names
// the key; TestPrecedence has them beside what the references do.
//
// Without model_max_length the references take 10^30, to which diffusers fails to pad, so that it must be there.

const (
	configFile      = "tokenizer_config.json"
	specialsFile    = "special_tokens_map.json"
	addedFile       = "added_tokens.json"
	tokenizerFile   = "tokenizer.json"
	vocabFile       = "vocab.json"
	mergesFile      = "merges.txt"
	addedDecoderKey = "added_tokens_decoder"
	additionalKey   = "additional_special_tokens"
	extraKey        = "extra_special_tokens"
)

// maxAddedBytes bounds an added token: a prompt may begin one at each character.
const maxAddedBytes = 512

var addedLimit = fmt.Sprintf("at most %d bytes", maxAddedBytes)

// named are the attributes that hold one special token each, in the order in which they are added.
var named = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// A reference is one of the three implementations.
type reference int

const (
	python reference = iota // CLIPTokenizer of transformers 4.53, without the package ftfy
	rust                    // CLIPTokenizerFast of transformers 4.53, with tokenizers 0.21
	rust5                   // CLIPTokenizer of transformers 5.24, with tokenizers 0.23
)

// settings are what a constructor is given.
type settings struct {
	dir    string
	ref    reference
	init   *dict
	origin map[string]string // of keys that another file than tokenizer_config.json has set
	added  *dict             // added_tokens_decoder: ids in decimal, AddedTokens
	known  map[string]AddedToken
	from   map[string]place // of added tokens
}

// place is where in a folder something is said.
type place struct{ file, field string }

func (s *settings) file(name string) string { return path.Join(s.dir, name) }

// bad is the fault of a key.
func (s *settings) bad(key, want string) error {
	if !s.init.has(key) {
		return stack.With(&badmodel.Error{File: s.file(s.source(key)), Field: key, Got: "missing", Want: want})
	}
	return s.fault(key, s.init.get(key), want)
}

// fault is that of a value in a key, which may be a part of what the key holds.
func (s *settings) fault(field string, v any, want string) error {
	key, _, _ := strings.Cut(field, ".")
	return stack.With(&badmodel.Error{File: s.file(s.source(key)), Field: field, Got: show(v), Want: want})
}

// source is the file that a key is from.
func (s *settings) source(key string) string {
	if f, ok := s.origin[key]; ok {
		return f
	}
	return configFile
}

// readSettings merges the files as from_pretrained does.
func readSettings(f Files, ref reference) (*settings, error) {
	s := &settings{dir: f.Dir, ref: ref, init: &dict{values: map[string]any{}}, origin: map[string]string{},
		added: &dict{values: map[string]any{}}, known: map[string]AddedToken{},
		from: map[string]place{}}
	if f.TokenizerConfig != nil {
		var err error
		if s.init, err = readDict(s.file(configFile), f.TokenizerConfig); err != nil {
			return nil, err
		}
	}
	if ref == rust5 {
		s.renameAdditional()
	}
	read := s.readDecoder
	if !s.init.has(addedDecoderKey) {
		read = func() error { return s.readOldLayout(f) }
	}
	if err := read(); err != nil {
		return nil, err
	}
	if err := s.refuse(f); err != nil {
		return nil, err
	}
	if err := s.convert(); err != nil {
		return nil, err
	}
	// A special token has the flags with which it was added.
	for _, key := range named {
		if text, ok := content(s.init.get(key)); ok {
			if t, ok := s.known[text]; ok {
				s.init.set(key, t)
			}
		}
	}
	if ref == rust5 {
		s.renameRest()
	}
	return s, nil
}

// refuse refuses keys that lead transformers to other files or other code.
func (s *settings) refuse(f Files) error {
	keys := []string{"vocab_file", "merges_file"}
	if s.ref == rust {
		keys = append(keys, "from_slow", "tokenizer_object", "__slow_tokenizer", "gguf_file")
	}
	if s.ref == rust && f.TokenizerJSON != nil {
		keys = append(keys, "tokenizer_file")
	}
	for _, key := range keys {
		// Transformers 5 believes no path that is in a config.
		if s.init.has(key) && (s.ref != rust5 || s.origin[key] != "") {
			return s.bad(key, "no such key: a tokenizer is read from its own folder")
		}
	}
	if key := "init_inputs"; truthy(s.init.get(key)) {
		return s.bad(key, "no such key: its values would take the place of the folder's files")
	}
	if key := "fast_tokenizer_files"; s.init.has(key) && f.TokenizerJSON != nil {
		if v, ok := s.init.get(key).([]any); !ok || len(v) != 1 || v[0] != tokenizerFile {
			return s.bad(key, "no other file than "+tokenizerFile)
		}
	}
	return nil
}

// readDecoder reads added_tokens_decoder, which the present layout has.
func (s *settings) readDecoder() error {
	list, ok := s.init.get(addedDecoderKey).(*dict)
	if !ok {
		return s.bad(addedDecoderKey, "an object of ids and tokens")
	}
	for _, key := range list.keys {
		t, err := s.token(configFile, addedDecoderKey+"."+key, list.get(key), false)
		if err != nil {
			return err
		}
		if err := s.add(configFile, addedDecoderKey, key, t); err != nil {
			return err
		}
		s.known[t.Content] = t
	}
	return nil
}

// add notes an added token and its id.
func (s *settings) add(file, field, id string, t AddedToken) error {
	n, err := strconv.Atoi(id)
	if err != nil || n < 0 || n >= maxVocab {
		return stack.With(&badmodel.Error{File: s.file(file), Field: field,
			Got: fmt.Sprintf("id %s of %s", badmodel.Quote(id), badmodel.Quote(t.Content)), Want: idRange})
	}
	s.added.set(strconv.Itoa(n), t)
	s.from[t.Content] = place{s.file(file), field}
	return nil
}

// token makes an AddedToken of an object as its constructor does: unknown keys are ignored.
func (s *settings) token(file, field string, v any, special bool) (AddedToken, error) {
	bad := func(field string, v any, want string) error {
		return stack.With(&badmodel.Error{File: s.file(file), Field: field, Got: show(v), Want: want})
	}
	d, ok := v.(*dict)
	if !ok {
		return AddedToken{}, bad(field, v, "an object with its content")
	}
	var t AddedToken
	if c, ok := d.get("content").(string); ok {
		t.Content = c
	} else if d.get("content") != nil {
		return t, bad(field+".content", d.get("content"), "a string")
	}
	for _, f := range []struct {
		key  string
		into *bool
	}{{"lstrip", &t.LStrip}, {"rstrip", &t.RStrip}, {"single_word", &t.SingleWord}, {"special", &t.special},
		{"normalized", &t.normalized}} {
		if *f.into, ok = d.get(f.key).(bool); !ok && d.has(f.key) {
			return t, bad(field+"."+f.key, d.get(f.key), "true or false")
		}
	}
	t.stated = d.has("normalized")
	t.special = t.special || special
	if len(t.Content) > maxAddedBytes {
		return t, bad(field+".content", t.Content, addedLimit)
	}
	return t, nil
}

// convert makes AddedTokens of the objects that say they are.
func (s *settings) convert() error {
	var walk func(field string, v any) (any, error)
	walk = func(field string, v any) (any, error) {
		var err error
		switch v := v.(type) {
		case []any:
			out := make([]any, len(v))
			for i, item := range v {
				if out[i], err = walk(field, item); err != nil {
					return nil, err
				}
			}
			return out, nil
		case *dict:
			if v.get("__type") == "AddedToken" {
				key, _, _ := strings.Cut(field, ".")
				return s.token(s.source(key), field, v, false)
			}
			out := &dict{values: map[string]any{}}
			for _, key := range v.keys {
				item, err := walk(field+"."+key, v.get(key))
				if err != nil {
					return nil, err
				}
				out.set(key, item)
			}
			return out, nil
		}
		return v, nil
	}
	for _, key := range s.init.keys {
		if key == addedDecoderKey { // read already
			continue
		}
		v, err := walk(key, s.init.get(key))
		if err != nil {
			return err
		}
		s.init.values[key] = v
	}
	return nil
}

// length is the number of ids of an encoding.
func (s *settings) length() (int, error) {
	key := "model_max_length"
	if !s.init.has(key) && s.init.has("max_len") {
		key = "max_len"
	}
	v := s.init.get(key)
	want := fmt.Sprintf("a whole number from 3 to %d; CLIP has 77", maxLength)
	n, ok := v.(json.Number)
	if !ok {
		if v == nil {
			want += ", and without it transformers takes 10^30, to which diffusers cannot pad"
		}
		return 0, s.bad(key, want)
	}
	length, err := strconv.Atoi(n.String())
	if err != nil || length < 3 || length > maxLength {
		return 0, s.bad(key, want)
	}
	return length, nil
}

const maxLength = 1 << 14

// left reports whether padding_side or truncation_side is "left"; def is the side if the key is absent.
func (s *settings) left(key, def string) (bool, error) {
	v := any(def)
	if s.init.has(key) {
		v = s.init.get(key)
	}
	if v != "left" && v != "right" {
		return false, s.bad(key, `"left" or "right"`)
	}
	return v == "left", nil
}

// flag is a key that is true or false.
func (s *settings) flag(key string) (bool, error) {
	v, ok := s.init.get(key).(bool)
	if !ok && s.init.has(key) {
		return false, s.bad(key, "true or false")
	}
	return v, nil
}

// specials are the special tokens, strings or AddedTokens, in the order in which they are added. A token comes once,
// but for those of one list.
func (s *settings) specials() (all []any, err error) {
	seen := map[string]bool{}
	add := func(field string, list ...any) {
		var fresh []any
		for _, v := range list {
			text, ok := content(v)
			if !ok || len(text) > maxAddedBytes {
				err = errors.Join(err, s.fault(field, v, "a string or an AddedToken, "+addedLimit))
			}
			if !seen[text] {
				fresh = append(fresh, v)
			}
			if _, saved := s.from[text]; !saved {
				key, _, _ := strings.Cut(field, ".")
				s.from[text] = place{s.file(s.source(key)), field}
			}
		}
		for _, v := range fresh {
			text, _ := content(v)
			seen[text] = true
		}
		all = append(all, fresh...)
	}
	for _, key := range named {
		if v := s.init.get(key); v != nil {
			add(key, v)
		}
	}
	listKey, dictKey := additionalKey, extraKey
	if s.ref == rust5 {
		listKey, dictKey = extraKey, modelSpecificKey
	}
	list, ok := s.init.get(listKey).([]any)
	if !ok && s.init.get(listKey) != nil {
		return nil, s.bad(listKey, "a list of tokens")
	}
	names, ok := s.init.get(dictKey).(*dict)
	if !ok && s.init.has(dictKey) {
		return nil, s.bad(dictKey, "an object of names and tokens")
	}
	addNames := func() {
		if names == nil {
			return
		}
		for _, name := range names.keys {
			if slices.Contains(named, name) || name == additionalKey {
				err = errors.Join(err, s.fault(dictKey, name, "names that no token has already"))
			}
			add(dictKey+"."+name, names.get(name))
		}
	}
	// Transformers 5 adds the list last, 4.53 the names.
	if s.ref == rust5 {
		addNames()
	}
	add(listKey, list...)
	if s.ref != rust5 {
		addNames()
	}
	return all, err
}

const modelSpecificKey = "model_specific_special_tokens"
