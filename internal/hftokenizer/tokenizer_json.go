package hftokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
)

// serialized is what tokenizer.json says: CLIP's byte-pair encoding, whose vocabulary and added tokens alone differ
// from folder to folder. Everything else has one value, or two, and any other is refused.
type serialized struct {
	file     string
	root     *dict
	specials bool // the pattern has the special tokens in it
	unk      string
	added    []AddedToken
	begin    int32 // post_processor.cls
	end      int32 // post_processor.sep
}

const clipPattern = `'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`

func newSerialized(s *settings, raw []byte) (*serialized, error) {
	j := &serialized{file: s.file(tokenizerFile)}
	var err error
	if j.root, err = readDict(j.file, raw); err != nil {
		return nil, err
	}
	for _, check := range []func() error{j.checkModel, j.checkNormalizer, j.checkPreTokenizer, j.checkPostProcessor} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	list, ok := j.root.get("added_tokens").([]any)
	if !ok {
		return nil, j.bad("added_tokens", "a list of tokens")
	}
	for _, item := range list {
		t, err := s.token(tokenizerFile, "added_tokens", item, false)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{"content", "single_word", "lstrip", "rstrip", "normalized", "special"} {
			if !item.(*dict).has(key) {
				return nil, stack.With(&badmodel.Error{File: j.file, Field: "added_tokens." + key, Got: "missing",
					Want: "it for each token"})
			}
		}
		j.added = append(j.added, t)
	}
	return j, nil
}

// at is the value at a path of keys, nil if it is not there.
func (j *serialized) at(field string) any {
	var v any = j.root
	for key := range strings.SplitSeq(field, ".") {
		d, ok := v.(*dict)
		if !ok {
			return nil
		}
		v = d.get(key)
	}
	return v
}

func (j *serialized) bad(field, want string) error {
	return stack.With(&badmodel.Error{File: j.file, Field: field, Got: show(j.at(field)), Want: want})
}

// want refuses a value that is none of those listed.
func (j *serialized) want(field string, values ...any) error {
	v := j.at(field)
	switch v.(type) {
	case nil, bool, string:
		if slices.Contains(values, v) {
			return nil
		}
	}
	var list []string
	for _, w := range values {
		list = append(list, show(w))
	}
	return j.bad(field, strings.Join(list, " or ")+", as CLIP's tokenizer has")
}

func (j *serialized) checkModel() error {
	for _, c := range []struct {
		field  string
		values []any
	}{
		{"model.type", []any{"BPE", nil}}, {"model.dropout", []any{nil}},
		{"model.continuing_subword_prefix", []any{"", nil}},
		{"model.end_of_word_suffix", []any{WordEnd}}, {"model.fuse_unk", []any{false, nil}},
		{"model.byte_fallback", []any{false, nil}}, {"model.ignore_merges", []any{false, nil}},
	} {
		if err := j.want(c.field, c.values...); err != nil {
			return err
		}
	}
	var ok bool
	if j.unk, ok = j.at("model.unk_token").(string); !ok {
		return j.bad("model.unk_token", "a token")
	}
	return nil
}

// checkSequence checks that a field holds steps of these types and returns them.
func (j *serialized) checkSequence(field, key string, types ...string) ([]*dict, error) {
	if err := j.want(field+".type", "Sequence"); err != nil {
		return nil, err
	}
	list, _ := j.at(field + "." + key).([]any)
	var steps []*dict
	for _, item := range list {
		if d, ok := item.(*dict); ok && len(steps) < len(types) && d.get("type") == types[len(steps)] {
			steps = append(steps, d)
		}
	}
	if len(steps) != len(types) || len(list) != len(types) {
		return nil, stack.With(&badmodel.Error{File: j.file, Field: field + "." + key, Got: "other steps",
			Want: strings.Join(types, ", then ") + ", as CLIP's tokenizer has"})
	}
	return steps, nil
}

