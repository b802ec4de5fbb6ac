# What a user of Terraform does with snapshots, on a server of shale's;
# test/terraform.sh applies it, changes the variables and applies it again.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.62.0"
    }
  }
}

variable "endpoint" {
  type        = string
  description = "The server's address."
}

variable "account" {
  type        = string
  description = "The account's number."
}

variable "snapshot" {
  type        = string
  description = "A snapshot to copy, of the default region."
}

variable "purpose" {
  type        = string
  description = "A tag of the copy and of the key, changed between two applies."
}

variable "encrypt" {
  type        = bool
  description = "Encryption by default, changed between two applies."
}

variable "recipients" {
  type        = set(string)
  description = "Accounts that the copy is shared with, changed between two applies."
}

# Keys and region come from the environment that `shale env` prints.
provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true

  endpoints {
    ec2 = var.endpoint
    kms = var.endpoint
  }
}

resource "aws_kms_key" "disks" {
  description             = "disks"
  deletion_window_in_days = 7

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "The account"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${var.account}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })

  tags = { purpose = var.purpose }
}

resource "aws_kms_alias" "disks" {
  name          = "alias/disks"
  target_key_id = aws_kms_key.disks.key_id
}

resource "aws_ebs_default_kms_key" "disks" {
  key_arn = aws_kms_key.disks.arn
}

resource "aws_ebs_encryption_by_default" "this" {
  enabled = var.encrypt
}

resource "aws_ebs_snapshot_block_public_access" "this" {
  state = "block-all-sharing"
}

resource "aws_ebs_snapshot_copy" "copy" {
  source_snapshot_id = var.snapshot
  source_region      = "us-east-1"
  description        = "copied by Terraform"
  encrypted          = true
  kms_key_id         = aws_kms_key.disks.arn

  tags = { purpose = var.purpose }
}

resource "aws_snapshot_create_volume_permission" "copy" {
  for_each = var.recipients

  snapshot_id = aws_ebs_snapshot_copy.copy.id
  account_id  = each.value
}

data "aws_ebs_snapshot" "copy" {
  owners = ["self"]

  filter {
    name   = "snapshot-id"
    values = [aws_ebs_snapshot_copy.copy.id]
  }
}

output "copy" {
  value = aws_ebs_snapshot_copy.copy.id
}

output "state" {
  value = data.aws_ebs_snapshot.copy.state
}
