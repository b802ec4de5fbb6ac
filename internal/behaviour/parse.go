package behaviour

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"shale/internal/rest"
)

// Bounds of what a list of rules may say.
const (
	maxRules = 100
	maxCount = 1_000_000_000
	// maxWaitMS bounds how long a request is held, maxLagMS how much later than
	// done something is seen, and maxLifeS is the life of block tokens that
	// nothing shortens.
	maxWaitMS = 3_600_000
	maxLagMS  = 86_400_000
	maxLifeS  = 604_800
	maxSeed   = 1<<53 - 1 // what every JSON can carry
)

// everyOperation stands for all operations.
const everyOperation = "*"

// A Vocabulary is the names that rules may use.
type Vocabulary struct {
	// Operations gives for each name of an operation what Request.Operation
	// calls it.
	Operations map[string]string
	// HasError reports whether an operation, or "*" for any, can fail with the
	// error of this name.
	HasError func(operation, name string) bool
}

// An Error says what is wrong with a list of rules.
type Error struct {
	Member string // rules.0.effect; empty for the whole
	Value  string // what it was, cut to a sane length; empty if it is missing
	Want   string // be …, have …
}

func (e *Error) Error() string {
	member := e.Member
	if member == "" {
		member = "the body"
	}
	if e.Value == "" {
		return fmt.Sprintf("%s must %s", member, e.Want)
	}
	return fmt.Sprintf("%s must %s; it was %s", member, e.Want, e.Value)
}

// Parse reads {"preset": NAME} or {"rules": [RULE…]}. It is strict: a test that
// misspells must not believe that its client survived. An error is an *Error,
// or a *rest.Error for what is no JSON object.
func Parse(text []byte, v *Vocabulary) (*Rules, error) {
	var body map[string]jsontext.Value
	if err := rest.DecodeObject(text, &body); err != nil {
		return nil, err
	}
	p := parser{vocabulary: v}
	p.known("", body, "preset", "rules")
	preset, rules := body["preset"], body["rules"]
	switch {
	case p.err != nil:
		return nil, p.err
	case (preset == nil) == (rules == nil):
		return nil, &Error{Want: `be {"preset": NAME} or {"rules": [RULE…]}`}
	case preset != nil:
		name := p.text("preset", preset)
		list, ok := presets[name]
		if !ok {
			p.refuse("preset", preset, "be %s", alternatives(slices.Sorted(maps.Keys(presets))))
			return nil, p.err
		}
		return p.rules(name, jsontext.Value(list))
	}
	return p.rules("", rules)
}

// A parser keeps the first thing that is wrong.
type parser struct {
	vocabulary *Vocabulary
	err        error
}

func (p *parser) refuse(member string, value jsontext.Value, format string, args ...any) {
	if p.err == nil {
		text := string(value)
		p.err = &Error{member, text[:min(len(text), 64)], fmt.Sprintf(format, args...)}
	}
}

func (p *parser) rules(preset string, value jsontext.Value) (*Rules, error) {
	r := &Rules{Preset: preset}
	var list []jsontext.Value
	if value.Kind() != '[' {
		p.refuse("rules", value, "be a list")
	} else if err := rest.DecodeValue("rules", value, &list); err != nil {
		return nil, err
	}
	if len(list) > maxRules {
		p.refuse("rules", nil, "be at most %d rules", maxRules)
	}
	for i, v := range list {
		if p.err != nil {
			break
		}
		r.entries = append(r.entries, p.rule(fmt.Sprintf("rules.%d", i), v))
	}
	if p.err != nil {
		return nil, p.err
	}
	return r, nil
}

func (p *parser) rule(at string, value jsontext.Value) *entry {
	m := p.object(at, value)
	p.known(at, m, "operation", "snapshot", "account", "when", "effect")
	e := &entry{rule: Rule{Operation: p.text(at+".operation", m["operation"])}}
	r := &e.rule
	if e.operation = p.vocabulary.Operations[r.Operation]; r.Operation == everyOperation {
		e.operation = everyOperation
	}
	if e.operation == "" {
		p.refuse(at+".operation", m["operation"], `be an operation of the EBS direct APIs, "ec2:…", "kms:…", "iam:…", "sts:…" or "*"`)
	}
	if v := m["snapshot"]; v != nil {
		r.Snapshot = p.text(at+".snapshot", v)
		if !isSnapshot(r.Snapshot) {
			p.refuse(at+".snapshot", v, "be the ID of a snapshot")
		}
		if e.operation == start || strings.HasPrefix(e.operation, "kms:") {
			p.refuse(at+".snapshot", v, "be left out, for %s names no snapshot", r.Operation)
		}
	}
	if v := m["account"]; v != nil {
		r.Account = p.text(at+".account", v)
		if len(r.Account) != 12 || strings.Trim(r.Account, "0123456789") != "" {
			p.refuse(at+".account", v, "be the number of an account, of 12 digits")
		}
	}
	if v := m["when"]; v != nil {
		r.When = p.when(at+".when", v)
	}
	r.Effect = p.effect(at+".effect", m["effect"])
	p.fits(at, e)
	return e
}

