package words

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/euryale-ml/euryale/internal/bounded"
)

// Words are what a text holds beside white space, in its order: nothing is lost, made up or put elsewhere.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"", "a cat", "İ<|endoftext|>", "👩‍👩‍👧", "a\x00b", "it's </w> 漢字 12",
		"<|Startoftext|>'ſ'S", "Σ ΑΣ α\u0345 x\u0345y", "e\u0301\u0323 \ua7ce\x1c\u00a0", strings.Repeat("ab\u0301", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		for _, rules := range []Rules{{Python: true}, {}, {Specials: true, Unicode17: true}} {
			var text string
			var list []string
			bounded.Do(t, 256, 5*time.Second, func() {
				if text = s; !rules.Python {
					text = rules.Normalize(s)
				}
				list = rules.Words(text)
			})
			if rules.Python {
				text = clean(s)
			}
			if slices.Contains(list, "") {
				t.Fatalf("%+v: %q has an empty word: %q", rules, s, list)
			}
			want := strings.Map(func(r rune) rune {
				if unicode.IsSpace(r) || rules.Python && r == iota0345 {
					return -1
				}
				return r
			}, text)
			if got := strings.Join(list, ""); got != want {
				t.Fatalf("%+v: the words of %q are %q, want those of %q", rules, s, list, want)
			}
		}
	})
}

// The characters are those for which CPython 3.11 says that chr(c).isspace().
func TestPythonSpace(t *testing.T) {
	spaces := runes{0x9, 0xd, 0x1c, 0x20, 0x85, 0x85, 0xa0, 0xa0, 0x1680, 0x1680, 0x2000, 0x200a, 0x2028, 0x2029,
		0x202f, 0x202f, 0x205f, 0x205f, 0x3000, 0x3000}
	for r := range rune(unicode.MaxRune + 1) {
		if got, want := PythonSpace(r), spaces.has(r); got != want {
			t.Errorf("%U is a space: %t, want %t", r, got, want)
		}
	}
}
