//go:build !unix

package outfile

import (
	"errors"
	"io/fs"
	"os"
)

// Descriptors have no paths on this system.
func descriptor(string) (int, bool)        { return 0, false }
func ofOther(string) bool                  { return false }
func duplicate(int) (*os.File, error)      { return nil, errors.ErrUnsupported }
func canWrite(int) error                   { return errors.ErrUnsupported }
func likeThat(*os.File, fs.FileInfo) error { return nil }