func (j *serialized) checkNormalizer() error {
	steps, err := j.checkSequence("normalizer", "normalizers", "NFC", "Replace", "Lowercase")
	if err != nil {
		return err
	}
	pattern, _ := steps[1].get("pattern").(*dict)
	if pattern == nil || pattern.get("Regex") != `\s+` || steps[1].get("content") != " " {
		return stack.With(&badmodel.Error{File: j.file, Field: "normalizer.normalizers", Got: "another replacement",
			Want: `one space for \s+`})
	}
	return nil
}

func (j *serialized) checkPreTokenizer() error {
	steps, err := j.checkSequence("pre_tokenizer", "pretokenizers", "Split", "ByteLevel")
	if err != nil {
		return err
	}
	bad := func(key string, v any, want string) error {
		return stack.With(&badmodel.Error{File: j.file, Field: "pre_tokenizer.pretokenizers." + key, Got: show(v),
			Want: want})
	}
	pattern, _ := steps[0].get("pattern").(*dict)
	if pattern == nil {
		return bad("pattern", steps[0].get("pattern"), "CLIP's pattern")
	}
	text, _ := pattern.get("Regex").(string)
	text, j.specials = strings.CutPrefix(text, `<\|startoftext\|>|<\|endoftext\|>|`)
	if text != clipPattern {
		return bad("pattern", pattern.get("Regex"), "CLIP's pattern")
	}
	for i, wanted := range []map[string]any{{"behavior": "Removed", "invert": true}, {"add_prefix_space": false}} {
		for key, want := range wanted {
			if v := steps[i].get(key); v != want {
				return bad(key, v, show(want)+", as CLIP's tokenizer has")
			}
		}
	}
	if v := steps[1].get("use_regex"); v != nil && v != true {
		return bad("use_regex", v, "true, as CLIP's tokenizer has")
	}
	return nil
}

func (j *serialized) checkPostProcessor() error {
	if err := j.want("post_processor.type", "RobertaProcessing"); err != nil {
		return err
	}
	for field, into := range map[string]*int32{"post_processor.cls": &j.begin, "post_processor.sep": &j.end} {
		pair, _ := j.at(field).([]any)
		if len(pair) != 2 {
			return j.bad(field, "a token and its id")
		}
		n, _ := pair[1].(json.Number)
		id, err := n.Int64()
		if err != nil || id < 0 || id >= maxVocab {
			return stack.With(&badmodel.Error{File: j.file, Field: field, Got: show(pair[1]), Want: idRange})
		}
		*into = int32(id)
	}
	return nil
}

// side is where tokenizer.json has padding or truncation take place, for a config that does not say it.
func (j *serialized) side(field string) string {
	if side, ok := j.at(field + ".direction").(string); ok {
		return strings.ToLower(side)
	}
	return "right"
}

// merges are the model's, each a string of two parts or a list of them.
func (j *serialized) merges() (lines [][]string, err error) {
	list, ok := j.at("model.merges").([]any)
	if !ok {
		return nil, j.bad("model.merges", "a list of pairs")
	}
	for _, item := range list {
		var parts []string
		switch m := item.(type) {
		case string:
			parts = strings.Split(m, " ")
		case []any:
			for _, p := range m {
				text, _ := p.(string)
				parts = append(parts, text)
			}
		}
		lines = append(lines, parts)
	}
	return lines, nil
}

// vocabulary is the model's, as vocab.json has it.
func (j *serialized) vocabulary(most int) (map[string]int32, error) {
	d, ok := j.at("model.vocab").(*dict)
	if !ok || len(d.keys) == 0 {
		return nil, j.bad("model.vocab", "an object of tokens and ids")
	}
	if n := len(d.keys); n > most {
		return nil, stack.With(&badmodel.Error{File: j.file, Field: "model.vocab", Got: fmt.Sprintf("%d tokens", n),
			Want: tokenLimit(most)})
	}
	vocab := make(map[string]int32, len(d.keys))
	for _, text := range d.keys {
		n, _ := d.get(text).(json.Number)
		id, err := n.Int64()
		if err != nil || id < 0 || id >= maxVocab {
			return nil, stack.With(&badmodel.Error{File: j.file, Field: "model.vocab." + text, Got: show(d.get(text)),
				Want: idRange})
		}
		vocab[text] = int32(id)
	}
	return vocab, nil
}
