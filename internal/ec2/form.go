package ec2

import (
	"strings"

	"shale/internal/query"
)

// A form is the parameters of a request, with values as EC2 spells them.
type form struct{ query.Form }

func parseForm(raw string) (form, error) {
	f, err := query.Parse(raw)
	return form{f}, err
}

// boolean returns the value of a parameter, false if it is absent.
func (f form) boolean(name string) (bool, error) {
	s, err := f.Scalar(name)
	if err != nil {
		return false, err
	}
	switch s {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, refuse(invalidValue, "Value ( %s ) for parameter %s is invalid. Expecting true or false.", s, lowerFirst(name))
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
