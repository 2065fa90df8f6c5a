package hfconfig

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Keep forgets every field but those named.
func (c *Config) Keep(names []string) {
	maps.DeleteFunc(c.fields, func(name string, _ json.RawMessage) bool { return !slices.Contains(names, name) })
}

// Forget forgets a field, which then is absent.
func (c *Config) Forget(name string) { delete(c.fields, name) }

// Set gives a field a value, written as JSON.
func (c *Config) Set(name, value string) { c.fields[name] = json.RawMessage(value) }

// Present reports whether the file has the field, be it null.
func (c *Config) Present(name string) bool { return c.fields[name] != nil }

// Is reports whether the field is there with this value, written as JSON.
func (c *Config) Is(name, value string) bool {
	return c.Present(name) && bytes.Equal(bytes.TrimSpace(c.fields[name]), []byte(value))
}

// Names reads a list of strings of any value, or a single one as a list of one.
func (c *Config) Names(field string) []string {
	var names []string
	if raw := bytes.TrimSpace(c.fields[field]); len(raw) > 0 && raw[0] == '"' {
		return append(names, c.String(field, ""))
	}
	c.read(field, &names, "a string or a list of strings")
	return names
}

// Refuse records that a field's value is not what is wanted.
func (c *Config) Refuse(field, want string) { c.refuse(field, want) }

// Unread lists the fields that nobody has asked for.
func (c *Config) Unread() []string {
	var names []string
	for name := range c.fields {
		if !c.asked[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
