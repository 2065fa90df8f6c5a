package textenc

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/euryale-ml/euryale/internal/hftokenizer"
	"github.com/euryale-ml/euryale/internal/words"
)

// segment is a part of a prompt: an added token, or text to be split into words.
type segment struct {
	text  string
	id    int32
	token bool
}

// addedTokens looks for a tokenizer's added tokens in prompts.
type addedTokens struct {
	hftokenizer.Added
	rules words.Rules
	spell bool // added tokens are spelt out: by Python all of them, by tokenizers the special ones

	whole           *node // for Python
	raw, normalized *node // for tokenizers: those looked for in the text as it is, and those in normalized text
}

func newAddedTokens(t *hftokenizer.Tokenizer) addedTokens {
	a := addedTokens{t.Added, t.Rules, t.SpellAdded, &node{}, &node{}, &node{}}
	if a.rules.Python {
		for id, tok := range a.ByID {
			a.whole.add(tok.Content, id)
		}
		return a
	}
	for _, tok := range slices.Concat(a.Special, a.Other) {
		if id := a.IDs[tok.Content]; tok.Normalized() {
			a.normalized.add(a.rules.Normalize(tok.Content), id)
		} else {
			a.raw.add(tok.Content, id)
		}
	}
	return a
}

// segments splits a prompt at added tokens.
func (a *addedTokens) segments(s string) []segment {
	switch {
	case !a.rules.Python:
		return a.rustSegments(s)
	case a.spell:
		return []segment{{text: s}}
	}
	return a.pythonSegments(s)
}

// node is one of a trie.
type node struct {
	next map[rune]*node
	end  bool
	id   int32
}

// add notes a token, the first of its content.
func (n *node) add(text string, id int32) {
	for _, r := range text {
		if n.next == nil {
			n.next = map[rune]*node{}
		}
		if n.next[r] == nil {
			n.next[r] = &node{}
		}
		n = n.next[r]
	}
	if !n.end {
		n.end, n.id = true, id
	}
}

// attempt is a token begun: text[from:] up to here leads to the node.
type attempt struct {
	from int
	*node
}

// pythonCuts says where transformers' Trie cuts a text: before and behind the leftmost tokens, of which it takes the
// longest. An attempt that has just failed is tried once more when a later one has ended, with one character
// left out; what is cut out then need not be a token, and the caller takes it as text.
func (n *node) pythonCuts(text []rune) (cuts []int) {
	var open []attempt
	after := 0
	for i, r := range text {
		if i < after {
			continue
		}
		k := slices.IndexFunc(open, func(a attempt) bool { return a.end })
		var alive []attempt
		for j, a := range open {
			if j == k {
				break
			}
			if next := a.next[r]; next != nil {
				open[j].node = next
				alive = append(alive, open[j])
			}
		}
		if k >= 0 {
			from, to := longest(text, open[:k+1], i)
			cuts = append(cuts, from, to)
			after, alive = max(after, to), nil
		}
		if open = alive; i >= after && n.next[r] != nil {
			open = append(open, attempt{i, n.next[r]})
		}
	}
	for _, a := range open {
		if a.end {
			return append(cuts, a.from, len(text))
		}
	}
	return cuts
}

// longest is the token to take at position i, where the last of the attempts has ended: the one that began first.
func longest(text []rune, open []attempt, i int) (from, to int) {
	for j, a := range open {
		at := i
		if j < len(open)-1 {
			at++ // the others have taken text[i] already
		}
		found := false
		for n := a.node; ; at++ {
			if n.end {
				from, to, found = a.from, at, true
			}
			if at >= len(text) || n.next[text[at]] == nil {
				break
			}
			n = n.next[text[at]]
		}
		if found {
			break
		}
	}
	return from, to
}

// pythonSegments splits a prompt at added tokens as PreTrainedTokenizer.tokenize does.
func (a *addedTokens) pythonSegments(s string) []segment {
	text, start := []rune(s), 0
	var parts []string
	for _, cut := range append(a.whole.pythonCuts(text), len(text)) {
		if cut > start {
			parts = append(parts, string(text[start:cut]))
			start = cut
		}
	}
	for i, part := range parts {
		id, ok := a.IDs[part]
		if !ok {
			continue
		}
		var left, right string
		if i > 0 {
			left = parts[i-1]
		}
		if i+1 < len(parts) {
			right = parts[i+1]
		}
		tok := a.ByID[id]
		if tok.RStrip && right != "" {
			parts[i+1] = strings.TrimLeftFunc(right, words.PythonSpace)
		}
		if tok.LStrip && left != "" {
			parts[i-1] = strings.TrimRightFunc(left, words.PythonSpace)
		}
		switch {
		case !tok.SingleWord:
		case left != "" && !strings.HasSuffix(left, " "):
			parts[i-1] += part
			parts[i] = ""
		case right != "" && !strings.HasPrefix(right, " "):
			parts[i+1] = part + parts[i+1]
			parts[i] = ""
		}
	}
	var list []segment
	for _, part := range parts {
		if part != "" {
			id, ok := a.IDs[part]
			list = append(list, segment{part, id, ok})
		}
	}
	return list
}

// rustSegments splits a prompt at added tokens as tokenizers does: first at those that are looked for in the text as
// it is, then at those for which it is normalized. The text between them is normalized.
func (a *addedTokens) rustSegments(s string) (list []segment) {
	for _, outer := range a.matches(s, a.raw) {
		if outer.token {
			list = append(list, outer)
			continue
		}
		list = append(list, a.matches(a.rules.Normalize(outer.text), a.normalized)...)
	}
	return list
}

// matches cuts a text at the leftmost, then longest tokens.
func (a *addedTokens) matches(s string, trie *node) (list []segment) {
	done := 0 // up to here the text is in the list
	for i := 0; i < len(s); {
		id, n := trie.longest(s[i:])
		if n == 0 {
			_, n = utf8.DecodeRuneInString(s[i:])
			i += n
			continue
		}
		start, stop := i, i+n
		i = stop
		t := a.ByID[id]
		if a.spell && a.IsSpecial[t.Content] ||
			t.SingleWord && (endsInWord(s[:start]) || beginsWithWord(s[stop:])) {
			continue
		}
		if t.LStrip {
			start = max(done, len(strings.TrimRightFunc(s[:start], unicode.IsSpace)))
		}
		if t.RStrip {
			stop = len(s) - len(strings.TrimLeftFunc(s[stop:], unicode.IsSpace))
		}
		if done < start {
			list = append(list, segment{text: s[done:start]})
		}
		list = append(list, segment{t.Content, id, true})
		done = stop
	}
	if done < len(s) {
		list = append(list, segment{text: s[done:]})
	}
	return list
}

// longest is the longest token at the beginning of s, of n bytes.
func (n *node) longest(s string) (id int32, size int) {
	for i, r := range s {
		if n = n.next[r]; n == nil {
			break
		}
		if n.end {
			id, size = n.id, i+utf8.RuneLen(r)
		}
	}
	return id, size
}

func endsInWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && words.InWord(r)
}

func beginsWithWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && words.InWord(r)
}
