package textenc

import (
	"container/heap"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/hftokenizer"
	"github.com/euryale-ml/euryale/internal/words"
)

// Byte-pair encoding (Sennrich et al. 2016) over bytes. In the vocabulary each byte is written as a printable
// character, and the last one of a word ends with hftokenizer.WordEnd.

// byteSymbols is GPT-2's table: printable Latin-1 characters stand for themselves, the other bytes for the
// characters from U+0100 on.
var byteSymbols, symbolBytes = func() (sym [256]string, back map[rune]byte) {
	back = map[rune]byte{}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae) {
			r = next
			next++
		}
		sym[b], back[r] = string(r), byte(b)
	}
	return sym, back
}()

// merges are pairs of symbols and how early each was learnt.
type merges map[[2]string]int

// apply joins neighbours, always the pair that was learnt first, leftmost first. Pairs wait in a queue, so a
// word of n bytes takes n log n time.
//
// With passes set a pair that comes of a merge waits until all pairs of that merge are done, as in Python's
// CLIPTokenizer; tokenizers takes it at once. The results differ for merges out of order alone, where a pair was
// learnt before one of its parts.
func (m merges) apply(parts []string, passes bool) []string {
	n := len(parts)
	prev, next := make([]int, n), make([]int, n)
	for i := range parts {
		prev[i], next[i] = i-1, i+1
	}
	var q, later pairs
	push := func(i int) {
		if i < 0 || next[i] >= n {
			return
		}
		rank, ok := m[[2]string{parts[i], parts[next[i]]}]
		switch p := (pair{rank, i, parts[i], parts[next[i]]}); {
		case !ok:
		case passes:
			later = append(later, p)
		default:
			heap.Push(&q, p)
		}
	}
	for i := range parts {
		push(i)
	}
	for rank := -1; len(q)+len(later) > 0; {
		if len(q) == 0 || q[0].rank != rank {
			for _, p := range later {
				heap.Push(&q, p)
			}
			later, rank = later[:0], q[0].rank
		}
		p := heap.Pop(&q).(pair)
		j := n
		if parts[p.at] != "" {
			j = next[p.at]
		}
		if j >= n || parts[p.at] != p.a || parts[j] != p.b {
			continue // one of them has been merged since
		}
		parts[p.at] += parts[j]
		parts[j] = ""
		next[p.at] = next[j]
		if next[j] < n {
			prev[next[j]] = p.at
		}
		push(prev[p.at])
		push(p.at)
	}
	return slices.DeleteFunc(parts, func(p string) bool { return p == "" })
}

type pair struct {
	rank, at int
	a, b     string
}

// pairs is a heap: lowest rank first, then leftmost.
type pairs []pair

func (q pairs) Len() int { return len(q) }
func (q pairs) Less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].at < q[j].at
}
func (q pairs) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *pairs) Push(x any)   { *q = append(*q, x.(pair)) }
func (q *pairs) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// symbols are the bytes of a word as the vocabulary writes them.
func symbols(word string) []string {
	parts := make([]string, len(word))
	for i := range len(word) {
		parts[i] = byteSymbols[word[i]]
	}
	parts[len(parts)-1] += hftokenizer.WordEnd
	return parts
}

// pieces are the tokens of one word.
func (t *Tokenizer) pieces(word string) []string {
	if t.hf.Rules.Python {
		if word == words.StartOfText || word == words.EndOfText {
			return []string{word} // whatever the vocabulary
		}
		return merges(t.hf.Merges).apply(symbols(word), true)
	}
	return merges(t.hf.Merges).apply(symbols(word), false)
}

// decode is the text of ids.
func (t *Tokenizer) decode(ids []int32) string {
	var text strings.Builder
	for _, id := range ids {
		if added, ok := t.hf.Added.ByID[id]; ok {
			text.WriteString(added.Content + hftokenizer.WordEnd)
			continue
		}
		text.WriteString(t.hf.Text[id])
	}
	var b strings.Builder
	for _, r := range strings.ReplaceAll(text.String(), hftokenizer.WordEnd, " ") {
		if c, ok := symbolBytes[r]; ok {
			b.WriteByte(c)
		} else {
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(strings.ToValidUTF8(b.String(), "\ufffd"))
}
