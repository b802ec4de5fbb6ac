package shale;

import java.util.function.Function;
import software.amazon.awssdk.core.ResponseBytes;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.async.AsyncResponseTransformer;
import software.amazon.awssdk.core.client.builder.SdkClientBuilder;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.services.ebs.EbsAsyncClient;
import software.amazon.awssdk.services.ebs.EbsClient;
import software.amazon.awssdk.services.ebs.model.*;

/** The six operations over one of the SDK's HTTP clients, blocking or not. */
interface Ebs extends AutoCloseable {
  StartSnapshotResponse start(StartSnapshotRequest r);

  PutSnapshotBlockResponse put(PutSnapshotBlockRequest r, byte[] data);

  CompleteSnapshotResponse complete(CompleteSnapshotRequest r);

  ListSnapshotBlocksResponse list(ListSnapshotBlocksRequest r);

  ListChangedBlocksResponse listChanged(ListChangedBlocksRequest r);

  ResponseBytes<GetSnapshotBlockResponse> get(GetSnapshotBlockRequest r);

  @Override
  void close();

  /** The SDK's HTTP clients, and how each makes the API's. */
  enum Over {
    URL_CONNECTION,
    APACHE,
    NETTY;

    /** A client that finds keys, region and address as any program of a user does. */
    Ebs client() {
      return client(b -> b);
    }

    /** A client for which something was set otherwise. */
    Ebs client(Function<SdkClientBuilder<?, ?>, SdkClientBuilder<?, ?>> set) {
      return switch (this) {
        case URL_CONNECTION ->
            blocking((EbsClient) set.apply(EbsClient.builder().httpClientBuilder(UrlConnectionHttpClient.builder())).build());
        case APACHE ->
            blocking((EbsClient) set.apply(EbsClient.builder().httpClientBuilder(ApacheHttpClient.builder())).build());
        case NETTY ->
            async((EbsAsyncClient) set.apply(EbsAsyncClient.builder().httpClientBuilder(NettyNioAsyncHttpClient.builder())).build());
      };
    }
  }

  private static Ebs blocking(EbsClient client) {
    return new Ebs() {
      @Override
      public StartSnapshotResponse start(StartSnapshotRequest r) {
        return client.startSnapshot(r);
      }

      @Override
      public PutSnapshotBlockResponse put(PutSnapshotBlockRequest r, byte[] data) {
        return client.putSnapshotBlock(r, RequestBody.fromBytes(data));
      }

      @Override
      public CompleteSnapshotResponse complete(CompleteSnapshotRequest r) {
        return client.completeSnapshot(r);
      }

      @Override
      public ListSnapshotBlocksResponse list(ListSnapshotBlocksRequest r) {
        return client.listSnapshotBlocks(r);
      }

      @Override
      public ListChangedBlocksResponse listChanged(ListChangedBlocksRequest r) {
        return client.listChangedBlocks(r);
      }

      @Override
      public ResponseBytes<GetSnapshotBlockResponse> get(GetSnapshotBlockRequest r) {
        return client.getSnapshotBlockAsBytes(r);
      }

      @Override
      public void close() {
        client.close();
      }
    };
  }

  private static Ebs async(EbsAsyncClient client) {
    return new Ebs() {
      @Override
      public StartSnapshotResponse start(StartSnapshotRequest r) {
        return Failure.unwrapped(client.startSnapshot(r));
      }

      @Override
      public PutSnapshotBlockResponse put(PutSnapshotBlockRequest r, byte[] data) {
        return Failure.unwrapped(client.putSnapshotBlock(r, AsyncRequestBody.fromBytes(data)));
      }

      @Override
      public CompleteSnapshotResponse complete(CompleteSnapshotRequest r) {
        return Failure.unwrapped(client.completeSnapshot(r));
      }

      @Override
      public ListSnapshotBlocksResponse list(ListSnapshotBlocksRequest r) {
        return Failure.unwrapped(client.listSnapshotBlocks(r));
      }

      @Override
      public ListChangedBlocksResponse listChanged(ListChangedBlocksRequest r) {
        return Failure.unwrapped(client.listChangedBlocks(r));
      }

      @Override
      public ResponseBytes<GetSnapshotBlockResponse> get(GetSnapshotBlockRequest r) {
        return Failure.unwrapped(client.getSnapshotBlock(r, AsyncResponseTransformer.toBytes()));
      }

      @Override
      public void close() {
        client.close();
      }
    };
  }
}
