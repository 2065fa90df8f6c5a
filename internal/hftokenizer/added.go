package hftokenizer

// AddedToken is a token that stands for itself in a prompt, as tokenizers' AddedToken describes it.
type AddedToken struct {
	Content    string
	LStrip     bool // takes the white space before it
	RStrip     bool // takes the white space behind it
	SingleWord bool // only where it is a word of its own
	special    bool
	normalized bool // see Normalized
	stated     bool // normalized is set, and not the opposite of special
}

// Normalized reports whether the token is looked for in normalized text.
func (a AddedToken) Normalized() bool {
	if a.stated {
		return a.normalized
	}
	return !a.special
}

// equal is the equality of Python's AddedToken: of all fields.
func (a AddedToken) equal(b AddedToken) bool {
	a.normalized, b.normalized, a.stated, b.stated = a.Normalized(), b.Normalized(), true, true
	return a == b
}

// Added are the tokens added to a vocabulary. All references keep two maps that need not agree: two tokens may have
// one id.
type Added struct {
	IDs  map[string]int32
	ByID map[int32]AddedToken

	// The library tokenizers looks for the special ones first. None of the others has the content of one of these.
	Special, Other []AddedToken
	IsSpecial      map[string]bool // by content

	past int32 // one more than the largest id
}

func newAdded() Added {
	return Added{IDs: map[string]int32{}, ByID: map[int32]AddedToken{}, IsSpecial: map[string]bool{}}
}

// put gives a token an id, which both maps then have for it.
func (a *Added) put(id int32, t AddedToken) {
	a.IDs[t.Content], a.ByID[id] = id, t
	a.past = max(a.past, id+1)
}

// addRust is add_tokens of tokenizers: a token of the vocabulary keeps its id there, and a token that is added a
// second time changes only how it is looked for.
func (a *Added) addRust(list []AddedToken, vocab map[string]int32) {
	for _, t := range list {
		if t.special && t.Content != "" && !a.IsSpecial[t.Content] {
			a.Special = append(a.Special, t)
			a.IsSpecial[t.Content] = true
		}
	}
	for _, t := range list {
		id, added := a.IDs[t.Content]
		if t.Content == "" || added && a.ByID[id].equal(t) {
			continue
		}
		if !added {
			known := false
			if id, known = vocab[t.Content]; !known {
				id = max(int32(len(vocab)), a.past)
			}
		}
		a.put(id, t)
		if !a.IsSpecial[t.Content] {
			a.Other = append(a.Other, t)
		}
	}
}
