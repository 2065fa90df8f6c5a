// Command mkmodel writes a model folder of the real shapes of Stable Diffusion with random weights, for
// measurements.
//
//	go run ./bench/mkmodel -family sd15 -o /path/to/folder
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/euryale-ml/euryale/bench"
)

func main() {
	family := flag.String("family", "sd15", strings.Join(bench.Families, ", "))
	out := flag.String("o", "", "`folder` to write")
	shapes := flag.Bool("shapes", false, "write no numbers, which is enough to plan: weights are zeros that take no room on disk")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(1)
	}
	write := bench.WriteModel
	if *shapes {
		write = bench.WriteShapes
	}
	if err := write(*out, *family); err != nil {
		fmt.Fprintln(os.Stderr, "mkmodel:", err)
		os.Exit(1)
	}
}
