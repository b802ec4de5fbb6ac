// Package test holds the black-box tests: they start the built program as
// users do and know nothing of its inside. Those that need Go are here; those
// of boto3, the AWS CLI and curl are in clients, and coldsnap.sh is coldsnap's.
package test
