//go:build !linux

package main

import (
	"errors"
	"os"
)

func forgetRSS() error { return errors.ErrUnsupported }

// rssOf is not known on this system.
func rssOf(*os.ProcessState) int64 { return 0 }
