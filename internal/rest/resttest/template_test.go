package resttest

import "testing"

func TestMatch(t *testing.T) {
	tests := []struct {
		template, text string
		match          bool
		captured       string // of the variable new
	}{
		{"plain text.*", "plain text.*", true, ""},
		{"plain text.*", "plain texts", false, ""},
		{"{{known}}!", "value!", true, ""},
		{"{{known}}!", "{{known}}!", false, ""},
		{"{{repeat 3 ab}}", "ababab", true, ""},
		{"<{{new=id}}>", "<snap-00123456789abcdef>", true, "snap-00123456789abcdef"},
		{"<{{new=id}}>", "<snap-0>", false, ""},
		{"<{{new=id}}>", "<snap-00123456789abcdef>\n", false, ""},
		{"{{new=token}}.{{known}}", "a_-9.value", true, "a_-9"},
	}
	for _, tt := range tests {
		v := vars{"known": "value"}
		ok, err := v.match(tt.template, tt.text)
		if err != nil || ok != tt.match || v["new"] != tt.captured {
			t.Errorf("%q, %q: got %v, %v, captured %q", tt.template, tt.text, ok, err, v["new"])
		}
	}
	for _, template := range []string{"{{unknown}}", "{{new=kind}}", "{{repeat x y}}", "{{sha256}}"} {
		if _, err := (vars{}).match(template, ""); err == nil {
			t.Errorf("%q is accepted", template)
		}
	}
}
