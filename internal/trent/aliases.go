package trent

type aliasInput struct {
	AliasName   *string `json:"AliasName"`
	TargetKeyID *string `json:"TargetKeyId"`
}

func (in *aliasInput) check(c *checker) {
	c.alias(in.AliasName)
	c.key("targetKeyId", in.TargetKeyID)
}

func createAlias(c *call) (any, error) {
	var in aliasInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.kms.CreateAlias(c, c.caller, *in.AliasName, *in.TargetKeyID)
}

func updateAlias(c *call) (any, error) {
	var in aliasInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.kms.UpdateAlias(c, c.caller, *in.AliasName, *in.TargetKeyID)
}

type deleteAliasInput struct {
	AliasName *string `json:"AliasName"`
}

func (in *deleteAliasInput) check(c *checker) { c.alias(in.AliasName) }

func deleteAlias(c *call) (any, error) {
	var in deleteAliasInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	return nil, c.kms.DeleteAlias(c, c.caller, *in.AliasName)
}
