package shale;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import software.amazon.awssdk.retries.api.BackoffStrategy;
import software.amazon.awssdk.services.ebs.model.*;
import software.amazon.awssdk.services.ec2.Ec2Client;

/** A disk image as a client of the EBS direct APIs takes it: block by block, eight at a time. */
final class Disk {
  static final int BLOCK_SIZE = 524288;

  private static final byte[] ZERO = new byte[BLOCK_SIZE];

  private Disk() {}

  static byte[] digest(byte[] data) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(data);
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e);
    }
  }

  /** A block's checksum as the wire has it. */
  static String checksum(byte[] data) {
    return Base64.getEncoder().encodeToString(digest(data));
  }

  /** The LINEAR checksum of blocks in the order of their indexes. */
  static String aggregate(Iterable<byte[]> blocks) {
    var digests = new ByteArrayOutputStream();
    blocks.forEach(b -> digests.writeBytes(digest(b)));
    return checksum(digests.toByteArray());
  }

  /** The blocks of an image by index, without those of zeros. */
  static SortedMap<Integer, byte[]> read(Path image) throws IOException {
    var blocks = new TreeMap<Integer, byte[]>();
    try (var file = new RandomAccessFile(image.toFile(), "r")) {
      for (int index = 0; index < file.length() / BLOCK_SIZE; index++) {
        var data = new byte[BLOCK_SIZE];
        file.readFully(data);
        if (!Arrays.equals(data, ZERO)) {
          blocks.put(index, data);
        }
      }
    }
    return blocks;
  }

  /** The blocks of one map that are not in another, or not the same there; a hole is zeros. */
  static SortedMap<Integer, byte[]> differing(Map<Integer, byte[]> before, Map<Integer, byte[]> after) {
    var indexes = new TreeSet<>(before.keySet());
    indexes.addAll(after.keySet());
    var found = new TreeMap<Integer, byte[]>();
    for (int index : indexes) {
      var now = after.getOrDefault(index, ZERO);
      if (!Arrays.equals(before.getOrDefault(index, ZERO), now)) {
        found.put(index, now);
      }
    }
    return found;
  }

  static PutSnapshotBlockRequest put(String snapshot, int index, byte[] data) {
    return PutSnapshotBlockRequest.builder()
        .snapshotId(snapshot)
        .blockIndex(index)
        .dataLength(BLOCK_SIZE)
        .checksum(checksum(data))
        .checksumAlgorithm(ChecksumAlgorithm.SHA256)
        .build();
  }

  /** Makes a completed snapshot of blocks by index, and waits for it as users do. */
  static String upload(Ebs ebs, Ec2Client ec2, SortedMap<Integer, byte[]> blocks, StartSnapshotRequest start) throws Exception {
    var id = ebs.start(start).snapshotId();
    each(
        blocks.entrySet(),
        e -> {
          var answer = ebs.put(put(id, e.getKey(), e.getValue()), e.getValue());
          assertEquals(checksum(e.getValue()), answer.checksum());
        });
    var answer = ebs.complete(
        CompleteSnapshotRequest.builder()
            .snapshotId(id)
            .changedBlocksCount(blocks.size())
            .checksum(aggregate(blocks.values()))
            .checksumAlgorithm(ChecksumAlgorithm.SHA256)
            .checksumAggregationMethod(ChecksumAggregationMethod.LINEAR)
            .build());
    assertEquals(Status.PENDING, answer.status());
    try (var waiter = ec2.waiter()) {
      waiter.waitUntilSnapshotCompleted(
          r -> r.snapshotIds(id),
          o -> o.maxAttempts(300).backoffStrategyV2(BackoffStrategy.fixedDelayWithoutJitter(Duration.ofMillis(200))));
    }
    return id;
  }

  /** All entries of a listing, in pages of 100. */
  static List<Block> list(Ebs ebs, String snapshot) {
    var entries = new ArrayList<Block>();
    String token = null;
    do {
      var page = ebs.list(ListSnapshotBlocksRequest.builder().snapshotId(snapshot).maxResults(100).nextToken(token).build());
      entries.addAll(page.blocks());
      token = page.nextToken();
    } while (token != null);
    return entries;
  }

  /** Reads one block and holds it against the headers that came with it. */
  static byte[] get(Ebs ebs, String snapshot, Block entry) {
    var answer =
        ebs.get(
            GetSnapshotBlockRequest.builder()
                .snapshotId(snapshot)
                .blockIndex(entry.blockIndex())
                .blockToken(entry.blockToken())
                .build());
    var data = answer.asByteArray();
    assertEquals(BLOCK_SIZE, data.length);
    assertEquals(BLOCK_SIZE, answer.response().dataLength());
    assertEquals(checksum(data), answer.response().checksum());
    return data;
  }

  /** Writes a snapshot into a file of the given length in bytes. */
  static void download(Ebs ebs, String snapshot, Path to, long length) throws Exception {
    try (var file = new RandomAccessFile(to.toFile(), "rw")) {
      file.setLength(length);
      each(
          list(ebs, snapshot),
          e -> {
            var data = get(ebs, snapshot, e);
            synchronized (file) {
              file.seek((long) e.blockIndex() * BLOCK_SIZE);
              file.write(data);
            }
          });
    }
  }

  private interface Work<T> {
    void on(T item) throws Exception;
  }

  private static <T> void each(Collection<T> items, Work<T> work) throws InterruptedException, ExecutionException {
    var pool = Executors.newFixedThreadPool(8);
    try {
      var results = new ArrayList<Future<?>>();
      for (T item : items) {
        results.add(
            pool.submit(
                () -> {
                  work.on(item);
                  return null;
                }));
      }
      for (var result : results) {
        result.get();
      }
    } finally {
      pool.shutdownNow();
    }
  }
}
