package hostile

import "errors"

// Mkfifo makes a pipe, which this system has not in folders.
func Mkfifo(string) error { return errors.ErrUnsupported }
