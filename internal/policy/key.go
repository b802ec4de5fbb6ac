package policy

import (
	"regexp"
	"strconv"
	"strings"
	"time"
	"unique"
)

var conditionKey = regexp.MustCompile(`^[A-Za-z0-9-]+:[^\x00-\x1f]+$`)

// isKey reports whether a name is that of a condition key: it has the prefix of a
// service.
func isKey(name string) bool {
	return conditionKey.MatchString(name)
}

// keyName brings the name of a condition key into the form of Request.Keys. All
// policies name the same few keys, so they are compared as handles.
func keyName(name string) unique.Handle[string] {
	before, after, found := strings.Cut(name, "/")
	name = strings.ToLower(before)
	if found {
		name += "/" + after
	}
	return unique.Make(name)
}

// An answer is what a request has of a key.
type answer struct {
	key    unique.Handle[string]
	count  int
	single string   // if there is one
	values []string // if there are more
}

func (a *answer) at(i int) string {
	if a.count == 1 {
		return a.single
	}
	return a.values[i]
}

// lookup gives the values of a key, and asks for them once in an evaluation.
func (e *evaluation) lookup(key unique.Handle[string]) *answer {
	for i := range e.answers {
		if e.answers[i].key == key {
			return &e.answers[i]
		}
	}
	a := answer{key: key}
	if single, known := e.global(key.Value()); !known {
		e.ask(&a)
	} else if single != "" {
		a.count, a.single = 1, single
	}
	e.answers = append(e.answers, a)
	return &e.answers[len(e.answers)-1]
}

// ask asks the request. Once that failed there is nothing to know any more.
func (e *evaluation) ask(a *answer) {
	if e.request.Keys == nil || e.err != nil {
		return
	}
	values, ok, err := e.request.Keys(a.key.Value())
	e.err = err
	if !ok || err != nil {
		return
	}
	a.count, a.values = len(values), values
	if a.count == 1 {
		a.single = values[0]
	}
}

// maxUserAgent is how much of a User-Agent is compared: as much as CloudTrail
// keeps of one. It bounds the work that a header can make, and proves nothing
// either way: clients write into it what they like.
const maxUserAgent = 1 << 10

// global gives the value of a global condition key, empty if the request has none,
// and whether the key is one that this package knows. No request has aws:Referer,
// or those of organizations, networks and federation.
func (e *evaluation) global(key string) (value string, known bool) {
	s := e.subject
	switch key {
	case "aws:currenttime":
		return s.Time.UTC().Format(time.RFC3339), true
	case "aws:epochtime":
		return strconv.FormatInt(s.Time.Unix(), 10), true
	case "aws:sourceip":
		if !s.SourceIP.IsValid() {
			return "", true
		}
		return s.SourceIP.Unmap().WithZone("").String(), true
	case "aws:securetransport":
		return strconv.FormatBool(s.Secure), true
	case "aws:useragent":
		return s.UserAgent[:min(len(s.UserAgent), maxUserAgent)], true
	case "aws:requestedregion":
		return s.Region, true
	case "aws:principalarn":
		if s.Kind == AssumedRole {
			return s.Role, true
		}
		return s.ARN, true
	case "aws:principalaccount":
		return s.Account, true
	case "aws:principaltype":
		return string(s.Kind), true
	case "aws:userid":
		return s.ID, true
	case "aws:username":
		return s.Name, true
	case "aws:principalisawsservice", "aws:viaawsservice":
		return "false", true
	case "aws:tokenissuetime":
		if s.Issued.IsZero() {
			return "", true
		}
		return s.Issued.UTC().Format(time.RFC3339), true
	case "aws:multifactorauthpresent": // temporary credentials have it, false
		if s.Issued.IsZero() {
			return "", true
		}
		return "false", true
	}
	return "", false
}
