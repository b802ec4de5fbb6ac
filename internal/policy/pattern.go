package policy

import (
	"strings"
	"unicode/utf8"
	"unique"
)

// A pattern is what a text is compared with: in it may be wildcards, where they
// count as such, and variables.
type pattern struct {
	shape shape
	text  string // of a literal
	// pieces are the literals between the stars of a starred one.
	pieces []string
	// tokens are those of the other shapes.
	tokens    []token
	variables []variable
}

// A shape tells the patterns apart that can be compared faster than others.
type shape int

const (
	literal  shape = iota
	starred        // with * only
	wildcard       // with ? as well
	variant        // with variables, which are filled in when it is compared
)

// A token is a byte, a wildcard, or from firstVariable on a variable.
type token int16

const (
	anyRun        token = 256 + iota // *
	anyOne                           // ?
	firstVariable                    // of pattern.variables
)

// A variable is a condition key that gives its value to a pattern.
type variable struct {
	key      unique.Handle[string]
	fallback []token
	defaults bool // it has a fallback
}

// A mode says whether * and ? in a text are wildcards.
type mode int

const (
	plain mode = iota
	wild
)

// wildcards makes a pattern of a text without variables.
func wildcards(text string) pattern {
	return shaped(appendTokens(nil, text, wild), nil)
}

// pattern makes a pattern of a text of the policy.
func (p *parser) pattern(text string, m mode) (pattern, error) {
	tokens, variables, err := p.tokens(text, m)
	return shaped(tokens, variables), err
}

func (p *parser) tokens(text string, m mode) (tokens []token, variables []variable, err error) {
	for p.variables {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			break
		}
		tokens = appendTokens(tokens, before, m)
		name, after, closed := strings.Cut(rest, "}")
		switch {
		case !closed:
			return nil, nil, p.malformed(syntaxErrors, "${ begins a variable and needs its }; the characters themselves are ${$}{")
		case name == "*" || name == "?" || name == "$":
			tokens = append(tokens, token(name[0]))
		default:
			v, ok := variableOf(name)
			if !ok {
				return nil, nil, p.malformed(syntaxErrors, "a variable is ${key} or ${key, 'default'}, where the key has a prefix: ${aws:username}")
			}
			tokens = append(tokens, firstVariable+token(len(variables)))
			variables = append(variables, v)
		}
		text = after
	}
	return appendTokens(tokens, text, m), variables, nil
}

// variableOf reads what stands between the braces: key, or key, 'default'.
func variableOf(text string) (variable, bool) {
	name, rest, defaults := strings.Cut(text, ",")
	name = strings.TrimSpace(name)
	if !isKey(name) {
		return variable{}, false
	}
	v := variable{key: keyName(name), defaults: defaults}
	if defaults {
		rest = strings.TrimSpace(rest)
		if len(rest) < 2 || rest[0] != '\'' || rest[len(rest)-1] != '\'' {
			return variable{}, false
		}
		v.fallback = appendTokens(nil, rest[1:len(rest)-1], plain)
	}
	return v, true
}

func appendTokens(tokens []token, text string, m mode) []token {
	for i := range len(text) {
		switch {
		case m == wild && text[i] == '*':
			tokens = append(tokens, anyRun)
		case m == wild && text[i] == '?':
			tokens = append(tokens, anyOne)
		default:
			tokens = append(tokens, token(text[i]))
		}
	}
	return tokens
}

// shaped makes the pattern of tokens that is compared fastest.
func shaped(tokens []token, variables []variable) pattern {
	if len(variables) > 0 {
		return pattern{shape: variant, tokens: tokens, variables: variables}
	}
	var pieces []string
	for left := tokens; ; {
		text, rest := literalOf(left)
		pieces = append(pieces, text)
		switch {
		case len(rest) == 0 && len(pieces) == 1:
			return pattern{shape: literal, text: text}
		case len(rest) == 0:
			return pattern{shape: starred, pieces: pieces}
		case rest[0] == anyOne:
			return pattern{shape: wildcard, tokens: tokens}
		}
		left = rest[1:]
	}
}

// literalOf gives the text up to the first wildcard, and what follows.
func literalOf(tokens []token) (string, []token) {
	text := make([]byte, 0, len(tokens))
	for i, t := range tokens {
		if t > 0xff {
			return string(text), tokens[i:]
		}
		text = append(text, byte(t))
	}
	return string(text), nil
}

// matches reports whether s fits the pattern. What a variable stands for fits
// itself only, whatever characters it has; without a value nothing fits.
func (p *pattern) matches(e *evaluation, s string) bool {
	switch p.shape {
	case literal:
		return p.text == s
	case starred:
		return fitsPieces(p.pieces, s)
	default:
		tokens, ok := p.filled(e)
		return ok && fits(tokens, s)
	}
}

// matchesFold is matches for patterns without wildcards, whatever the case.
func (p *pattern) matchesFold(e *evaluation, s string) bool {
	if p.shape == literal {
		return strings.EqualFold(p.text, s)
	}
	tokens, ok := p.filled(e)
	text, _ := literalOf(tokens)
	return ok && strings.EqualFold(text, s)
}

// filled gives the tokens of the pattern with the values of its variables.
func (p *pattern) filled(e *evaluation) ([]token, bool) {
	if p.shape != variant {
		return p.tokens, true
	}
	var tokens []token
	for _, t := range p.tokens {
		if t < firstVariable {
			tokens = append(tokens, t)
			continue
		}
		v := &p.variables[t-firstVariable]
		found := e.lookup(v.key)
		switch {
		case found.count == 1:
			tokens = appendTokens(tokens, found.at(0), plain)
		case found.count == 0 && v.defaults:
			tokens = append(tokens, v.fallback...)
		default: // what has several values has none that is meant
			return nil, false
		}
	}
	return tokens, true
}

// fitsPieces reports whether s is the pieces, with anything between them.
func fitsPieces(pieces []string, s string) bool {
	first, last := pieces[0], pieces[len(pieces)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, piece := range pieces[1 : len(pieces)-1] {
		_, after, found := strings.Cut(s, piece)
		if !found {
			return false
		}
		s = after
	}
	return true
}

// fits reports whether s is what the tokens say. It takes at most
// len(tokens)·len(s) steps, whatever they are.
func fits(tokens []token, s string) bool {
	star, resume := -1, 0 // the last * met, and where what follows it was tried
	t, i := 0, 0
	for i < len(s) {
		switch {
		case t < len(tokens) && tokens[t] == anyRun:
			star, resume = t, i
			t++
		case t < len(tokens) && tokens[t] == anyOne:
			t++
			i += characterAt(s, i)
		case t < len(tokens) && tokens[t] == token(s[i]):
			t++
			i++
		case star >= 0:
			resume += characterAt(s, resume)
			t, i = star+1, resume
		default:
			return false
		}
	}
	for ; t < len(tokens); t++ {
		if tokens[t] != anyRun {
			return false
		}
	}
	return true
}

// characterAt gives the length of the character of s that begins at i.
func characterAt(s string, i int) int {
	if s[i] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s[i:])
	return n
}
