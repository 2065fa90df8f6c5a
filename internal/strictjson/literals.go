package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Note [Literals of Python]
//
// Python's json module writes NaN, Infinity and -Infinity, which JSON does not have, and reads them back. Plain
// replaces them by numbers that JSON has and that no float64 holds, each by another: a decoder that does not know of
// them refuses such a field as out of range, Float knows them, and Text shows them as they were written.

// literals are in the order in which they are tried: the longest first.
var literals = []struct{ python, plain string }{{"-Infinity", "-1e999999"}, {"Infinity", "1e999999"}, {"NaN", "1e888888"}}

// Plain is raw with Python's literals outside strings replaced by numbers. What is no JSON stays none.
func Plain(raw []byte) []byte {
	return replace(raw, func(i int) (string, string) { return literals[i].python, literals[i].plain })
}

// maxText is more than any message shows.
const maxText = 1000

// Text is a JSON value on one line, with Python's literals as they were written. Characters that cannot be printed are
// escaped, so that a value from a file can stand in a message; a long one is cut.
func Text(raw []byte) string {
	var line bytes.Buffer
	if json.Compact(&line, Plain(raw)) != nil {
		return strconv.Quote(string(raw))
	}
	if line.Len() > maxText {
		line.Truncate(maxText)
		line.WriteString("...")
	}
	var b strings.Builder
	text := replace(line.Bytes(), func(i int) (string, string) { return literals[i].plain, literals[i].python })
	for _, r := range string(text) {
		switch {
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// Float is a JSON number, or one of Python's literals, as Python reads it: infinite beyond float64.
func Float(raw []byte) (v float64, ok bool) {
	var n json.Number
	text := bytes.TrimSpace(Plain(raw))
	if len(text) == 0 || text[0] == '"' || json.Unmarshal(text, &n) != nil || n == "" {
		return 0, false
	}
	if n == "1e888888" {
		return math.NaN(), true
	}
	v, err := strconv.ParseFloat(string(n), 64)
	return v, err == nil || errors.Is(err, strconv.ErrRange)
}

// replace replaces values outside strings that are one of the literals.
func replace(raw []byte, literal func(i int) (from, to string)) []byte {
	var out []byte
	done, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch b := raw[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted || !starts(raw, i):
		default:
			for k := range literals {
				from, to := literal(k)
				if end := i + len(from); bytes.HasPrefix(raw[i:], []byte(from)) && !continues(raw, end) {
					out = append(append(out, raw[done:i]...), to...)
					done, i = end, end-1
					break
				}
			}
		}
	}
	if done == 0 {
		return raw
	}
	return append(out, raw[done:]...)
}

// starts reports whether a literal may begin at i.
func starts(raw []byte, i int) bool {
	return (raw[i] == '-' || raw[i] == 'I' || raw[i] == 'N' || raw[i] == '1') && (i == 0 || !continues(raw, i-1))
}

// continues reports whether the byte at i is one of a number or a word.
func continues(raw []byte, i int) bool {
	if i >= len(raw) {
		return false
	}
	b := raw[i]
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || bytes.IndexByte([]byte("+-._"), b) >= 0
}
