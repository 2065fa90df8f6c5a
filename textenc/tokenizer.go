package textenc

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/internal/words"
)

// TokenizerFiles are the contents of a tokenizer's folder. A file that is not there is nil.
type TokenizerFiles struct {
	Dir             string // its name in errors
	Class           string // CLIPTokenizer, which "" is too, or CLIPTokenizerFast
	Vocab           []byte // vocab.json
	Merges          []byte // merges.txt
	TokenizerConfig []byte // tokenizer_config.json
	SpecialTokens   []byte // special_tokens_map.json
	AddedTokens     []byte // added_tokens.json
	TokenizerJSON   []byte // tokenizer.json
	MaxTokens       int    // of a vocabulary; 0: 262,144
	MaxPrompt       int    // bytes; 0: 65,536
}

// Tokenizer is CLIP's byte-pair tokenizer. Its ids are those of the classes CLIPTokenizer and CLIPTokenizerFast of
// transformers 4.53, the former where the optional package ftfy, which repairs badly decoded text, is not installed;
// and, for a folder that 4.53 cannot open, those of CLIPTokenizer of transformers 5.24. See Note [Precedence of a
// tokenizer's files]. It may be used from several goroutines.
type Tokenizer struct {
	dir              string
	rules            words.Rules
	vocab            map[string]int32
	text             map[int32]string // of the ids in vocab
	merges           merges
	added            addedTokens
	vectors          map[string]string // of tokens of several vectors: all of them
	spellAdded       bool              // rules.Python: no added token is looked for in a prompt
	bos, eos, pad    int32
	unk              int32 // -1: none
	max              int
	size             int
	maxPrompt        int
	padLeft, cutLeft bool
	fromJSON         bool             // the vocabulary is that of tokenizer.json
	from             map[string]place // what says an added token
}

// Encoding is a prompt as the text encoder takes it.
type Encoding struct {
	IDs       []int32 // MaxLength of them: begin, tokens, end, padding
	Truncated string  // the part of the prompt that did not fit
}

const maxVocab = 1 << 20

var idRange = fmt.Sprintf("an id from 0 to %d", maxVocab-1)

func tokenLimit(most int) string { return fmt.Sprintf("at most %d, the limit Tokens", most) }

// MaxLength is the number of ids of every encoding.
func (t *Tokenizer) MaxLength() int { return t.max }

// VocabSize is one more than the largest id, be it of the vocabulary or of an added token.
func (t *Tokenizer) VocabSize() int { return t.size }

// CheckRows returns an error if an id has no row in an embedding of n rows.
func (t *Tokenizer) CheckRows(n int) error {
	if t.size <= n {
		return nil
	}
	e := &badmodel.Error{File: t.file(vocabFile), Want: fmt.Sprintf("less than the text encoder's vocab_size %d", n)}
	if t.fromJSON {
		e.File, e.Field = t.file(tokenizerFile), "model.vocab"
	}
	if _, ok := t.text[int32(t.size-1)]; ok {
		e.Got = fmt.Sprintf("token ids up to %d", t.size-1)
		return stack.With(e)
	}
	// No token of the vocabulary: one that was added, or one that tokenizer.json puts around each prompt.
	e.File, e.Field, e.Got = t.file(tokenizerFile), "post_processor", fmt.Sprintf("the id %d", t.size-1)
	if added, ok := t.added.byID[int32(t.size-1)]; ok {
		at := t.from[added.content]
		e.File, e.Field = at.file, at.field
		e.Got = fmt.Sprintf("%s with the id %d", badmodel.Quote(added.content), t.size-1)
	}
	return stack.With(e)
}

