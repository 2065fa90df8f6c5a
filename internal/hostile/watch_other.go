//go:build !linux

package hostile

import "errors"

// Watch counts how often something in a folder is opened, until count is called.
func Watch(string) (count func() (int, error), err error) { return nil, errors.ErrUnsupported }
