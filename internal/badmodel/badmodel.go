// Package badmodel holds the one error type for "this model folder cannot be used", shared by every package
// that reads a part of it. Users see it as loader.Error.
package badmodel

import (
	"strconv"
	"strings"
)

// Error says what in a model folder is wrong: where, what was found, what was wanted.
type Error struct {
	File   string // path inside the model folder
	Tensor string // checkpoint name, if the fault is in one tensor
	Field  string // config or header field, if the fault is in one
	Got    string // what was found
	Want   string // what was wanted
	Err    error  // the cause, if another error
}

// Error is "file: tensor: field: got, want". Names come from the folder and so are quoted when they hold
// anything but printable text.
func (e *Error) Error() string {
	var b strings.Builder
	for _, s := range []string{e.File, e.Tensor, e.Field} {
		if s != "" {
			b.WriteString(Quote(s))
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Got)
	if e.Want != "" {
		b.WriteString(", want ")
		b.WriteString(e.Want)
	}
	if e.Err != nil {
		if e.Got != "" || e.Want != "" {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Quote returns s as it is if it is short printable text, else quoted and cut to 80 runes.
func Quote(s string) string {
	cut := s
	if r := []rune(s); len(r) > 80 {
		cut = string(r[:80]) + "..."
	}
	if q := strconv.Quote(cut); q != `"`+cut+`"` {
		return q
	}
	return cut
}
