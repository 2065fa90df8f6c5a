package words

import (
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Note [Characters]
//
// A picture depends on which characters are letters, which are dropped and how they are composed, and each reference
// has its own idea. transformers' CLIPTokenizer drops what Python 3.11's unicodedata 14.0.0 does not know, so that
// letters, numbers and lower case of later versions never matter to it. The library tokenizers 0.21.4, which
// CLIPTokenizerFast runs, drops nothing: its letters and numbers are those of Oniguruma (Unicode 16.0), its lower case
// is Rust's (16.0; tokenizers 0.23.3 of transformers 5 has 17.0), and its normal form knows no marks that are younger
// than Unicode 9. What Go knows depends on the toolchain, so tables of the references' own knowledge are committed in
// unicode_tables.go. Package textenc's TestEveryCharacter compares all 1,112,064 characters.

// has reports whether r is in one of the ranges.
func (t runes) has(r rune) bool {
	i := sort.Search(len(t)/2, func(i int) bool { return t[2*i+1] >= r })
	return i < len(t)/2 && t[2*i] <= r
}

// lateComposite is a character that came with Unicode 13, after the normal form of tokenizers: it is not taken apart
// and not put together.
const lateComposite = 0x11938

// nfc composes a text canonically, as norm.NFC does but for two things: norm.NFC puts U+034F after thirty marks in a
// row, and with late set, marks and composites younger than the normal form of tokenizers are like any character.
func nfc(s string, late bool) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return s
	}
	var parts []classed
	for i, r := range s {
		p := norm.NFC.PropertiesString(s[i:])
		d := p.Decomposition()
		if d == nil || late && r == lateComposite {
			parts = append(parts, classify(r, late))
			continue
		}
		for _, r := range string(d) {
			parts = append(parts, classify(r, late))
		}
	}
	for i := 0; i < len(parts); {
		j := i
		for j < len(parts) && parts[j].class != 0 {
			j++
		}
		slices.SortStableFunc(parts[i:j], func(a, b classed) int { return int(a.class) - int(b.class) })
		i = j + 1
	}
	return string(compose(parts, late))
}

// classed is a character and its combining class, 0 for a starter.
type classed struct {
	r     rune
	class uint8
	alone bool // nothing before it can be composed with it
}

func classify(r rune, late bool) classed {
	if r < 0x300 {
		return classed{r, 0, true}
	}
	p := norm.NFC.PropertiesString(string(r))
	c := classed{r, p.CCC(), p.BoundaryBefore()}
	if late && !marks.has(r) {
		c.class = 0
	}
	return c
}

// compose joins each starter with the marks behind it that no mark of the same or a higher class keeps away.
func compose(parts []classed, late bool) []rune {
	out, starter := make([]rune, 0, len(parts)), -1
	last := uint8(0) // class of the last character kept
	for _, p := range parts {
		if starter >= 0 && !p.alone && (len(out) == starter+1 || last < p.class) {
			if both, ok := composite(out[starter], p.r); ok && !(late && both == lateComposite) {
				out[starter] = both
				continue
			}
		}
		if last = p.class; last == 0 {
			starter = len(out)
		}
		out = append(out, p.r)
	}
	return out
}

// composite is the one character that two are composed to. norm.NFC takes U+10041 for U+0041 there, so that what it
// finds is taken apart again.
func composite(a, b rune) (rune, bool) {
	pair := string([]rune{a, b})
	whole := norm.NFC.String(pair)
	r, n := utf8.DecodeRuneInString(whole)
	return r, n == len(whole) && norm.NFD.String(whole) == norm.NFD.String(pair)
}

// lowerPython is Python's str.lower: a sigma at the end of a word has a form of its own.
func lowerPython(word string) string {
	text := []rune(word)
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == 'İ':
			b.WriteString("i̇")
		case r == 'Σ' && finalSigma(text, i):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// finalSigma is the condition Final_Sigma of the Unicode standard, section 3.13.
func finalSigma(text []rune, i int) bool {
	before, after := i-1, i+1
	for before >= 0 && caseIgnorable(text[before]) {
		before--
	}
	for after < len(text) && caseIgnorable(text[after]) {
		after++
	}
	return before >= 0 && cased(text[before]) && (after == len(text) || !cased(text[after]))
}

func cased(r rune) bool {
	return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

// caseIgnorable is the property Case_Ignorable: some categories, and the punctuation that may be in a word.
func caseIgnorable(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) ||
		strings.ContainsRune("'.:··՟״‘’․‧︓﹒﹕＇．：", r)
}

// A shift is a range of capitals and how far their small letters are from them.
type shift struct{ first, last, by rune }

// lateCapitals are younger than Go's Unicode 15.0: those of 16.0, then those of 17.0.
var lateCapitals = [2][]shift{
	{{0x1c89, 0x1c89, 1}, {0xa7cb, 0xa7cb, 0x264 - 0xa7cb}, {0xa7cc, 0xa7cc, 1}, {0xa7da, 0xa7da, 1},
		{0xa7dc, 0xa7dc, 0x19b - 0xa7dc}, {0x10d50, 0x10d65, 0x20}},
	{{0xa7ce, 0xa7ce, 1}, {0xa7d2, 0xa7d2, 1}, {0xa7d4, 0xa7d4, 1}, {0x16ea0, 0x16eb8, 0x1b}},
}

// lowerRust is Rust's char::to_lowercase of each character, which looks at no neighbours.
func lowerRust(s string, unicode17 bool) string {
	late := lateCapitals[:1]
	if unicode17 {
		late = lateCapitals[:]
	}
	var b strings.Builder
	for _, r := range s {
		if r == 'İ' {
			b.WriteString("i̇")
			continue
		}
		low := unicode.ToLower(r)
		for _, shifts := range late {
			for _, s := range shifts {
				if s.first <= r && r <= s.last {
					low = r + s.by
				}
			}
		}
		b.WriteRune(low)
	}
	return b.String()
}

// PythonSpace is Python's str.isspace, which counts four separators that Go does not.
func PythonSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// InWord is \w of Rust's regular expressions: annex C of Unicode Technical Standard 18.
func InWord(r rune) bool {
	return letters.has(r) || unicode.In(r, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic,
		unicode.Join_Control)
}
