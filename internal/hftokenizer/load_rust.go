package hftokenizer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/words"
)

// loadRust is CLIPTokenizerFast of transformers 4.53.
func (t *Tokenizer) loadRust(f Files, s *settings) error {
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
		t.Rules.Specials, t.unknown = j.specials, t.inVocab(j.unk)
		t.Begin, t.End = j.begin, j.end
		t.Added.addRust(j.added, t.vocab)
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
	list = missing(list, specials, t.Added.IDs)
	for i, tok := range list {
		list[i].special = tok.special || isSpecial[tok.Content]
	}
	t.Added.addRust(list, t.vocab)
	return t.ends(s, "pad_token") // begin and end are the post-processor's, whatever the config says
}

// missing appends to the saved tokens those special ones that are not among them: strings if no token has their
// content, AddedTokens if none is equal.
func missing(saved []AddedToken, specials []any, known map[string]int32) []AddedToken {
	list := saved
	for _, v := range specials {
		switch v := v.(type) {
		case string:
			_, added := known[v]
			if !added && !slices.ContainsFunc(saved, func(t AddedToken) bool { return t.Content == v }) {
				list = append(list, AddedToken{Content: v, special: true})
			}
		case AddedToken:
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
func (t *Tokenizer) fromPython(f Files, s *settings) error {
	slow := &Tokenizer{dir: t.dir, Added: newAdded()}
	s2, err := readSettings(f, python)
	if err != nil {
		return err
	}
	if err := slow.loadPython(f, s2); err != nil {
		return err
	}
	t.vocab, t.Text, t.Size, t.Merges = slow.vocab, slow.Text, slow.Size, slow.Merges
	t.Begin, t.End, t.unknown = slow.Begin, slow.End, slow.unknown
	// The slow tokenizer hands over copies of its tokens, in which every field is stated.
	for _, key := range named {
		if tok, ok := s2.init.get(key).(AddedToken); ok {
			tok.normalized, tok.stated = tok.Normalized(), true
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
	t.Merges = map[[2]string]int{}
	for i, parts := range lines {
		if err := t.checkMerge(j.file, fmt.Sprintf("model.merges.%d", i), parts, strings.Join(parts, " ")); err != nil {
			return err
		}
		t.Merges[[2]string{parts[0], parts[1]}] = i
	}
	t.fromJSON = true
	return t.checkParts(j.file)
}

// loadRust5 is CLIPTokenizer of transformers 5: the vocabulary and the added tokens of tokenizer.json, with a
// normalizer, a pattern and a post-processor of the class's own.
func (t *Tokenizer) loadRust5(f Files, s *settings) error {
	t.Rules = words.Rules{Specials: true, Unicode17: true}
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
	if t.unknown = -1; s.init.get("unk_token") != nil {
		text, _ := content(s.init.get("unk_token"))
		t.unknown = t.inVocab(text)
	}
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
		list[i].special = tok.special || names[tok.Content]
	}
	t.Added.addRust(list, t.vocab)
	return t.ends(s, required...)
}

// missing5 appends to the saved tokens those special ones of whose content there is none.
func missing5(saved []AddedToken, specials []any) []AddedToken {
	list := saved
	for _, v := range specials {
		text, _ := content(v)
		if slices.ContainsFunc(saved, func(t AddedToken) bool { return t.Content == text }) {
			continue
		}
		tok, ok := v.(AddedToken)
		if !ok {
			tok = AddedToken{Content: text, special: true}
		}
		if !slices.ContainsFunc(list, tok.equal) {
			list = append(list, tok)
		}
	}
	return list
}
