package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// What is no regular file is written to and stays what it is; through a link, so is a device.
func TestOutputToWhatIsNoFile(t *testing.T) {
	before, err := os.Stat(os.DevNull)
	if err != nil {
		t.Skip(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(os.DevNull, link); err != nil {
		t.Skip(err)
	}
	if code, _, stderr := euryale(t.Context(), "generate", "-m", sd1, "-p", "x", "--steps", "1", "-o", link); code != 0 {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if after, err := os.Stat(link); err != nil || after.Mode() != before.Mode() {
		t.Errorf("the device is now %v, %v", after, err)
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Skip(err)
	}
	defer r.Close()
	got := make(chan []byte)
	go func() {
		var b bytes.Buffer
		b.ReadFrom(r)
		got <- b.Bytes()
	}()
	named := "/dev/fd/" + strconv.Itoa(int(w.Fd()))
	if _, err := os.Stat(named); err != nil {
		w.Close()
		t.Skip(err)
	}
	code, _, stderr := euryale(t.Context(), "generate", "-m", sd1, "-p", "x", "--steps", "1", "-o", named)
	w.Close()
	if png := <-got; code != 0 || !bytes.HasPrefix(png, []byte("\x89PNG")) {
		t.Errorf("exit code %d, %d bytes in the pipe\n%s", code, len(png), stderr)
	}
}
