package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
)

func defineCompletion(fs *flagSet) runner {
	shells := []struct {
		name  string
		print func(io.Writer, []completed)
	}{{"bash", bash}, {"zsh", zsh}, {"fish", fish}}
	for _, s := range shells {
		fs.choices[""] = append(fs.choices[""], s.name)
	}
	return func(_ context.Context, stdout, _ io.Writer) error {
		for _, s := range shells {
			if s.name == fs.Arg(0) {
				s.print(stdout, completions())
				return nil
			}
		}
		return fmt.Errorf("completion is for bash, zsh or fish, not %q; for bash: source <(euryale completion bash)",
			fs.Arg(0))
	}
}

// completed is a command as a shell completes it.
type completed struct {
	name, summary string
	operands      []string
	flags         []completedFlag
}

type completedFlag struct {
	name, usage, arg string // arg is "" for a flag without one
	choices          []string
}

func completions() (all []completed) {
	for _, c := range commands() {
		fs := newFlagSet(c.name)
		c.define(fs)
		entry := completed{name: c.name, summary: c.summary, operands: fs.choices[""]}
		for _, name := range fs.names() {
			f := fs.Lookup(name)
			arg, usage := flag.UnquoteUsage(f)
			if _, isBool := f.Value.(*yes); isBool {
				arg = ""
			}
			entry.flags = append(entry.flags, completedFlag{name, usage, arg, fs.choices[name]})
		}
		all = append(all, entry)
	}
	return all
}

// listed are the choices of a flag, or "" where they are files, folders or anything.
func (f *completedFlag) listed() string {
	if len(f.choices) == 0 || f.choices[0] == anyFile || f.choices[0] == anyFolder {
		return ""
	}
	return strings.Join(f.choices, " ")
}

// bash completes flags, what they may be given, and files and folders after those that name one.
func bash(w io.Writer, all []completed) {
	var names []string
	fmt.Fprint(w, `# source <(euryale completion bash)
_euryale() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=
	case "${COMP_WORDS[1]} $prev" in
`)
	for _, c := range all {
		names = append(names, c.name)
		for _, f := range c.flags {
			if f.arg == "" {
				continue
			}
			do := fmt.Sprintf("COMPREPLY=($(compgen -W '%s' -- \"$cur\"))", f.listed())
			switch {
			case len(f.choices) == 0:
				do = "COMPREPLY=()"
			case f.choices[0] == anyFile:
				do = "COMPREPLY=($(compgen -f -- \"$cur\"))"
			case f.choices[0] == anyFolder:
				do = "COMPREPLY=($(compgen -d -- \"$cur\"))"
			}
			fmt.Fprintf(w, "\t\"%s -%s\" | \"%[1]s --%[2]s\") %[3]s; return ;;\n", c.name, f.name, do)
		}
	}
	fmt.Fprint(w, "\tesac\n\tcase ${COMP_WORDS[1]} in\n")
	for _, c := range all {
		words := append([]string{}, c.operands...)
		for _, f := range c.flags {
			words = append(words, "-"+f.name)
		}
		fmt.Fprintf(w, "\t%s) words='%s' ;;\n", c.name, strings.Join(words, " "))
	}
	fmt.Fprintf(w, `	esac
	((COMP_CWORD == 1)) && words='%s help'
	[[ $cur == --* ]] && words=" $words" && words=${words// -/ --}
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o filenames -F _euryale euryale
`, strings.Join(names, " "))
}

// zsh describes every command and flag.
func zsh(w io.Writer, all []completed) {
	fmt.Fprint(w, `#compdef euryale
# source <(euryale completion zsh), or a file _euryale in $fpath
_euryale() {
	if (( CURRENT == 2 )); then
		local -a commands=(
`)
	for _, c := range all {
		fmt.Fprintf(w, "\t\t\t%s\n", quoted(c.name+":"+c.summary))
	}
	fmt.Fprint(w, `		)
		_describe command commands
		return
	fi
	shift words
	(( CURRENT-- ))
	case $words[1] in
`)
	escape := strings.NewReplacer("[", "\\[", "]", "\\]", ":", "\\:")
	for _, c := range all {
		fmt.Fprintf(w, "\t%s)\n\t\t_arguments", c.name)
		if len(c.operands) > 0 {
			fmt.Fprintf(w, " %s", quoted("1:shell:("+strings.Join(c.operands, " ")+")"))
		}
		for _, f := range c.flags {
			for _, dash := range []string{"-", "--"} {
				spec := dash + f.name + "[" + escape.Replace(f.usage) + "]"
				if f.arg != "" {
					action := "( )"
					switch {
					case f.listed() != "":
						action = "(" + escape.Replace(f.listed()) + ")"
					case len(f.choices) > 0 && f.choices[0] == anyFile:
						action = "_files"
					case len(f.choices) > 0:
						action = "_files -/"
					}
					spec += ":" + f.arg + ":" + action
				}
				fmt.Fprintf(w, " \\\n\t\t\t%s", quoted(spec))
			}
		}
		fmt.Fprint(w, "\n\t\t;;\n")
	}
	fmt.Fprint(w, `	esac
}
if [[ ${funcstack[1]} == _euryale ]]; then _euryale "$@"; else compdef _euryale euryale; fi
`)
}

// fish has one line for each command and flag.
func fish(w io.Writer, all []completed) {
	fmt.Fprint(w, "# euryale completion fish | source\ncomplete -c euryale -f\n")
	for _, c := range all {
		fmt.Fprintf(w, "complete -c euryale -n __fish_use_subcommand -a %s -d %s\n", c.name, quoted(c.summary))
		in := quoted("__fish_seen_subcommand_from " + c.name)
		if len(c.operands) > 0 {
			fmt.Fprintf(w, "complete -c euryale -n %s -a %s\n", in, quoted(strings.Join(c.operands, " ")))
		}
		for _, f := range c.flags {
			name := "-o " + f.name + " -l " + f.name
			if len(f.name) == 1 {
				name = "-s " + f.name
			}
			value := ""
			switch {
			case f.arg == "":
			case f.listed() != "":
				value = " -x -a " + quoted(f.listed())
			case len(f.choices) > 0:
				value = " -r -F"
			default:
				value = " -x"
			}
			fmt.Fprintf(w, "complete -c euryale -n %s %s%s -d %s\n", in, name, value, quoted(f.usage))
		}
	}
}

// quoted is a text as one word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
