package textenc

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/strictjson"
)

// NewTokenizer reads a tokenizer's files.
func NewTokenizer(f TokenizerFiles) (*Tokenizer, error) {
	f.MaxTokens = cmp.Or(f.MaxTokens, 1<<18)
	t := &Tokenizer{dir: f.Dir, maxPrompt: cmp.Or(f.MaxPrompt, 64<<10), added: newAddedTokens()}
	s, err := readSettings(f, f.reference())
	if err != nil {
		return nil, err
	}
	switch s.ref {
	case python:
		err = t.loadPython(f, s)
	case rust:
		err = t.loadRust(f, s)
	default:
		err = t.loadRust5(f, s)
	}
	if err != nil {
		return nil, err
	}
	t.from = s.from
	t.finish()
	return t, nil
}

// reference is the implementation to follow, see Note [Precedence of a tokenizer's files].
func (f TokenizerFiles) reference() reference {
	switch {
	case f.Class == "CLIPTokenizerFast":
		return rust
	case f.TokenizerJSON != nil && (f.Vocab == nil || f.Merges == nil):
		return rust5
	}
	return python
}

func (t *Tokenizer) file(name string) string { return path.Join(t.dir, name) }

// readVocab reads vocab.json.
func (t *Tokenizer) readVocab(file string, raw []byte, most int) error {
	n, _ := strictjson.Extent(raw)
	if n > most {
		return &badmodel.Error{File: file, Got: fmt.Sprintf("%d tokens", n), Want: tokenLimit(most)}
	}
	if err := json.Unmarshal(raw, &t.vocab); err != nil || len(t.vocab) == 0 {
		return &badmodel.Error{File: file, Got: "not an object of tokens and ids", Err: err}
	}
	if len(t.vocab) != n {
		return &badmodel.Error{File: file, Got: fmt.Sprintf("%d tokens, %d of them different", n, len(t.vocab)), Want: "each once"}
	}
	return t.indexVocab(file)
}

// indexVocab checks that each token of the vocabulary has an id of its own.
func (t *Tokenizer) indexVocab(file string) error {
	t.text = make(map[int32]string, len(t.vocab))
	for text, id := range t.vocab {
		if id < 0 || id >= maxVocab {
			return &badmodel.Error{File: file, Field: badmodel.Quote(text), Got: fmt.Sprint(id), Want: fmt.Sprintf("an id from 0 to %d", maxVocab-1)}
		}
		if other, twice := t.text[id]; twice {
			return &badmodel.Error{File: file, Field: badmodel.Quote(max(text, other)), Got: fmt.Sprintf("id %d, as %s has", id, badmodel.Quote(min(text, other)))}
		}
		t.text[id] = text
		t.size = max(t.size, int(id)+1)
	}
	return nil
}

// maxMerges is what CLIPTokenizer reads of merges.txt.
const maxMerges = 49152 - 256 - 2

// readMerges reads merges.txt as CLIPTokenizer does: the first line that is not blank is left out, be it "#version" or
// a merge, and of a merge that comes twice the later place counts.
func (t *Tokenizer) readMerges(file string, raw []byte) error {
	t.merges = merges{}
	number, read := 0, 0
	first := true
	for text := range strings.Lines(strings.ReplaceAll(string(raw), "\r\n", "\n")) {
		number++
		text = strings.TrimRight(text, "\n")
		if first && strings.TrimFunc(text, pythonSpace) == "" {
			continue
		}
		if !first {
			if read++; read > maxMerges {
				break
			}
		}
		if parts := strings.FieldsFunc(text, pythonSpace); len(parts) > 0 && !(first && strings.HasPrefix(strings.TrimPrefix(text, "\ufeff"), "#")) {
			if err := t.checkMerge(file, fmt.Sprintf("line %d", number), parts, text); err != nil {
				return err
			}
			if !first {
				t.merges[[2]string{parts[0], parts[1]}] = read
			}
		}
		first = false
	}
	return nil
}

func (t *Tokenizer) checkMerge(file, field string, parts []string, text string) error {
	if len(parts) == 2 && parts[0] != "" && parts[1] != "" {
		if _, known := t.vocab[parts[0]+parts[1]]; known {
			return nil
		}
	}
	return &badmodel.Error{File: file, Field: field, Got: badmodel.Quote(text), Want: "two parts of a token in the vocabulary"}
}

// checkParts checks that the vocabulary has both parts of each merge, which tokenizers asks for.
func (t *Tokenizer) checkParts(file string) error {
	for _, m := range slices.SortedFunc(maps.Keys(t.merges), func(a, b [2]string) int { return t.merges[a] - t.merges[b] }) {
		for _, part := range m {
			if _, known := t.vocab[part]; !known {
				return &badmodel.Error{File: file, Got: badmodel.Quote(m[0] + " " + m[1]), Want: "two tokens of the vocabulary"}
			}
		}
	}
	return nil
}

