package graphs_test

import (
	"regexp"
	"strings"
)

// sentence says what a group of folders is refused with.
type sentence struct {
	cases string // their names, with * for anything
	want  string // is in the message
	runs  bool   // they run, where diffusers refuses them
}

// lookUp finds the sentence for a folder.
func lookUp(name string) (sentence, bool) {
	for _, s := range sentences {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(s.cases), `\*`, ".*")
		if regexp.MustCompile("^" + pattern + "$").MatchString(name) {
			return s, true
		}
	}
	return sentence{}, false
}

var sentences = []sentence{}