// Encode turns a prompt into ids. Text that is not UTF-8 is refused.
func (t *Tokenizer) Encode(prompt string) (_ Encoding, err error) {
	defer stack.Add(&err)
	if len(prompt) > t.maxPrompt {
		return Encoding{}, stack.With(fmt.Errorf("is %d bytes long, want at most %d, the limit Prompt", len(prompt),
			t.maxPrompt))
	}
	for i, r := range prompt {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(prompt[i:]); n == 1 {
				return Encoding{}, stack.With(fmt.Errorf("is not UTF-8 at byte %d", i))
			}
		}
	}
	ids, err := t.all(prompt)
	if err != nil {
		return Encoding{}, err
	}
	enc := Encoding{IDs: make([]int32, 0, t.max)}
	if room := t.max - 2; len(ids) > room {
		kept, rest := ids[:room], ids[room:]
		if t.cutLeft {
			rest, kept = ids[:len(ids)-room], ids[len(ids)-room:]
		}
		enc.Truncated, ids = t.decode(rest), kept
	}
	padding := slices.Repeat([]int32{t.pad}, t.max-2-len(ids))
	if t.padLeft {
		enc.IDs = append(enc.IDs, padding...)
	}
	enc.IDs = append(append(append(enc.IDs, t.bos), ids...), t.eos)
	if !t.padLeft {
		enc.IDs = append(enc.IDs, padding...)
	}
	return enc, nil
}

// all are the ids of a whole prompt, as diffusers has them: where a token stands for several vectors, which the
// folder calls token, token_1, token_2 and so on, a prompt names the first and gets all.
func (t *Tokenizer) all(prompt string) ([]int32, error) {
	list, err := t.tokens(prompt)
	if err != nil {
		return nil, err
	}
	if len(t.vectors) > 0 {
		seen, whole := map[string]bool{}, prompt
		for _, tok := range list {
			every, ok := t.vectors[tok.text]
			if !ok || seen[tok.text] {
				continue
			}
			seen[tok.text] = true
			if n := len(whole) + strings.Count(whole, tok.text)*(len(every)-len(tok.text)); n > t.maxPrompt {
				return nil, stack.With(fmt.Errorf("is %d bytes long with every vector of %s, want at most %d, the limit Prompt", n,
					badmodel.Quote(tok.text), t.maxPrompt))
			}
			whole = strings.ReplaceAll(whole, tok.text, every)
		}
		if list, err = t.tokens(whole); err != nil {
			return nil, err
		}
	}
	ids := make([]int32, len(list))
	for i, tok := range list {
		ids[i] = tok.id
	}
	return ids, nil
}

// token is one of a prompt.
type token struct {
	text string
	id   int32
}

// tokens splits at added tokens and turns what is between them into ids.
func (t *Tokenizer) tokens(s string) (list []token, err error) {
	var segments []segment
	switch {
	case t.rules.Python && t.spellAdded:
		segments = []segment{{text: s}}
	case t.rules.Python:
		segments = t.added.pythonSegments(s)
	default:
		segments = t.added.rustSegments(s, t.rules)
	}
	for _, seg := range segments {
		if seg.token {
			list = append(list, token{seg.text, seg.id})
			continue
		}
		for _, word := range t.rules.Words(seg.text) {
			for _, piece := range t.pieces(word) {
				id, ok := t.id(piece)
				if !ok {
					return nil, stack.With(fmt.Errorf("holds %s, for which the vocabulary has no token, nor has it the unk_token",
						badmodel.Quote(word)))
				}
				list = append(list, token{piece, id})
			}
		}
	}
	return list, nil
}

// finish computes what follows from the tokens added.
func (t *Tokenizer) finish() {
	names := map[string]bool{}
	for id, a := range t.added.byID {
		names[a.content] = true
		t.size = max(t.size, int(id)+1)
	}
	t.size = max(t.size, int(max(t.bos, t.eos, t.pad))+1)
	t.vectors = map[string]string{}
	for name := range names {
		every := name
		for i := 1; names[fmt.Sprintf("%s_%d", name, i)]; i++ {
			every += fmt.Sprintf(" %s_%d", name, i)
		}
		if every != name {
			t.vectors[name] = every
		}
	}
}
