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
			"sys/fs/cgroup/a/b/memory.stat":    "anon 1\ninactive_file 1000\nactive_file 500\nslab_reclaimable 20\nslab_unreclaimable 9\n"},
			7520, true},
		{"version 2 without a limit", map[string]string{
			"proc/meminfo":                   "MemAvailable: 5 kB\n",
			"proc/self/cgroup":               "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     "max\n",
			"sys/fs/cgroup/a/memory.high":    "max\n",
			"sys/fs/cgroup/a/memory.current": "4000\n"}, 5 << 10, true},
		{"version 2 slows a group down from memory.high on", map[string]string{
			"proc/self/cgroup":               "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     "9000\n",
			"sys/fs/cgroup/a/memory.high":    "7000\n",
			"sys/fs/cgroup/a/memory.current": "4000\n"}, 3000, true},
		{"memory.high alone", map[string]string{
			"proc/self/cgroup":               "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     "max\n",
			"sys/fs/cgroup/a/memory.high":    "7000\n",
			"sys/fs/cgroup/a/memory.current": "4000\n"}, 3000, true},
		{"a parent is tighter", map[string]string{
			"proc/self/cgroup":                 "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max":     "max\n",
			"sys/fs/cgroup/a/b/memory.current": "4000\n",
			"sys/fs/cgroup/a/memory.max":       "6000\n",
			"sys/fs/cgroup/a/memory.current":   "5000\n"}, 1000, true},
		{"a container sees its group at the top", map[string]string{
			"proc/self/cgroup":             "0::/\n",
			"sys/fs/cgroup/memory.max":     "6000\n",
			"sys/fs/cgroup/memory.current": "5000\n"}, 1000, true},
		{"more is used than is allowed", map[string]string{
			"proc/self/cgroup":               "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     "600\n",
			"sys/fs/cgroup/a/memory.current": "900\n"}, 0, true},
		{"the cache grew after the usage was read", map[string]string{
			"proc/self/cgroup":               "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     "600\n",
			"sys/fs/cgroup/a/memory.current": "500\n",
			"sys/fs/cgroup/a/memory.stat":    "active_file 900\n"}, 600, true},
		{"a group of version 1", map[string]string{
			"proc/self/cgroup": "4:cpu,memory:/x\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "800\n",
			"sys/fs/cgroup/memory/x/memory.usage_in_bytes": "900\n"}, 0, true},
		{"version 1 without a limit, whose number is no sum's", map[string]string{
			"proc/meminfo":     "MemAvailable: 500 kB\n",
			"proc/self/cgroup": "4:memory:/x\n0::/\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/x/memory.usage_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/x/memory.stat":           "hierarchical_memory_limit 9223372036854771712\ntotal_inactive_file 8000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854710272\n", // pages of 64 KiB
			"sys/fs/cgroup/memory/memory.usage_in_bytes":   "1000\n"}, 500 << 10, true},
		{"version 1 counts its children's cache", map[string]string{
			"proc/self/cgroup": "4:memory:/x\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "8000\n",
			"sys/fs/cgroup/memory/x/memory.usage_in_bytes": "7000\n",
			"sys/fs/cgroup/memory/x/memory.stat": "active_file 1\ninactive_file 1\ntotal_active_file 3000\ntotal_inactive_file 1000\n" +
				"total_slab_reclaimable 50\n"}, 5050, true},
		{"version 1 in a container that does not see the parent with the limit", map[string]string{
			"proc/self/cgroup":                           "4:memory:/docker/0123\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "3000\n",
			"sys/fs/cgroup/memory/memory.stat":           "hierarchical_memory_limit 5000\n"}, 2000, true},
		{"numbers that no machine has", map[string]string{
			"proc/meminfo":                   "MemAvailable: 5 kB\n",
			"proc/self/cgroup":               "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     "99999999999999999999\n",
			"sys/fs/cgroup/a/memory.high":    "-1\n",
			"sys/fs/cgroup/a/memory.current": "4000\n",
			"sys/fs/cgroup/a/memory.stat":    "active_file 9223372036854775807\ninactive_file 9223372036854775807\n"}, 5 << 10,
			true},
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
