package sysmem

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAvailable(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
		ok    bool
	}{
		{"nothing is known", nil, 0, false},
		{"memory of the machine", map[string]string{"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 5 kB\n"}, 5 << 10, true},
		{"a group of version 2, its cache counts as free", map[string]string{
			"proc/meminfo":                     "MemAvailable: 500 kB\n",
			"proc/self/cgroup":                 "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max":     "10000\n",
			"sys/fs/cgroup/a/b/memory.current": "4000\n",
			"sys/fs/cgroup/a/b/memory.stat":    "anon 1\ninactive_file 1000\n"}, 7000, true},
		{"a parent is tighter", map[string]string{
			"proc/self/cgroup":                 "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max":     "max\n",
			"sys/fs/cgroup/a/b/memory.current": "4000\n",
			"sys/fs/cgroup/a/memory.max":       "6000\n",
			"sys/fs/cgroup/a/memory.current":   "5000\n"}, 1000, true},
		{"a group of version 1", map[string]string{
			"proc/self/cgroup": "4:cpu,memory:/x\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "800\n",
			"sys/fs/cgroup/memory/x/memory.usage_in_bytes": "900\n"}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range c.files {
				file := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			got, ok := available(root)
			if ok != c.ok || ok && got != c.want {
				t.Errorf("available = %d, %t; want %d, %t", got, ok, c.want, c.ok)
			}
		})
	}
}
