//go:build !amd64

package blockstore

import "github.com/minio/crc64nvme"

// updateCRC is the CRC-64/NVME of what crc is the checksum of, and p behind it.
func updateCRC(crc uint64, p []byte) uint64 { return crc64nvme.Update(crc, p) }