// common reads what all references read alike.
func (t *Tokenizer) common(s *settings, padSide, cutSide string) (err error) {
	if t.max, err = s.length(); err != nil {
		return err
	}
	if t.padLeft, err = s.left("padding_side", padSide); err != nil {
		return err
	}
	if t.cutLeft, err = s.left("truncation_side", cutSide); err != nil {
		return err
	}
	t.spellAdded, err = s.flag("split_special_tokens")
	return err
}

// required are the attributes without which nothing can be encoded.
var required = []string{"bos_token", "eos_token", "pad_token"}

// defaults gives the special tokens that no file names, and refuses null.
func (s *settings) defaults(wanted ...string) error {
	for key, text := range map[string]string{"bos_token": startOfText, "eos_token": endOfText, "unk_token": endOfText, "pad_token": endOfText} {
		if !s.init.has(key) {
			s.init.set(key, text)
		}
	}
	for _, key := range wanted {
		if s.init.get(key) == nil {
			return s.bad(key, "a token")
		}
	}
	return nil
}

// sorted are the added tokens by id.
func (s *settings) sorted() (ids []int32, tokens []addedToken) {
	for _, key := range s.added.keys {
		n, _ := strconv.Atoi(key)
		ids = append(ids, int32(n))
	}
	slices.Sort(ids)
	for _, id := range ids {
		tokens = append(tokens, s.added.get(strconv.Itoa(int(id))).(addedToken))
	}
	return ids, tokens
}

// loadPython is CLIPTokenizer of transformers 4.53.
func (t *Tokenizer) loadPython(f TokenizerFiles, s *settings) error {
	t.rules = rules{python: true}
	for _, part := range []struct {
		name string
		raw  []byte
	}{{vocabFile, f.Vocab}, {mergesFile, f.Merges}} {
		if part.raw == nil {
			return &badmodel.Error{File: t.file(part.name), Got: "missing", Want: "it, or " + tokenizerFile, Err: fs.ErrNotExist}
		}
	}
	// transformers takes the ids by the first of these names.
	if names, ok := s.init.get("model_input_names").([]any); s.init.has("model_input_names") && (!ok || len(names) == 0 || names[0] != "input_ids") {
		return s.bad("model_input_names", "a list that begins with input_ids")
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
			s.init.set(key, addedToken{content: text})
		}
	}
	specials, err := s.specials()
	if err != nil {
		return err
	}
	t.addPython(s, specials)
	t.unk = -1
	if text, ok := content(s.init.get("unk_token")); ok {
		if id, ok := t.vocab[text]; ok {
			t.unk = id
		}
	}
	return t.ends(s)
}

// ends are the ids of begin, end and padding.
func (t *Tokenizer) ends(s *settings) error {
	for key, into := range map[string]*int32{"bos_token": &t.bos, "eos_token": &t.eos, "pad_token": &t.pad} {
		text, _ := content(s.init.get(key))
		id, ok := t.added.ids[text]
		if !ok {
			if id, ok = t.id(text); !ok {
				return s.bad(key, "a token in the vocabulary")
			}
		}
		*into = id
	}
	return nil
}

