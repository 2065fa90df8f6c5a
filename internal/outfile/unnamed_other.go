//go:build !linux

package outfile

import (
	"errors"
	"os"
)

// Files have names on this system.
func unnamed(string) (*os.File, error)   { return nil, errors.ErrUnsupported }
func link(f *os.File, name string) error { return errors.ErrUnsupported }
