package hftokenizer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/internal/strictjson"
	"github.com/euryale-ml/euryale/internal/words"
)

// readVocab reads vocab.json.
func (t *Tokenizer) readVocab(file string, raw []byte, most int) error {
	n, _ := strictjson.Extent(raw)
	if n > most {
		return stack.With(&badmodel.Error{File: file, Got: fmt.Sprintf("%d tokens", n), Want: tokenLimit(most)})
	}
	if err := json.Unmarshal(raw, &t.vocab); err != nil || len(t.vocab) == 0 {
		return stack.With(&badmodel.Error{File: file, Got: "not an object of tokens and ids", Err: err})
	}
	if len(t.vocab) != n {
		return stack.With(&badmodel.Error{File: file,
			Got: fmt.Sprintf("%d tokens, %d of them different", n, len(t.vocab)), Want: "each once"})
	}
	return t.indexVocab(file)
}

// indexVocab checks that each token of the vocabulary has an id of its own.
func (t *Tokenizer) indexVocab(file string) error {
	t.Text = make(map[int32]string, len(t.vocab))
	for text, id := range t.vocab {
		if id < 0 || id >= maxVocab {
			return stack.With(&badmodel.Error{File: file, Field: badmodel.Quote(text), Got: fmt.Sprint(id), Want: idRange})
		}
		if other, twice := t.Text[id]; twice {
			return stack.With(&badmodel.Error{File: file, Field: badmodel.Quote(max(text, other)),
				Got: fmt.Sprintf("id %d, as %s has", id, badmodel.Quote(min(text, other)))})
		}
		t.Text[id] = text
		t.Size = max(t.Size, int(id)+1)
	}
	return nil
}

// maxMerges is what CLIPTokenizer reads of merges.txt.
const maxMerges = 49152 - 256 - 2

// readMerges reads merges.txt as CLIPTokenizer does: the first line that is not blank is left out, be it "#version" or
// a merge, and of a merge that comes twice the later place counts.
func (t *Tokenizer) readMerges(file string, raw []byte) error {
	t.Merges = map[[2]string]int{}
	number, lines := 0, -1 // lines read since the first
	for text := range strings.Lines(string(raw)) {
		number++
		parts := strings.FieldsFunc(text, words.PythonSpace)
		if len(parts) == 0 && lines < 0 {
			continue
		}
		if lines++; lines > maxMerges {
			break
		}
		header := lines == 0 && strings.HasPrefix(strings.TrimPrefix(text, "\ufeff"), "#")
		if len(parts) == 0 || header {
			continue
		}
		text = strings.TrimRight(text, "\r\n")
		if err := t.checkMerge(file, fmt.Sprintf("line %d", number), parts, text); err != nil {
			return err
		}
		if lines > 0 {
			t.Merges[[2]string{parts[0], parts[1]}] = lines
		}
	}
	return nil
}

func (t *Tokenizer) checkMerge(file, field string, parts []string, text string) error {
	if len(parts) == 2 && parts[0] != "" && parts[1] != "" {
		if _, known := t.vocab[parts[0]+parts[1]]; known {
			return nil
		}
	}
	return stack.With(&badmodel.Error{File: file, Field: field, Got: badmodel.Quote(text),
		Want: "two parts of a token in the vocabulary"})
}

// checkParts checks that the vocabulary has both parts of each merge, which tokenizers asks for.
func (t *Tokenizer) checkParts(file string) error {
	byRank := func(a, b [2]string) int { return t.Merges[a] - t.Merges[b] }
	for _, m := range slices.SortedFunc(maps.Keys(t.Merges), byRank) {
		for _, part := range m {
			if _, known := t.vocab[part]; !known {
				return stack.With(&badmodel.Error{File: file, Got: badmodel.Quote(m[0] + " " + m[1]),
					Want: "two tokens of the vocabulary"})
			}
		}
	}
	return nil
}

// common reads what all references read alike.
func (t *Tokenizer) common(s *settings, padSide, cutSide string) (err error) {
	if t.Length, err = s.length(); err != nil {
		return err
	}
	if t.PadLeft, err = s.left("padding_side", padSide); err != nil {
		return err
	}
	if t.CutLeft, err = s.left("truncation_side", cutSide); err != nil {
		return err
	}
	t.SpellAdded, err = s.flag("split_special_tokens")
	return err
}

// required are the attributes without which nothing can be encoded.
var required = []string{"bos_token", "eos_token", "pad_token"}

// defaults gives the special tokens that no file names, and refuses null.
func (s *settings) defaults(wanted ...string) error {
	for _, d := range [][2]string{{"bos_token", words.StartOfText}, {"eos_token", words.EndOfText},
		{"unk_token", words.EndOfText}, {"pad_token", words.EndOfText}} {
		if !s.init.has(d[0]) {
			s.init.set(d[0], d[1])
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
func (s *settings) sorted() (ids []int32, tokens []AddedToken) {
	for _, key := range s.added.keys {
		n, _ := strconv.Atoi(key)
		ids = append(ids, int32(n))
	}
	slices.Sort(ids)
	for _, id := range ids {
		tokens = append(tokens, s.added.get(strconv.Itoa(int(id))).(AddedToken))
	}
	return ids, tokens
}