// addPython adds the special tokens to those that were saved. A token that the vocabulary has not gets the next id; a
// special token that comes as an AddedToken takes the place of what has its id.
func (t *Tokenizer) addPython(s *settings, specials []any) {
	a := &t.added
	for _, key := range s.added.keys {
		n, _ := strconv.Atoi(key)
		a.put(int32(n), s.added.get(key).(addedToken))
	}
	current := map[string]int32{} // beside the vocabulary
	count := len(t.vocab)
	ids, tokens := s.sorted()
	for i, tok := range tokens {
		_, known := t.vocab[tok.content]
		if _, twice := current[tok.content]; !known && !twice {
			count++
		}
		current[tok.content] = ids[i]
	}
	for _, v := range specials {
		text, _ := content(v)
		tok, ok := v.(addedToken)
		if !ok {
			if _, added := a.ids[text]; added {
				continue
			}
			tok = addedToken{content: text}
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
	a.whole = &node{}
	for id, tok := range a.byID {
		a.whole.add(tok.content, id)
	}
	a.whole.end = false // an empty token is none
}

// loadRust is CLIPTokenizerFast of transformers 4.53.
func (t *Tokenizer) loadRust(f TokenizerFiles, s *settings) error {
	padSide, cutSide := "right", "right"
	if f.TokenizerJSON == nil {
		if err := t.fromPython(f, s); err != nil {
			return err
		}
	} else {
		j, err := newSerialized(s, f.TokenizerJSON)
		if err != nil {
			return err
		}
		if err := t.readModel(j, f.MaxTokens); err != nil {
			return err
		}
		t.rules.specials, t.unk = j.specials, t.inVocab(j.unk)
		t.bos, t.eos = j.begin, j.end
		t.added.addRust(j.added, t.vocab)
		padSide, cutSide = j.side("padding"), j.side("truncation")
	}
	if err := t.common(s, padSide, cutSide); err != nil {
		return err
	}
	if err := s.defaults("pad_token"); err != nil {
		return err
	}
	specials, err := s.specials()
	if err != nil {
		return err
	}
	isSpecial := map[string]bool{}
	for _, v := range specials {
		text, _ := content(v)
		isSpecial[text] = true
	}
	_, list := s.sorted()
	list = missing(list, specials, t.added.ids)
	for i, tok := range list {
		list[i].special = tok.special || isSpecial[tok.content]
	}
	t.added.addRust(list, t.vocab)
	t.added.spellSpecial, t.spellAdded = t.spellAdded, false
	t.added.indexRust(t.rules)
	bos, eos := t.bos, t.eos // the post-processor's, whatever the config says
	err = t.ends(s)
	t.bos, t.eos = bos, eos
	return err
}

// missing appends to the saved tokens those special ones that are not among them: strings if no token has their
// content, AddedTokens if none is equal.
func missing(saved []addedToken, specials []any, known map[string]int32) []addedToken {
	list := saved
	for _, v := range specials {
		switch v := v.(type) {
		case string:
			_, added := known[v]
			if !added && !slices.ContainsFunc(saved, func(t addedToken) bool { return t.content == v }) {
				list = append(list, addedToken{content: v, special: true})
			}
		case addedToken:
			if !slices.ContainsFunc(saved, v.equal) {
				list = append(list, v)
			}
		}
	}
	return list
}

func (t *Tokenizer) inVocab(text string) int32 {
	if id, ok := t.vocab[text]; ok {
		return id
	}
	return -1
}

// fromPython makes a fast tokenizer of a slow one as transformers' CLIPConverter does.
func (t *Tokenizer) fromPython(f TokenizerFiles, s *settings) error {
	slow := &Tokenizer{dir: t.dir, added: newAddedTokens()}
	s2, err := readSettings(f, python)
	if err != nil {
		return err
	}
	if err := slow.loadPython(f, s2); err != nil {
		return err
	}
	t.vocab, t.text, t.size, t.merges = slow.vocab, slow.text, slow.size, slow.merges
	t.bos, t.eos, t.unk = slow.bos, slow.eos, slow.unk
	// The slow tokenizer hands over copies of its tokens, in which every field is stated.
	for _, key := range named {
		if tok, ok := s2.init.get(key).(addedToken); ok {
			tok.normalized, tok.stated = tok.isNormalized(), true
			s.init.set(key, tok)
		}
	}
	return t.checkParts(t.file(mergesFile))
}

// readModel reads the vocabulary and the merges of tokenizer.json.
func (t *Tokenizer) readModel(j *serialized, most int) (err error) {
	if t.vocab, err = j.vocabulary(most); err != nil {
		return err
	}
	if err := t.indexVocab(j.file); err != nil {
		return err
	}
	lines, err := j.merges()
	if err != nil {
		return err
	}
	t.merges = merges{}
	for i, parts := range lines {
		if err := t.checkMerge(j.file, fmt.Sprintf("model.merges.%d", i), parts, strings.Join(parts, " ")); err != nil {
			return err
		}
		t.merges[[2]string{parts[0], parts[1]}] = i
	}
	t.fromJSON = true
	return t.checkParts(j.file)
}

// loadRust5 is CLIPTokenizer of transformers 5: the vocabulary and the added tokens of tokenizer.json, with a
// normalizer, a pattern and a post-processor of the class's own.
func (t *Tokenizer) loadRust5(f TokenizerFiles, s *settings) error {
	t.rules = rules{specials: true, unicode17: true}
	j, err := newSerialized(s, f.TokenizerJSON)
	if err != nil {
		return err
	}
	if err := t.readModel(j, f.MaxTokens); err != nil {
		return err
	}
	if err := t.common(s, j.side("padding"), j.side("truncation")); err != nil {
		return err
	}
	if err := s.defaults(required...); err != nil {
		return err
	}
	specials, err := s.specials()
	if err != nil {
		return err
	}
	text, _ := content(s.init.get("unk_token"))
	t.unk = t.inVocab(text)
	names := map[string]bool{}
	for _, key := range named {
		text, _ := content(s.init.get(key))
		names[text] = true
	}
	if d, ok := s.init.get(modelSpecificKey).(*dict); ok {
		for _, key := range d.keys {
			text, _ := content(d.get(key))
			names[text] = true
		}
	}
	_, saved := s.sorted()
	list := missing5(saved, specials)
	for i, tok := range list {
		list[i].special = tok.special || names[tok.content]
	}
	t.added.addRust(list, t.vocab)
	t.added.spellSpecial, t.spellAdded = t.spellAdded, false
	t.added.indexRust(t.rules)
	return t.ends(s)
}

// missing5 appends to the saved tokens those special ones of whose content there is none.
func missing5(saved []addedToken, specials []any) []addedToken {
	list := saved
	for _, v := range specials {
		text, _ := content(v)
		if slices.ContainsFunc(saved, func(t addedToken) bool { return t.content == text }) {
			continue
		}
		tok, ok := v.(addedToken)
		if !ok {
			tok = addedToken{content: text, special: true}
		}
		if !slices.ContainsFunc(list, tok.equal) {
			list = append(list, tok)
		}
	}
	return list
}
