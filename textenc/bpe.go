package textenc

import (
	"container/heap"
	"strings"
)

// Byte-pair encoding (Sennrich et al. 2016) over bytes. In the vocabulary each byte is written as a printable
// character, and the last one of a word ends with "</w>".
const wordEnd = "</w>"

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

// appendWord appends the ids of one word.
func (t *Tokenizer) appendWord(ids []int32, word string) []int32 {
	for _, sp := range t.specials {
		if word == sp.text {
			return append(ids, sp.id)
		}
	}
	parts := make([]string, len(word))
	for i := range len(word) {
		parts[i] = byteSymbols[word[i]]
	}
	parts[len(parts)-1] += wordEnd
	for _, p := range t.merge(parts) {
		id, ok := t.ids[p]
		if !ok {
			id = t.eos // transformers' unknown token
		}
		ids = append(ids, id)
	}
	return ids
}

// merge joins neighbours, always the pair that was learnt first, leftmost first. Pairs wait in a queue, so a
// word of n bytes takes n log n time.
func (t *Tokenizer) merge(parts []string) []string {
	n := len(parts)
	prev, next := make([]int, n), make([]int, n)
	for i := range parts {
		prev[i], next[i] = i-1, i+1
	}
	var q pairs
	push := func(i int) {
		if i < 0 || next[i] >= n {
			return
		}
		if rank, ok := t.ranks[[2]string{parts[i], parts[next[i]]}]; ok {
			heap.Push(&q, pair{rank, i, parts[i], parts[next[i]]})
		}
	}
	for i := range parts {
		push(i)
	}
	for q.Len() > 0 {
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
	out := parts[:0]
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
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

// decode is the text of ids.
func (t *Tokenizer) decode(ids []int32) string {
	var text strings.Builder
	for _, id := range ids {
		text.WriteString(t.text[id])
	}
	var b strings.Builder
	for _, r := range strings.ReplaceAll(text.String(), wordEnd, " ") {
		if c, ok := symbolBytes[r]; ok {
			b.WriteByte(c)
		} else {
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(strings.ToValidUTF8(b.String(), "\ufffd"))
}
