//go:build unix

package main

import (
	"bytes"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	_ "image/jpeg"
	_ "image/png"

	_ "golang.org/x/image/webp"
)

// asUser has a command run as a user without rights, if the tests run as root.
func asUser(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	const nobody = 65534
	for dir := cmd.Dir; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o005 != 0o005 {
			os.Chmod(dir, st.Mode().Perm()|0o005)
		}
	}
	os.Chmod(executableDir, 0o755)
	if err := os.Chown(cmd.Dir, nobody, nobody); err != nil {
		t.Skip("no other user can be taken:", err)
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
}

// pictureOf is the format of a picture of 8x8 pixels, "" of anything else.
func pictureOf(raw []byte) string {
	img, format, err := image.Decode(bytes.NewReader(raw))
	if err != nil || img.Bounds() != image.Rect(0, 0, 8, 8) {
		return ""
	}
	return format
}
