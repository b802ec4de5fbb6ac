package shale;

import static org.junit.jupiter.api.Assertions.*;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.SortedMap;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import software.amazon.awssdk.services.ebs.model.*;
import software.amazon.awssdk.services.ec2.Ec2Client;
import software.amazon.awssdk.services.ec2.model.Ec2Exception;
import software.amazon.awssdk.services.ec2.model.SnapshotState;

/** A real disk in, its changes, and both out again, over each HTTP client. Spec: ebs-direct §14. */
class MainJobTest {
  private static final Path IMAGE = Path.of(System.getenv("SHALE_IMAGE"));
  private static final Path CHANGED_IMAGE = Path.of(System.getenv("SHALE_CHANGED_IMAGE"));

  private static SortedMap<Integer, byte[]> disk;
  private static SortedMap<Integer, byte[]> changes;

  @TempDir Path folder;

  @BeforeAll
  static void readImages() throws Exception {
    disk = Disk.read(IMAGE);
    changes = Disk.differing(disk, Disk.read(CHANGED_IMAGE));
    assertTrue(disk.size() > 100 && changes.size() > 3, disk.size() + " and " + changes.size() + " blocks");
  }

  @ParameterizedTest
  @EnumSource
  void aDiskAndItsChanges(Ebs.Over over) throws Exception {
    try (var ebs = over.client(); var ec2 = Ec2Client.create()) {
      var first =
          Disk.upload(
              ebs, ec2, disk,
              StartSnapshotRequest.builder()
                  .volumeSize(1L)
                  .timeout(10)
                  .description("a disk")
                  .tags(Tag.builder().key("kind").value("déjà vu").build())
                  .build());
      var second = Disk.upload(ebs, ec2, changes, StartSnapshotRequest.builder().volumeSize(1L).parentSnapshotId(first).build());

      var found = ec2.describeSnapshots(r -> r.snapshotIds(first)).snapshots().get(0);
      assertEquals(SnapshotState.COMPLETED, found.state());
      assertEquals("a disk", found.description());
      assertEquals("déjà vu", found.tags().get(0).value());
      assertEquals((long) disk.size() * Disk.BLOCK_SIZE, found.fullSnapshotSizeInBytes());

      assertEquals(new ArrayList<>(disk.keySet()), Disk.list(ebs, first).stream().map(Block::blockIndex).toList());
      var changed =
          ebs.listChanged(ListChangedBlocksRequest.builder().firstSnapshotId(first).secondSnapshotId(second).build()).changedBlocks();
      assertEquals(new ArrayList<>(changes.keySet()), changed.stream().map(ChangedBlock::blockIndex).toList());

      comesBack(ebs, first, IMAGE);
      ec2.deleteSnapshot(r -> r.snapshotId(first));
      var gone = assertThrows(Ec2Exception.class, () -> ec2.describeSnapshots(r -> r.snapshotIds(first)));
      assertEquals("InvalidSnapshot.NotFound", gone.awsErrorDetails().errorCode());
      assertThrows(ResourceNotFoundException.class, () -> Disk.list(ebs, first));
      comesBack(ebs, second, CHANGED_IMAGE); // whole, although its parent is gone
    }
  }

  private void comesBack(Ebs ebs, String snapshot, Path original) throws Exception {
    var restored = folder.resolve(snapshot);
    Disk.download(ebs, snapshot, restored, Files.size(original));
    assertEquals(-1, Files.mismatch(original, restored), "the first byte that differs");
  }
}
