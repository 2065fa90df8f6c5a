// Command report makes Markdown tables of the files that the scripts in bench/peers write.
//
//	go run ./bench/report cpu.json
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: report file.json ...")
		os.Exit(1)
	}
	for _, name := range os.Args[1:] {
		if err := report(name); err != nil {
			fmt.Fprintf(os.Stderr, "report: %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func report(name string) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	return r.markdown(os.Stdout)
}
