package policy

import "testing"

func TestAdmits(t *testing.T) {
	for principal, want := range map[string]bool{
		`"*"`: true, `{"AWS":"*"}`: true, `{"AWS":"111122223333"}`: true, `{"AWS":"arn:aws:iam::111122223333:root"}`: true,
		`{"AWS":["arn:aws:iam::444455556666:root","arn:aws:iam::111122223333:user/alice"]}`: true,
		`{"AWS":"arn:aws:sts::111122223333:assumed-role/r/s"}`:                              true,
		`{"AWS":"arn:aws:iam::444455556666:user/111122223333"}`:                             false,
		`{"Service":"ec2.amazonaws.com"}`:                                                   false,
	} {
		for effect, want := range map[string]bool{"Allow": want, "Deny": false} {
			p, err := Parse(`{"Statement":{"Effect":"`+effect+`","Principal":`+principal+`,"Action":"kms:*","Resource":"*"}}`, Key)
			if err != nil || p.Admits("111122223333") != want {
				t.Errorf("%s to %s: got %v, %v", effect, principal, !want, err)
			}
		}
	}
}
