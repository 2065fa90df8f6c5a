// Command mkmodel writes a model folder of Stable Diffusion's shapes with seeded random weights, the same bytes on
// every machine, for measurements.
//
//	go run ./bench/mkmodel -family sd15 -o /path/to/folder
//
// For a machine without Go: CGO_ENABLED=0 go build ./bench/mkmodel makes one file that needs nothing else.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/euryale-ml/euryale/bench"
	"github.com/euryale-ml/euryale/internal/dtype"
)

func main() {
	f := bench.Folder{DType: dtype.F16}
	flag.StringVar(&f.Family, "family", "sd15", strings.Join(bench.Families, ", "))
	flag.BoolVar(&f.Small, "small", false, "the same blocks with few channels, for tests")
	flag.BoolVar(&f.Zeros, "shapes", false, "write no numbers, which is enough to plan: weights are zeros that take no room on disk")
	flag.Uint64Var(&f.Seed, "seed", 1, "of the weights")
	f32 := flag.Bool("f32", false, "float32 weights in place of float16")
	out := flag.String("o", "", "`folder` to write")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(1)
	}
	if *f32 {
		f.DType = dtype.F32
	}
	if err := f.Write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "mkmodel:", err)
		os.Exit(1)
	}
}
