// Package words splits prompts into the words that CLIP's tokenizer encodes one by one. The implementations that it
// follows differ in what they take for letters, spaces and capitals: see Note [Characters].
package words

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rules say how the text between added tokens is split into words.
type Rules struct {
	Python    bool // as Python's CLIPTokenizer does, else as tokenizers does
	Specials  bool // tokenizers' pattern has <|startoftext|> and <|endoftext|> in it
	Unicode17 bool // tokenizers knows the capitals of Unicode 17
}

// Words splits what no added token takes. For tokenizers the text is normalized.
func (r Rules) Words(s string) []string {
	if r.Python {
		return pythonWords(clean(s))
	}
	return r.rustWords(s)
}

// clean is transformers' BasicTokenizer as CLIPTokenizer sets it up: control characters go, white space
// becomes one space, Chinese characters stand alone, and the text is composed and in lower case.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t', r == '\n', r == '\r', unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case r == 0xfffd, controls.has(r):
		case ideograph(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	fields := strings.FieldsFunc(nfc(b.String(), false), PythonSpace)
	for i, f := range fields {
		fields[i] = lowerPython(f)
	}
	return strings.Join(fields, " ")
}

// ideograph reports whether transformers puts spaces around a character: the blocks of CJK ideographs.
func ideograph(r rune) bool {
	for _, b := range [][2]rune{{0x4e00, 0x9fff}, {0x3400, 0x4dbf}, {0x20000, 0x2a6df}, {0x2a700, 0x2b73f},
		{0x2b740, 0x2b81f}, {0x2b820, 0x2ceaf}, {0xf900, 0xfaff}, {0x2f800, 0x2fa1f}} {
		if b[0] <= r && r <= b[1] {
			return true
		}
	}
	return false
}

// beginnings and endings are what CLIP's pattern takes whole wherever it begins.
var (
	beginnings = []string{StartOfText, EndOfText}
	endings    = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}
)

// What begins and ends each prompt, unless a tokenizer's folder says otherwise.
const (
	StartOfText = "<|startoftext|>"
	EndOfText   = "<|endoftext|>"
)

const (
	longS    = 'ſ'
	iota0345 = 0x345
)

// pythonWords splits cleaned text as CLIP's pattern does in Python's regex, which ignores case there: a long s is
// an s, and U+0345, whose capital is a letter, is neither a letter nor anything else, so nothing matches it.
func pythonWords(s string) []string {
	literal := func(s string) int {
		for _, list := range [][]string{beginnings, endings} {
			for _, p := range list {
				if n := foldedPrefix(s, p); n > 0 {
					return n
				}
			}
		}
		return 0
	}
	return split(s, literal, func(r rune) bool { return r == iota0345 })
}

// foldedPrefix is the length of what s has of p at its beginning, where a long s is an s; 0 if it has not.
func foldedPrefix(s, p string) int {
	rest := s
	for _, want := range p {
		r, n := utf8.DecodeRuneInString(rest)
		if r != want && !(want == 's' && r == longS) {
			return 0
		}
		rest = rest[n:]
	}
	return len(s) - len(rest)
}

// rustWords splits normalized text as tokenizers does. Where its pattern has the special tokens in it, the step that
// follows, which was made for GPT-2, takes them apart again.
func (r Rules) rustWords(s string) (list []string) {
	never := func(rune) bool { return false }
	literal := func(s string) int {
		for _, p := range endings {
			if strings.HasPrefix(s, p) {
				return len(p)
			}
		}
		return 0
	}
	if !r.Specials {
		return split(s, literal, never)
	}
	withSpecials := func(s string) int {
		for _, p := range beginnings {
			if strings.HasPrefix(s, p) {
				return len(p)
			}
		}
		return literal(s)
	}
	for _, w := range split(s, withSpecials, never) {
		if slices.Contains(beginnings, w) {
			list = append(list, split(w, literal, never)...)
			continue
		}
		list = append(list, w)
	}
	return list
}

// Normalize is the normalizer of tokenizers for CLIP.
func (r Rules) Normalize(s string) string {
	var b strings.Builder
	space := false
	for _, c := range nfc(s, true) {
		if unicode.IsSpace(c) {
			if !space {
				b.WriteByte(' ')
			}
			space = true
			continue
		}
		space = false
		b.WriteRune(c)
	}
	return lowerRust(b.String(), r.Unicode17)
}

// split cuts text into what literal finds, runs of letters, single numbers and runs of anything else. What skip
// says, and white space, is in none of them.
func split(s string, literal func(string) int, skip func(rune) bool) (list []string) {
	space := func(r rune) bool { return unicode.IsSpace(r) || skip(r) }
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		if space(r) {
			s = s[n:]
			continue
		}
		if l := literal(s); l > 0 {
			n = l
		} else if letters.has(r) {
			n = run(s, letters.has)
		} else if !numbers.has(r) {
			n = run(s, func(r rune) bool { return !space(r) && !letters.has(r) && !numbers.has(r) })
		}
		list = append(list, s[:n])
		s = s[n:]
	}
	return list
}

func run(s string, in func(rune) bool) int {
	if i := strings.IndexFunc(s, func(r rune) bool { return !in(r) }); i >= 0 {
		return i
	}
	return len(s)
}
