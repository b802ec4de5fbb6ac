package blockstore

import (
	"github.com/minio/crc64nvme"

	"shale/internal/block"
)

// checksum is the CRC-64/NVME of a record. It covers the id too, so that a
// payload that the disk put in the wrong place is noticed.
func checksum(id block.ID, payload []byte) uint64 {
	return updateCRC(crc64nvme.Checksum(id[:]), payload)
}
