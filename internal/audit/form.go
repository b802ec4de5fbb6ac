package audit

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// A Parameter says how one parameter of a Query request is shown.
type Parameter struct {
	// Name is its name, if not its own in lowerCamel spelling.
	Name string
	// Set and Item are the names of a list NAME.1, NAME.2, … and of what is in
	// it, if not nameSet and name.
	Set, Item string
	// Show gives the value as it is shown; nil for the text.
	Show func(text string) any
	// Hidden tells that there is a value, and not which.
	Hidden bool
}

// Parameters has the parameters of a service that are shown, by their names and
// by the names of parts of theirs. Others are left out.
type Parameters map[string]Parameter

// Typed shows booleans and numbers as such.
func Typed(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	switch text {
	case "true":
		return true
	case "false":
		return false
	}
	return text
}

// A node is what stands below one beginning of a parameter's name.
type node struct {
	text  *string // of the parameter that has just this name
	below map[string]*node
}

// maxParts is how many parts of a name are told apart.
const maxParts = 6

// Form takes the parameters of a Query request as CloudTrail has them: NAME.1,
// NAME.2 are {"nameSet":{"items":[…]}}, NAME.member.1 a list, and A.B an object
// in another.
func (r *Record) Form(values map[string][]string, shown Parameters) {
	root := &node{}
	for name, texts := range values {
		parts := strings.SplitN(name, ".", maxParts)
		if _, ok := shown[parts[0]]; !ok || len(texts) == 0 {
			continue
		}
		n := root
		for _, part := range parts {
			n = n.child(part)
		}
		n.text = &texts[0]
	}
	r.Parameters = r.object(root, shown)
}

func (n *node) child(name string) *node {
	if n.below == nil {
		n.below = make(map[string]*node)
	}
	below, ok := n.below[name]
	if !ok {
		below = &node{}
		n.below[name] = below
	}
	return below
}

func (r *Record) object(n *node, shown Parameters) map[string]any {
	m := make(map[string]any, len(n.below))
	for name, n := range n.below {
		p := shown[name]
		if n.text != nil {
			m[cmp.Or(p.Name, LowerFirst(name))] = r.value(p, *n.text)
		}
		member := n.below["member"]
		switch {
		case member != nil:
			m[LowerFirst(name)] = r.items(member, p, "", shown)
		case n.numbered():
			m[cmp.Or(p.Set, LowerFirst(name)+"Set")] = map[string]any{"items": r.items(n, p, cmp.Or(p.Item, LowerFirst(name)), shown)}
		case n.below != nil:
			m[LowerFirst(name)] = r.object(n, shown)
		}
	}
	return m
}

func (r *Record) value(p Parameter, text string) any {
	switch {
	case p.Hidden:
		return r.Hide(text)
	case p.Show != nil:
		return p.Show(text)
	}
	return text
}

// items are what stands below the numbers of a list, in their order: objects,
// or texts, which are objects with the one member item where that has a name.
func (r *Record) items(n *node, p Parameter, item string, shown Parameters) []any {
	numbers := make([]string, 0, len(n.below))
	for number := range n.below {
		numbers = append(numbers, number)
	}
	slices.SortFunc(numbers, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	list := make([]any, 0, len(numbers))
	for _, number := range numbers {
		switch n := n.below[number]; {
		case n.below != nil:
			list = append(list, r.object(n, shown))
		case item == "":
			list = append(list, r.value(p, *n.text))
		default:
			list = append(list, map[string]any{item: r.value(p, *n.text)})
		}
	}
	return list
}

// numbered reports whether all that stands below n are numbers of a list.
func (n *node) numbered() bool {
	for name := range n.below {
		if _, err := strconv.ParseUint(name, 10, 31); err != nil {
			return false
		}
	}
	return n.below != nil
}

// LowerFirst turns a name into lowerCamel spelling.
func LowerFirst(name string) string {
	if name == "" {
		return name
	}
	return strings.ToLower(name[:1]) + name[1:]
}
