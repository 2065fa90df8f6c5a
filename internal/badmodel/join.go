package badmodel

import (
	"errors"
	"fmt"
)

// shown is how many problems are listed: the first of hundreds of misfits say what the others would.
const shown = 10

// more stands for the problems that are not listed.
type more int

func (n more) Error() string { return fmt.Sprintf("and %d more", int(n)) }

// Join is errors.Join for problems with a model: at most ten are listed, and how many more there are.
func Join(errs ...error) error {
	var list []error
	rest := more(0)
	var add func(err error)
	add = func(err error) {
		var n more
		switch joined, ok := err.(interface{ Unwrap() []error }); {
		case err == nil:
		case ok:
			for _, e := range joined.Unwrap() {
				add(e)
			}
		case errors.As(err, &n):
			rest += n
		case len(list) == shown:
			rest++
		default:
			list = append(list, err)
		}
	}
	for _, err := range errs {
		add(err)
	}
	if rest > 0 {
		list = append(list, rest)
	}
	return errors.Join(list...)
}
