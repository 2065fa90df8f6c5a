package hostile

import "testing"

func TestCasesHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if n := c.Number(); n < 1 || n > 66 || seen[c.Name] || len(c.Want) == 0 {
			t.Errorf("case %q: number %d, seen %t, %d parts of the message", c.Name, n, seen[c.Name], len(c.Want))
		}
		seen[c.Name] = true
	}
	t.Logf("%d cases", len(seen))
}
