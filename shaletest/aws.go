package shaletest

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// AWSConfig is a configuration with which the clients of the AWS SDK speak to
// the server, retries and all as they come.
func (s *Server) AWSConfig() aws.Config {
	return aws.Config{
		Region: s.Region, BaseEndpoint: aws.String(s.Endpoint),
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.Secret, ""),
	}
}