// fits refuses a rule whose effect its operation cannot have.
func (p *parser) fits(at string, e *entry) {
	if p.err != nil {
		return
	}
	if only := e.rule.Effect.operations(); only != nil {
		e.only = make(map[string]bool)
		for _, name := range only {
			e.only[name] = true
		}
		if e.operation != everyOperation && !e.only[e.operation] {
			p.refuse(at+".operation", nil, "be %s or \"*\", for the effect is for no other", alternatives(only))
		}
	}
	if w := e.rule.When; w != nil && w.OverPending > 0 && e.operation != start {
		p.refuse(at+".operation", nil, "be %s, for over_pending is for no other", start)
	}
	if name := e.rule.Effect.Error; name != "" && !p.vocabulary.HasError(e.operation, name) {
		p.refuse(at+".effect.error", jsontext.Value(strconv.Quote(name)), "be the name of an error that %s can have", e.rule.Operation)
	}
}

func (p *parser) when(at string, value jsontext.Value) *When {
	m := p.object(at, value)
	w := new(When)
	const forms = "have one of first, every, after, probability, over_per_second and over_pending"
	allowed := []string{"first"}
	switch {
	case m["first"] != nil:
		w.First = p.integer(at+".first", m["first"], 1, maxCount)
	case m["every"] != nil:
		allowed[0], w.Every = "every", p.integer(at+".every", m["every"], 1, maxCount)
	case m["after"] != nil:
		allowed[0], w.After = "after", p.integer(at+".after", m["after"], 1, maxCount)
	case m["probability"] != nil:
		allowed = []string{"probability", "seed"}
		w.Probability = p.fraction(at+".probability", m["probability"])
		if v := m["seed"]; v != nil {
			w.Seed = p.integer(at+".seed", v, 0, maxSeed)
		}
	case m["over_per_second"] != nil:
		allowed = []string{"over_per_second", "each"}
		w.OverPerSecond = p.integer(at+".over_per_second", m["over_per_second"], 1, maxCount)
		if v := m["each"]; v != nil {
			w.Each = p.word(at+".each", v, EachAccount, EachSnap)
		}
	case m["over_pending"] != nil:
		allowed[0], w.OverPending = "over_pending", p.integer(at+".over_pending", m["over_pending"], 1, maxCount)
	default:
		p.refuse(at, value, forms)
	}
	for name := range m {
		if !slices.Contains(allowed, name) {
			p.refuse(at, value, forms)
		}
	}
	return w
}

func (p *parser) effect(at string, value jsontext.Value) (e Effect) {
	m := p.object(at, value)
	names := []string{"delay_ms", "error", "silent_ms", "cut", "lag_ms", "complete_as", "page", "token_life_s", "corrupt"}
	p.known(at, m, names...)
	if len(m) != 1 {
		p.refuse(at, value, "have one of %s", strings.Join(names, ", "))
	}
	for name, v := range m {
		member := at + "." + name
		switch name {
		case "delay_ms":
			e.DelayMS = p.integer(member, v, 1, maxWaitMS)
		case "error":
			if e.Error = p.text(member, v); e.Error == "" {
				p.refuse(member, v, "be the name of an error")
			}
		case "silent_ms":
			e.SilentMS = p.integer(member, v, 1, maxWaitMS)
		case "cut":
			e.Cut = p.word(member, v, CutRequest, CutResponse)
		case "lag_ms":
			e.LagMS = p.integer(member, v, 1, maxLagMS)
		case "complete_as":
			e.CompleteAs = p.word(member, v, AsError)
		case "page":
			e.Page = p.word(member, v, ShortPage, EmptyPage)
		case "token_life_s":
			e.TokenLifeS = p.integer(member, v, 1, maxLifeS)
		case "corrupt":
			if e.Corrupt = string(v) == "true"; !e.Corrupt {
				p.refuse(member, v, "be true")
			}
		}
	}
	return e
}

// object gives the members of an object.
func (p *parser) object(at string, value jsontext.Value) map[string]jsontext.Value {
	var m map[string]jsontext.Value
	if value.Kind() != '{' {
		p.refuse(at, value, "be an object")
	} else if err := rest.DecodeValue(at, value, &m); err != nil && p.err == nil {
		p.err = err
	}
	return m
}

// known refuses members of other names.
func (p *parser) known(at string, m map[string]jsontext.Value, names ...string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(names, name) {
			p.refuse(at, jsontext.Value(strconv.Quote(name)), "have no other members than %s", strings.Join(names, ", "))
		}
	}
}

func (p *parser) text(at string, value jsontext.Value) (s string) {
	if value.Kind() != '"' {
		p.refuse(at, value, "be a string")
		return ""
	}
	if err := rest.DecodeValue(at, value, &s); err != nil && p.err == nil {
		p.err = err
	}
	return s
}

func (p *parser) word(at string, value jsontext.Value, words ...string) string {
	s := p.text(at, value)
	if !slices.Contains(words, s) {
		p.refuse(at, value, "be %s", alternatives(words))
	}
	return s
}

func (p *parser) integer(at string, value jsontext.Value, least, most int64) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n < least || n > most {
		p.refuse(at, value, "be a whole number from %d to %d", least, most)
	}
	return n
}

func (p *parser) fraction(at string, value jsontext.Value) float64 {
	f, err := strconv.ParseFloat(string(value), 64)
	if value.Kind() != '0' || err != nil || f <= 0 || f > 1 {
		p.refuse(at, value, "be a number above 0, and at most 1")
	}
	return f
}

// isSnapshot reports whether s can be an ID. Spec: ebs-direct §2.4.
func isSnapshot(s string) bool {
	digits, ok := strings.CutPrefix(s, "snap-")
	return ok && digits != "" && len(s) <= 64 && strings.Trim(digits, "0123456789abcdef") == ""
}

// alternatives words a choice: "a", "b" or "c".
func alternatives(words []string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(w))
	}
	return b.String()
}
