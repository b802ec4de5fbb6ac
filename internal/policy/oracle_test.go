package policy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestOracle has questions answered by shale and by an evaluator that others
// wrote, test/oracle. What they answer differently has to be in the table of known
// differences. test/policy.sh runs it.
func TestOracle(t *testing.T) {
	script := os.Getenv("SHALE_ORACLE")
	if script == "" {
		t.Skip("test/policy.sh runs this")
	}
	seed := number(t, "SHALE_ORACLE_SEED", rand.Uint64())
	count := number(t, "SHALE_ORACLE_REQUESTS", 5000)
	q := questioner{rand.New(rand.NewPCG(seed, 0))}
	questions := make([]*question, count)
	for i := range questions {
		questions[i] = q.question()
	}
	allowed, plain, explained := 0, 0, map[string]int{}
	for i, theirs := range simulate(t, script, questions) {
		w := questions[i]
		ours := answerOf(t, w.ask(t))
		if ours == "Allowed" {
			allowed++
		}
		why := w.known()
		if why == "" {
			plain++
		}
		if ours == theirs {
			continue
		}
		explained[why]++
		if why == "" && explained[why] <= 5 {
			text, _ := json.MarshalIndent(w, "", " ")
			t.Errorf("question %d: shale says %s (%q), the oracle %s\n%s", i, ours, whyOf(w.ask(t)), theirs, text)
		}
	}
	t.Logf("seed %d: %d questions, %d allowed; %d of them have nothing that is known to be answered differently", seed, count, allowed, plain)
	for why, n := range explained {
		t.Logf("%d answered differently: %s", n, why)
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// simulate asks the evaluator.
func simulate(t *testing.T, script string, questions []*question) []string {
	var in, stderr bytes.Buffer
	for _, w := range questions {
		line, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	c := exec.CommandContext(t.Context(), "node", script)
	c.Stdin, c.Stderr = &in, &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var all []string
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if answer, isError := strings.CutPrefix(lines.Text(), "error "); isError {
			line, _ := json.Marshal(questions[len(all)])
			t.Fatalf("the oracle cannot judge %s\n%s", line, answer)
		}
		all = append(all, lines.Text())
	}
	if len(all) != len(questions) {
		t.Fatalf("%d answers to %d questions", len(all), len(questions))
	}
	return all
}

// answerOf says in the oracle's words what shale decided.
func answerOf(t *testing.T, err error) string {
	switch why := why(t, err); {
	case why == "":
		return "Allowed"
	case strings.HasPrefix(why, "with an explicit deny"):
		return "ExplicitlyDenied"
	default:
		return "ImplicitlyDenied"
	}
}

func whyOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A difference is one between shale and the oracle that is understood. Each tells
// by the question alone whether it can occur, so that nothing else passes for it.
type difference struct {
	why     string
	applies func(*question) bool
}

var differences = []difference{
	{
		"An inverted operator and a variable without a value: IAM's documentation says that they match, the oracle that they do not.",
		anyCondition(func(w *question, c tested) bool {
			return strings.Contains(c.operator, "Not") && c.present && c.hasVariable(w)
		}),
	},
	{
		"A date and seconds since 1970: the oracle compares the seconds with milliseconds.",
		anyCondition(func(w *question, c tested) bool {
			return strings.Contains(c.operator, "Date") && c.present && (strings.HasSuffix(c.key, "EpochTime") || slices.ContainsFunc(c.values, isSeconds))
		}),
	},
	{
		"A key of several values under an operator without a prefix: never met for the oracle, which IAM's documentation leaves open.",
		anyCondition(func(w *question, c tested) bool {
			return strings.HasSuffix(c.key, "TagKeys") && c.present && c.operator != "Null" && !strings.HasPrefix(c.operator, "For")
		}),
	},
	{
		"NotIpAddress and one address of the other family: the oracle says that they do not differ.",
		anyCondition(func(w *question, c tested) bool {
			return strings.Contains(c.operator, "NotIpAddress") && slices.ContainsFunc(c.values, func(v string) bool {
				a, err := netip.ParseAddr(v)
				return err == nil && a.Is4() != w.subject.SourceIP.Is4()
			})
		}),
	},
	{
		"0.0.0.0/0: for the oracle no address is in it, since it shifts 32 bits by 32.",
		anyCondition(func(w *question, c tested) bool {
			return slices.Contains(c.values, "0.0.0.0/0") && w.subject.SourceIP.Is4()
		}),
	},
	{
		"NotPrincipal: for the oracle it is enough to name the account or the role, for IAM's documentation all of account, role and session must be named.",
		func(w *question) bool {
			return slices.ContainsFunc(w.ResourcePolicy.statements(), func(s document) bool { return s["NotPrincipal"] != nil })
		},
	},
	{
		"A session that the resource names itself, and its session policy: IAM's documentation says that this right is beyond the policy, the oracle that it is not.",
		func(w *question) bool {
			return w.Session != nil && w.subject.Account == w.Owner && slices.ContainsFunc(w.ResourcePolicy.statements(), func(s document) bool {
				principals, _ := s["Principal"].(document)
				return s["Effect"] == "Allow" && principals["AWS"] != nil && slices.Contains(all(principals["AWS"]), w.Principal)
			})
		},
	},
	{
		"NotResource and a variable without a value: IAM's documentation says that it matches no resource, so that none is excepted; for the oracle the statement is void.",
		func(w *question) bool {
			return slices.ContainsFunc(w.policies(), func(d document) bool {
				return slices.ContainsFunc(d.statements(), func(s document) bool {
					return s["NotResource"] != nil && slices.ContainsFunc(all(s["NotResource"]), func(v string) bool { return strings.Contains(v, "${aws:PrincipalTag/none}") })
				})
			})
		},
	},
}

// known gives the reason why the question may be answered differently, empty if
// there is none.
func (w *question) known() string {
	for _, d := range differences {
		if d.applies(w) {
			return d.why
		}
	}
	return ""
}

// tested is a condition of a question.
type tested struct {
	operator, key string
	values        []string
	present       bool // the request has the key
}

// hasVariable says whether a value has a variable that the request does not give.
func (c *tested) hasVariable(w *question) bool {
	return slices.ContainsFunc(c.values, func(v string) bool {
		return strings.Contains(v, "${aws:PrincipalTag/none}") || strings.Contains(v, "${aws:username}") && w.subject.Name == ""
	})
}

func isSeconds(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func anyCondition(holds func(*question, tested) bool) func(*question) bool {
	return func(w *question) bool {
		for _, d := range w.policies() {
			for _, s := range d.statements() {
				conditions, _ := s["Condition"].(document)
				for operator, keys := range conditions {
					for key, value := range keys.(document) {
						if holds(w, tested{operator, key, all(value), w.has(key)}) {
							return true
						}
					}
				}
			}
		}
		return false
	}
}

func (w *question) policies() []document {
	return append(slices.Clone(w.Identity), w.Session, w.ResourcePolicy)
}

func (d document) statements() []document {
	switch statements := d["Statement"].(type) {
	case document:
		return []document{statements}
	case []any:
		var all []document
		for _, s := range statements {
			all = append(all, s.(document))
		}
		return all
	}
	return nil
}

func all(value any) []string {
	if one, ok := value.(string); ok {
		return []string{one}
	}
	return value.([]string)
}

func (w *question) has(key string) bool {
	for name := range w.Keys {
		if strings.EqualFold(name, key) {
			return true
		}
	}
	return false
}
