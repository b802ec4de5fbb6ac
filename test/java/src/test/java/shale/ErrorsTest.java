package shale;

import static org.junit.jupiter.api.Assertions.*;

import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.services.ebs.model.*;
import software.amazon.awssdk.services.ec2.Ec2Client;
import software.amazon.awssdk.services.ec2.model.Ec2Exception;

/** Errors as this SDK's classes: what its users catch. Spec: ebs-direct §9, ec2-snapshots §1.3. */
class ErrorsTest {
  private static final String UNKNOWN = "snap-0123456789abcdef0";

  private static Ebs ebs;
  private static Ec2Client ec2;
  private static String snapshot;

  @BeforeAll
  static void make() throws Exception {
    ebs = Ebs.Over.URL_CONNECTION.client();
    ec2 = Ec2Client.create();
    snapshot = Disk.upload(ebs, ec2, new TreeMap<>(Map.of(0, new byte[Disk.BLOCK_SIZE])), StartSnapshotRequest.builder().volumeSize(1L).build());
  }

  @AfterAll
  static void close() {
    ebs.close();
    ec2.close();
  }

  private static <T extends AwsServiceException> T refused(Class<T> kind, int status, Executable call) {
    var e = assertThrows(kind, call);
    assertEquals(status, e.statusCode());
    assertNotNull(e.requestId(), "the request id");
    return e;
  }

  @Test
  void anUnknownSnapshot() {
    var e = refused(ResourceNotFoundException.class, 404, () -> ebs.list(ListSnapshotBlocksRequest.builder().snapshotId(UNKNOWN).build()));
    assertEquals(ResourceNotFoundExceptionReason.SNAPSHOT_NOT_FOUND, e.reason());
    assertEquals("The snapshot '" + UNKNOWN + "' does not exist.", e.awsErrorDetails().errorMessage());
  }

  @Test
  void aBadBlockToken() {
    var entry = Block.builder().blockIndex(0).blockToken("bm9uc2Vuc2U").build();
    var e = refused(ValidationException.class, 400, () -> Disk.get(ebs, snapshot, entry));
    assertEquals(ValidationExceptionReason.INVALID_BLOCK_TOKEN, e.reason());
  }

  @Test
  void anotherBlocksToken() {
    var entry = Disk.list(ebs, snapshot).get(0).toBuilder().blockIndex(1).build();
    var e = refused(ValidationException.class, 400, () -> Disk.get(ebs, snapshot, entry));
    assertEquals(ValidationExceptionReason.INVALID_BLOCK_TOKEN, e.reason());
  }

  @Test
  void aClientTokenWithAnotherRequest() {
    var request = StartSnapshotRequest.builder().volumeSize(1L).clientToken(UUID.randomUUID().toString()).build();
    var first = ebs.start(request);
    var again = ebs.start(request);
    assertEquals(first.snapshotId(), again.snapshotId());
    assertEquals(first.startTime(), again.startTime());
    refused(ConflictException.class, 409, () -> ebs.start(request.toBuilder().volumeSize(2L).build()));
  }

  @Test
  void aConstraint() {
    var e =
        refused(ValidationException.class, 400, () -> ebs.list(ListSnapshotBlocksRequest.builder().snapshotId(snapshot).maxResults(99).build()));
    assertNull(e.reason());
    assertTrue(e.awsErrorDetails().errorMessage().startsWith("1 validation error detected: Value '99' at 'maxResults'"), e.getMessage());
  }

  @Test
  void aWrongChecksum() {
    var id = ebs.start(StartSnapshotRequest.builder().volumeSize(1L).build()).snapshotId();
    var other = new byte[Disk.BLOCK_SIZE];
    other[0] = 1;
    var e = refused(EbsException.class, 403, () -> ebs.put(Disk.put(id, 0, new byte[Disk.BLOCK_SIZE]), other));
    assertEquals("InvalidSignatureException", e.awsErrorDetails().errorCode());
  }

  @Test
  void anUnknownKey() {
    var stranger = StaticCredentialsProvider.create(AwsBasicCredentials.create("AKIDEXAMPLE", "wrong"));
    try (var other = Ebs.Over.URL_CONNECTION.client(b -> ((AwsClientBuilder<?, ?>) b).credentialsProvider(stranger));
        var otherEc2 = Ec2Client.builder().credentialsProvider(stranger).build()) {
      var e = refused(EbsException.class, 403, () -> Disk.list(other, snapshot));
      assertEquals("UnrecognizedClientException", e.awsErrorDetails().errorCode());
      var f = refused(Ec2Exception.class, 401, () -> otherEc2.describeSnapshots());
      assertEquals("AuthFailure", f.awsErrorDetails().errorCode());
    }
  }

  @Test
  void ofEc2() {
    var e = refused(Ec2Exception.class, 400, () -> ec2.describeSnapshots(r -> r.snapshotIds(UNKNOWN)));
    assertEquals("InvalidSnapshot.NotFound", e.awsErrorDetails().errorCode());
    var f = refused(Ec2Exception.class, 412, () -> ec2.deleteSnapshot(r -> r.snapshotId(snapshot).dryRun(true)));
    assertEquals("DryRunOperation", f.awsErrorDetails().errorCode());
  }
}
