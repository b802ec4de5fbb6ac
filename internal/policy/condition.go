package policy

import (
	"strings"
	"unique"

	"github.com/go-json-experiment/json/jsontext"
)

// A condition compares a key of the request with values of the policy.
type condition struct {
	key  unique.Handle[string]
	deny bool // it is one of a Deny
	operator
	values values
}

// holds reports whether the request meets the condition. A request without the
// key meets those that say what its value is not, and no others unless they say
// IfExists. Source: IAM User Guide, Condition operators; Multivalued context keys.
func (c *condition) holds(e *evaluation) bool {
	found := e.lookup(c.key)
	switch {
	case c.kind == null:
		return c.values.matchNull(found.count == 0)
	case found.count == 0 && c.quantity == anyValue:
		return false // nor does IfExists help
	case found.count == 0:
		return c.quantity == allValues || c.negated || c.ifExists
	}
	met := 0
	for i := range found.count {
		if c.match(e, found.at(i)) != c.negated {
			met++
		}
	}
	if c.needsAll() {
		return met == found.count
	}
	return met > 0
}

// needsAll says whether all of a request's values have to meet the condition, or
// any. AWS says that several need one of the two prefixes, and not what happens
// without: then an Allow needs all, and a Deny any.
func (c *condition) needsAll() bool {
	return c.quantity == allValues || c.quantity == one && !c.deny
}

func (p *parser) parseConditions(v jsontext.Value, s *statement) error {
	if v == nil {
		return nil
	}
	operators, err := p.members(v, "Condition must be an object of operators")
	if err != nil {
		return err
	}
	for _, member := range operators {
		op, ok := operatorOf(member.name)
		if !ok {
			return p.malformed(syntaxErrors, "Condition has an operator that is none of IAM's, as StringEquals, "+
				"NumericLessThanIfExists and ForAllValues:StringLike are")
		}
		keys, err := p.members(member.value, "an operator of Condition must have an object of keys")
		if err != nil {
			return err
		}
		for _, key := range keys {
			if !isKey(key.name) {
				return p.malformed(noVendor, "a key of Condition is a service, a colon and a name: aws:SourceIp, ebs:VolumeSize")
			}
			c := condition{key: keyName(key.name), deny: s.deny, operator: op}
			if c.values, err = p.parseValues(op, key.value); err != nil {
				return err
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return nil
}

// A member of an object.
type member struct {
	name  string
	value jsontext.Value
}

// members decodes an object of any members, in their order.
func (p *parser) members(v jsontext.Value, right string) ([]member, error) {
	if v.Kind() != '{' {
		return nil, p.malformed(syntaxErrors, right)
	}
	d := jsontext.NewDecoder(strings.NewReader(string(v)))
	var all []member
	for {
		t, err := d.ReadToken()
		switch {
		case err != nil:
			return nil, p.malformed(syntaxErrors, right+", none of them twice")
		case t.Kind() == '{':
		case t.Kind() == '}':
			return all, nil
		default:
			name := t.String()
			value, err := d.ReadValue()
			if err != nil {
				return nil, p.malformed(syntaxErrors, right+", none of them twice")
			}
			all = append(all, member{name, value.Clone()})
		}
	}
}

// valueOf gives the text of a value of a condition.
func valueOf(v jsontext.Value) (string, bool) {
	switch v.Kind() {
	case '0', 't', 'f':
		return string(v), true
	default:
		return textOf(v)
	}
}

func (p *parser) parseValues(op operator, v jsontext.Value) (values, error) {
	var set values
	all, ok := oneOrMany(v)
	if !ok {
		return set, p.malformed(syntaxErrors, "a key of Condition must have a value or a list of values, at least one")
	}
	for _, v := range all {
		text, ok := valueOf(v)
		if !ok {
			return set, p.malformed(syntaxErrors, "a value of Condition must be a string, a number or a Boolean")
		}
		if err := p.addValue(op, text, &set); err != nil {
			return set, err
		}
	}
	return set, nil
}
