package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/euryale-ml/euryale/internal/stack"
)

// Note [Which links are followed]. What the user names is trusted: the folder given to Open, whatever links its path
// leads through, and the folders of WithLinksInto. What a model folder names is not: a link in it is followed, relative
// or absolute, as long as the file that it leads to in the end lies in one of those folders. In the download cache of
// Hugging Face a model is models--org--name/snapshots/revision, whose files are links to models--org--name/blobs. That
// layout is made by the user's own hub client and not by what was downloaded, so there all of models--org--name is
// trusted. Where its blobs are a link to another disk, the user has to name that: caches are passed on, too.

// WithLinksInto lets links of the model folder lead into further folders.
func WithLinksInto(dirs ...string) Option {
	return func(m *Model) { m.linksInto = append(m.linksInto, dirs...) }
}

// dirFS is a folder on disk. Files are opened below os.Roots, which no path or link leads out of, also if it is
// exchanged while it is being opened.
type dirFS struct {
	roots []trusted // the folder's own comes first
	dir   string    // of the model in the first root
}

// trusted is a folder that links may lead into.
type trusted struct {
	root *os.Root
	path string // without links
}

// openDir opens a folder.
func openDir(dir string, linksInto []string) (d dirFS, err error) {
	if st, err := os.Stat(dir); err != nil {
		return d, openError(dir, err)
	} else if !st.IsDir() {
		return d, stack.With(&Error{File: dir, Got: "not a folder", Want: "a model folder in the diffusers layout"})
	}
	at, err := realPath(dir)
	if err != nil {
		return d, openError(dir, err)
	}
	paths := []string{at}
	d.dir = "."
	if snapshots := filepath.Dir(at); filepath.Base(snapshots) == "snapshots" {
		if model := filepath.Dir(snapshots); strings.HasPrefix(filepath.Base(model), "models--") {
			paths[0], d.dir = model, path.Join("snapshots", filepath.Base(at))
		}
	}
	for _, named := range linksInto {
		at, err := realPath(named)
		if err != nil {
			return d, openError(named, err)
		}
		paths = append(paths, at)
	}
	for _, at := range paths {
		root, err := os.OpenRoot(at)
		if err != nil {
			return d, errors.Join(openError(at, err), d.close())
		}
		d.roots = append(d.roots, trusted{root, at})
	}
	return d, nil
}

// realPath is the absolute path without links.
func realPath(dir string) (string, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(at)
}

func (d dirFS) close() error {
	var errs []error
	for _, t := range d.roots {
		errs = append(errs, t.root.Close())
	}
	return errors.Join(errs...)
}

// Open implements fs.FS.
func (d dirFS) Open(name string) (f fs.File, err error) {
	err = d.reach("open", name, func(root *os.Root, at string) (err error) {
		// A pipe put in a file's place after its Stat must not block.
		f, err = root.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		return err
	})
	return f, err
}

// Stat implements fs.StatFS.
func (d dirFS) Stat(name string) (st fs.FileInfo, err error) {
	err = d.reach("stat", name, func(root *os.Root, at string) (err error) {
		st, err = root.Stat(at)
		return err
	})
	return st, err
}

// reach calls do with the root and the path of a file: in the folder, or, where a link leads out of it, in another
// trusted folder.
func (d dirFS) reach(op, name string, do func(root *os.Root, at string) error) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	at := filepath.FromSlash(path.Join(d.dir, name))
	err := do(d.roots[0].root, at)
	if err == nil {
		return nil
	}
	target, evalErr := filepath.EvalSymlinks(filepath.Join(d.roots[0].path, at))
	if errors.Is(evalErr, fs.ErrNotExist) {
		if st, err := d.roots[0].root.Lstat(at); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return &linkError{"a link to a file that does not exist"}
		}
		// The folder it should be in may be elsewhere.
		if target, evalErr = filepath.EvalSymlinks(filepath.Join(d.roots[0].path, filepath.Dir(at))); evalErr == nil {
			target = filepath.Join(target, filepath.Base(at))
		} else if errors.Is(evalErr, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
			return &linkError{"below a link to a folder that does not exist"}
		}
	}
	if evalErr != nil {
		return err
	}
	for _, t := range d.roots {
		if in, e := filepath.Rel(t.path, target); e == nil && filepath.IsLocal(in) {
			return do(t.root, in)
		}
	}
	return &linkError{fmt.Sprintf("a link to %s, outside the model's folder; links are followed inside it and into folders "+
		"that the user names (-links-into %s, loader.WithLinksInto)", target, filepath.Dir(target))}
}

// linkError is a link that is not followed.
type linkError struct{ what string }

func (e *linkError) Error() string { return e.what }

// maxEntries is how much of a folder is listed.
const maxEntries = 1000

// ReadDir implements fs.ReadDirFS, for the first entries.
func (d dirFS) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	entries, err := dir.ReadDir(maxEntries)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}
