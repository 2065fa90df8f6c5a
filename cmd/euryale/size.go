package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a number of bytes with a unit.
type size int

var units = []struct {
	name  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"K", 1 << 10}, {"M",
	1 << 20}, {"G", 1 << 30}, {"B", 1}}

func (s *size) Set(text string) error {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		switch bytes := v * u.bytes; {
		case err != nil || !(v > 0):
		case bytes >= math.MaxInt64/2:
			return fmt.Errorf("that is more than any machine has")
		case bytes >= 1:
			*s = size(bytes)
			return nil
		}
		return fmt.Errorf("want a size such as 512MiB or 2GiB")
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return fmt.Errorf("want a unit: %sGiB, %sMiB or %sB", text, text, text)
	}
	return fmt.Errorf("want a size such as 512MiB or 2GiB")
}

func (s *size) String() string {
	if s == nil || *s == 0 {
		return ""
	}
	return fmt.Sprintf("%d MiB", (int(*s)+1<<20-1)>>20)
}
