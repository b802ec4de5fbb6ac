package shale;

import static org.junit.jupiter.api.Assertions.*;

import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import software.amazon.awssdk.services.ebs.model.*;
import software.amazon.awssdk.services.ec2.Ec2Client;
import software.amazon.awssdk.services.ec2.model.SnapshotState;
import software.amazon.awssdk.services.kms.KmsClient;
import software.amazon.awssdk.services.kms.model.DisabledException;
import software.amazon.awssdk.services.kms.model.NotFoundException;

/** Snapshots under a key of the server's own KMS, over each HTTP client. Spec: ebs-direct §6, ec2-snapshots §5. */
class EncryptionTest {
  @ParameterizedTest
  @EnumSource
  void aSnapshotUnderAKeyOfOnesOwn(Ebs.Over over) throws Exception {
    var data = new byte[Disk.BLOCK_SIZE];
    Arrays.fill(data, (byte) 'A');
    try (var ebs = over.client(); var ec2 = Ec2Client.create(); var kms = KmsClient.create()) {
      var key = kms.createKey(r -> r.description("a test's")).keyMetadata().arn();
      var other = kms.createKey(r -> r.description("another")).keyMetadata().arn();
      var start = StartSnapshotRequest.builder().volumeSize(1L).encrypted(true).kmsKeyArn(key).build();
      var id = Disk.upload(ebs, ec2, new TreeMap<>(Map.of(7, data)), start);
      var found = ec2.describeSnapshots(r -> r.snapshotIds(id)).snapshots().get(0);
      assertTrue(found.encrypted());
      assertEquals(key, found.kmsKeyId());

      // A copy under another key is readable without the first one. The SDK would
      // presign a URL by itself, and cannot for a host that is not AWS's.
      var copy =
          ec2.copySnapshot(
                  r -> r.sourceRegion("us-east-1").sourceSnapshotId(id).encrypted(true).kmsKeyId(other).presignedUrl("https://none"))
              .snapshotId();
      var described = ec2.describeSnapshots(r -> r.snapshotIds(copy)).snapshots().get(0);
      for (int i = 0; described.state() == SnapshotState.PENDING && i < 300; i++) {
        Thread.sleep(100);
        described = ec2.describeSnapshots(r -> r.snapshotIds(copy)).snapshots().get(0);
      }
      assertEquals(SnapshotState.COMPLETED, described.state(), described.stateMessage());
      assertEquals(other, described.kmsKeyId());

      var entry = Disk.list(ebs, id).get(0);
      kms.disableKey(r -> r.keyId(key));
      assertThrows(DisabledException.class, () -> kms.generateDataKey(r -> r.keyId(key).numberOfBytes(32)));
      var e = assertThrows(ValidationException.class, () -> Disk.get(ebs, id, entry));
      assertEquals(ValidationExceptionReason.INVALID_DEPENDENCY_REQUEST, e.reason());
      assertArrayEquals(data, Disk.get(ebs, copy, Disk.list(ebs, copy).get(0)));
      kms.enableKey(r -> r.keyId(key));
      assertArrayEquals(data, Disk.get(ebs, id, entry));

      var unknown = key.replaceFirst("[^/]*$", "00000000-0000-4000-8000-000000000000");
      assertThrows(NotFoundException.class, () -> kms.describeKey(r -> r.keyId(unknown)));
    }
  }
}
