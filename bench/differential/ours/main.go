// Command ours is Euryale's side of bench/differential: it reads cases, a line of JSON each, and answers each by a
// line.
//
//	ours part <cases >answers
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// parts answer a case.
var parts = map[string]func(line []byte) (answer any, err error){
	"schedulers": scheduler,
	"runs":       scheduler, // as cases they are schedulers
	"models":     model,
	"strings":    tokenizers{}.answer,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 || parts[args[0]] == nil {
		return fmt.Errorf("usage: ours part <cases >answers")
	}
	in, out := bufio.NewScanner(os.Stdin), bufio.NewWriter(os.Stdout)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		answer, err := parts[args[0]](in.Bytes())
		if err != nil {
			return fmt.Errorf("case %s: %w", in.Bytes(), err)
		}
		line, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		out.Write(line)
		out.WriteByte('\n')
	}
	if err := in.Err(); err != nil {
		return err
	}
	return out.Flush()
}
