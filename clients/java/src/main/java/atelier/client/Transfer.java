package atelier.client;

import atelier.v1.Artifact;
import atelier.v1.DownloadArtifactRequest;
import atelier.v1.UploadArtifactRequest;
import atelier.v1.UploadHeader;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import io.grpc.Deadline;
import io.grpc.Status;
import io.grpc.StatusException;
import java.io.ByteArrayOutputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** Files, in chunks. */
final class Transfer {
  // The largest chunk of the contract.
  private static final int CHUNK_BYTES = 512 << 10;

  private final AtelierClient client;
  private final Deadline deadline;
  private final Reachability reach;

  Transfer(AtelierClient client) {
    this.client = client;
    deadline = client.newDeadline();
    reach = new Reachability(client, deadline);
  }

  private interface Attempt<T> {
    T make() throws InterruptedException, StatusException;
  }

  private <T> T repeat(Attempt<T> attempt) {
    for (; ; ) {
      try {
        return attempt.make();
      } catch (InterruptedException interruption) {
        throw Reachability.interrupted();
      } catch (StatusException failure) {
        reach.await(AtelierException.from(failure));
      }
    }
  }

  Artifact upload(byte[] data, String mediaType) {
    var header = UploadHeader.newBuilder().setMediaType(mediaType).setSize(data.length).setSha256(sha256(data));
    return repeat(() -> send(header, data));
  }

  private Artifact send(UploadHeader.Builder header, byte[] data) throws InterruptedException, StatusException {
    var call = client.callStub(deadline).uploadArtifact();
    var isOver = false;
    try {
      var isTaken = call.write(UploadArtifactRequest.newBuilder().setHeader(header).build());
      for (var start = 0; start < data.length && isTaken; start += CHUNK_BYTES) {
        var chunk = chunk(data, start, Math.min(CHUNK_BYTES, data.length - start));
        isTaken = call.write(UploadArtifactRequest.newBuilder().setChunk(chunk).build());
      }
      call.halfClose();
      var answer = call.read(); // throws the status of a call that has ended early
      isOver = true;
      return answer == null ? Artifact.getDefaultInstance() : answer.getArtifact();
    } finally {
      if (!isOver) {
        call.cancel("the upload was given up", null);
      }
    }
  }

  private static ByteString chunk(byte[] data, int start, int length) {
    return UnsafeByteOperations.unsafeWrap(data, start, length);
  }

  byte[] download(String artifactId) {
    var data = new ByteArrayOutputStream();
    var artifact = Artifact.newBuilder();
    repeat(() -> receive(artifactId, artifact, data));
    var bytes = data.toByteArray();
    if (!sha256(bytes).equals(artifact.getSha256())) {
      throw new AtelierException(
          Status.Code.DATA_LOSS, "", "the bytes of artifact " + artifactId + " are damaged", "");
    }
    return bytes;
  }

  private Void receive(String artifactId, Artifact.Builder artifact, ByteArrayOutputStream data)
      throws InterruptedException, StatusException {
    var request = DownloadArtifactRequest.newBuilder().setArtifactId(artifactId).setOffset(data.size()).build();
    var call = client.callStub(deadline).downloadArtifact(request);
    var isOver = false;
    try {
      for (var message = call.read(); message != null; message = call.read()) {
        reach.answered();
        if (message.hasArtifact()) {
          artifact.mergeFrom(message.getArtifact());
        }
        data.writeBytes(message.getChunk().toByteArray());
      }
      isOver = true;
      return null;
    } finally {
      if (!isOver) {
        call.cancel("the download was given up", null);
      }
    }
  }

  private static String sha256(byte[] data) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
    } catch (NoSuchAlgorithmException impossible) {
      throw new AssertionError(impossible); // every Java has it
    }
  }
}
