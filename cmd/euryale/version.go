package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

func defineVersion(*flagSet) runner {
	return func(_ context.Context, stdout, _ io.Writer) error {
		info, _ := debug.ReadBuildInfo()
		_, err := fmt.Fprintln(stdout, versionOf(info))
		return err
	}
}

// versionOf says which version was built, of which state of the repository, and with what.
func versionOf(info *debug.BuildInfo) string {
	if info == nil {
		info = &debug.BuildInfo{}
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	text := "euryale " + cmp.Or(info.Main.Version, "(devel)")
	if r := set["vcs.revision"]; r != "" {
		text += ", revision " + r
		if set["vcs.modified"] == "true" {
			text += " with changes"
		}
		if t := set["vcs.time"]; t != "" {
			text += " of " + t
		}
	}
	if tags := set["-tags"]; tags != "" {
		text += ", tags " + tags
	}
	return fmt.Sprintf("%s, %s %s/%s", text, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
