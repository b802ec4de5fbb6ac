package resttest

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"shale/internal/block"
)

// vars are the variables of a script, by name.
type vars map[string]string

var (
	placeholder = regexp.MustCompile(`\{\{([^{}]+)\}\}`)
	capture     = regexp.MustCompile(`^(\w+)=(\w+)$`)
)

// kinds are what a response can capture, as patterns.
var kinds = map[string]string{
	"id":    `snap-0[0-9a-f]{16}`,
	"token": `[A-Za-z0-9_-]{1,256}`,
	"hex":   `[0-9a-f]{64}`,
	"uuid":  `[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}`,
	"blob":  `[A-Za-z0-9+/]+={0,2}`,
	"word":  `[A-Za-z0-9_-]+`,
}

// expand replaces what is known already:
//
//	{{NAME}}              the variable; request-id, crlf and lf are there from the start
//	{{block LETTER}}      a whole block of the letter
//	{{repeat N TEXT}}     the text, N times
//	{{sha256 LETTER}}     the checksum of a block of the letter
//	{{aggregate LETTERS}} the aggregate checksum of such blocks, in this order
//	{{holes N}}           N bytes of zeros
//	{{blocks A-B LETTER}} entries of pending blocks of the letter
//
// and leaves {{NAME=KIND}}, which only a response can have.
func (v vars) expand(s string) (string, error) {
	var failed error
	return placeholder.ReplaceAllStringFunc(s, func(m string) string {
		inner := m[2 : len(m)-2]
		if capture.MatchString(inner) {
			return m
		}
		if value, ok := v[inner]; ok {
			return value
		}
		value, ok := call(strings.SplitN(inner, " ", 3))
		if !ok {
			failed = fmt.Errorf("nothing is known of %s", m)
		}
		return value
	}), failed
}

func call(words []string) (string, bool) {
	if len(words) < 2 || words[1] == "" {
		return "", false
	}
	switch words[0] {
	case "block":
		return blockOf(words[1]), true
	case "sha256":
		return digestOf(words[1]).Base64(), true
	case "aggregate":
		h := sha256.New()
		for _, letter := range words[1] {
			d := digestOf(string(letter))
			h.Write(d[:])
		}
		return block.Digest(h.Sum(nil)).Base64(), true
	case "holes":
		n, err := strconv.Atoi(words[1])
		return strings.Repeat("\x00", max(n, 0)), err == nil
	case "blocks":
		var first, last int
		if _, err := fmt.Sscanf(words[1], "%d-%d", &first, &last); err != nil || len(words) < 3 {
			return "", false
		}
		var entries []string
		for i := first; i <= last; i++ {
			entries = append(entries, fmt.Sprintf(`{"block_index":%d,"checksum":"%s"}`, i, digestOf(words[2]).Base64()))
		}
		return strings.Join(entries, ","), true
	case "repeat":
		n, err := strconv.Atoi(words[1])
		if err != nil || len(words) < 3 {
			return "", false
		}
		return strings.Repeat(words[2], n), true
	}
	return "", false
}

func blockOf(letter string) string { return strings.Repeat(letter[:1], block.Size) }

func digestOf(letter string) block.Digest { return sha256.Sum256([]byte(blockOf(letter))) }

// match compares text with a template, and sets the variables that the template
// captures.
func (v vars) match(template, text string) (bool, error) {
	template, err := v.expand(template)
	if err != nil {
		return false, err
	}
	at := placeholder.FindAllStringSubmatchIndex(template, -1)
	if at == nil {
		return template == text, nil
	}
	var pattern strings.Builder
	var names []string
	end := 0
	for _, m := range at {
		pattern.WriteString(regexp.QuoteMeta(template[end:m[0]]))
		c := capture.FindStringSubmatch(template[m[2]:m[3]])
		kind, ok := kinds[c[2]]
		if !ok {
			return false, fmt.Errorf("there is no kind %s", c[2])
		}
		pattern.WriteString("(" + kind + ")")
		names = append(names, c[1])
		end = m[1]
	}
	pattern.WriteString(regexp.QuoteMeta(template[end:]))
	found := regexp.MustCompile(`^(?s:` + pattern.String() + `)$`).FindStringSubmatch(text)
	if found == nil {
		return false, nil
	}
	for i, name := range names {
		v[name] = found[i+1]
	}
	return true, nil
}
