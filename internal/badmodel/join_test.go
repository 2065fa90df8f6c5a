package badmodel

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestJoinListsTen(t *testing.T) {
	many := func(n int) (errs []error) {
		for i := range n {
			errs = append(errs, fmt.Errorf("problem %d", i))
		}
		return errs
	}
	for _, c := range []struct {
		err  error
		want []string // the first line, the last line
		n    int
	}{
		{Join(), nil, 0},
		{Join(nil, nil), nil, 0},
		{Join(many(1)...), []string{"problem 0", "problem 0"}, 1},
		{Join(many(10)...), []string{"problem 0", "problem 9"}, 10},
		{Join(many(208)...), []string{"problem 0", "and 198 more"}, 11},
		{Join(errors.New("first"), Join(many(208)...), errors.Join(many(3)...)), []string{"first", "and 202 more"}, 11},
	} {
		if c.n == 0 {
			if c.err != nil {
				t.Errorf("%v, want nil", c.err)
			}
			continue
		}
		lines := strings.Split(c.err.Error(), "\n")
		if len(lines) != c.n || lines[0] != c.want[0] || lines[len(lines)-1] != c.want[1] {
			t.Errorf("%d lines from %q to %q, want %d from %q", len(lines), lines[0], lines[len(lines)-1], c.n, c.want)
		}
	}
	if err := Join(append(many(20), &Error{File: "x"})...); errors.As(err, new(*Error)) {
		t.Error("an error that is not listed is found")
	}
	if err := Join(append([]error{&Error{File: "x"}}, many(20)...)...); !errors.As(err, new(*Error)) {
		t.Error("an error that is listed is not found")
	}
}
