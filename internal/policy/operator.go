package policy

import "strings"

// An operator is how a condition compares.
type operator struct {
	kind     kind
	relation relation // of numbers and dates
	negated  bool
	ifExists bool
	quantity quantity
}

// A kind is what an operator takes values for.
type kind int

const (
	stringExact kind = iota
	stringFold
	stringLike
	number
	date
	boolean
	binary
	address
	arn
	null
)

// A relation is that of a request's number or date to the policy's.
type relation int

const (
	equal relation = iota
	less
	lessOrEqual
	greater
	greaterOrEqual
)

// holds says whether two that compare as order, which is negative if the first is
// less, are in the relation.
func (r relation) holds(order int) bool {
	switch r {
	case less:
		return order < 0
	case lessOrEqual:
		return order <= 0
	case greater:
		return order > 0
	case greaterOrEqual:
		return order >= 0
	default:
		return order == 0
	}
}

// A quantity is how many of a request's values must match.
type quantity int

const (
	one quantity = iota
	allValues
	anyValue
)

// operators are IAM's, without prefix and suffix.
var operators = map[string]operator{
	"StringEquals":              {kind: stringExact},
	"StringNotEquals":           {kind: stringExact, negated: true},
	"StringEqualsIgnoreCase":    {kind: stringFold},
	"StringNotEqualsIgnoreCase": {kind: stringFold, negated: true},
	"StringLike":                {kind: stringLike},
	"StringNotLike":             {kind: stringLike, negated: true},
	"NumericEquals":             {kind: number},
	"NumericNotEquals":          {kind: number, negated: true},
	"NumericLessThan":           {kind: number, relation: less},
	"NumericLessThanEquals":     {kind: number, relation: lessOrEqual},
	"NumericGreaterThan":        {kind: number, relation: greater},
	"NumericGreaterThanEquals":  {kind: number, relation: greaterOrEqual},
	"DateEquals":                {kind: date},
	"DateNotEquals":             {kind: date, negated: true},
	"DateLessThan":              {kind: date, relation: less},
	"DateLessThanEquals":        {kind: date, relation: lessOrEqual},
	"DateGreaterThan":           {kind: date, relation: greater},
	"DateGreaterThanEquals":     {kind: date, relation: greaterOrEqual},
	"Bool":                      {kind: boolean},
	"BinaryEquals":              {kind: binary},
	"IpAddress":                 {kind: address},
	"NotIpAddress":              {kind: address, negated: true},
	"ArnEquals":                 {kind: arn},
	"ArnLike":                   {kind: arn},
	"ArnNotEquals":              {kind: arn, negated: true},
	"ArnNotLike":                {kind: arn, negated: true},
	"Null":                      {kind: null},
}

// operatorOf reads the name of an operator. Null is alone: whether a key exists
// has neither an IfExists nor a quantity.
func operatorOf(name string) (operator, bool) {
	if op, ok := operators[name]; ok {
		return op, true
	}
	quantity := one
	if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		name, quantity = rest, allValues
	} else if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		name, quantity = rest, anyValue
	}
	name, ifExists := strings.CutSuffix(name, "IfExists")
	op, ok := operators[name]
	op.quantity, op.ifExists = quantity, ifExists
	return op, ok && op.kind != null
}
