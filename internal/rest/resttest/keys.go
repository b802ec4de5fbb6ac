package resttest

import (
	"fmt"
	"strings"

	"shale/internal/kms"
	"shale/internal/snapshot/snapshottest"
)

// keyCommand does one command about KMS keys:
//
//	key NAME [owner=ACCOUNT] [region=REGION] [asymmetric]   makes one; NAME is then its ARN
//	default-key NAME                 the one that AWS manages for the account
//	disable NAME, schedule-deletion NAME, destroy NAME, enable NAME
//	deny NAME [ACTION]…              forbids the account the actions, and no others
//	alias NAME ALIAS                 gives the account's key one more name
//	grant NAME ACCOUNT               lets another account use it
//	set SETTING [VALUE]              a setting of the account
func (p *player) keyCommand(verb, name string, args []string) error {
	ctx, provider, arn := p.t.Context(), p.env.KMS, p.vars[name]
	switch verb {
	case "key":
		return p.makeKey(name, args)
	case "default-key":
		k, err := provider.Key(ctx, kms.Caller{Account: snapshottest.Caller.Account, Region: snapshottest.Caller.Region}, kms.DefaultKeyAlias, kms.DescribeKey)
		p.vars[name] = k.ARN
		return err
	case "disable":
		provider.Disable(arn)
	case "schedule-deletion":
		provider.ScheduleDeletion(arn)
	case "enable":
		provider.Enable(arn)
	case "destroy":
		provider.Destroy(arn)
	case "deny":
		actions := make([]kms.Action, len(args))
		for i := range args {
			actions[i] = kms.Action("kms:" + args[i])
		}
		provider.Deny(arn, snapshottest.Account, actions...)
	case "alias":
		provider.Alias(arn, args[0])
	case "grant":
		provider.Grant(arn, args[0])
	case "set":
		value := ""
		if len(args) > 0 {
			if value = args[0]; p.vars[value] != "" {
				value = p.vars[value]
			}
		}
		return p.env.Catalog.SetAccountSetting(ctx, snapshottest.Caller, name, value)
	default:
		return fmt.Errorf("there is no such command")
	}
	return nil
}

func (p *player) makeKey(name string, args []string) error {
	account, region, asymmetric := snapshottest.Account, snapshottest.Region, false
	for _, arg := range args {
		option, value, _ := strings.Cut(arg, "=")
		switch option {
		case "owner":
			account = value
		case "region":
			region = value
		case "asymmetric":
			asymmetric = true
		default:
			return fmt.Errorf("there is no option %s", option)
		}
	}
	arn := p.env.KMS.Create(account, region)
	if asymmetric {
		p.env.KMS.MakeAsymmetric(arn)
	}
	p.vars[name] = arn
	return nil
}
