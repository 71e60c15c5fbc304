package atelier.client;

import atelier.v1.Artifact;
import atelier.v1.CancelGenerationRequest;
import atelier.v1.CancelGenerationResponse;
import atelier.v1.GenerateRequest;
import atelier.v1.Generation;
import atelier.v1.GenerationServiceGrpc;
import atelier.v1.GenerationServiceGrpc.GenerationServiceBlockingStub;
import atelier.v1.GenerationServiceGrpc.GenerationServiceBlockingV2Stub;
import atelier.v1.StreamProgressRequest;
import io.grpc.ClientInterceptors;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** A connection to a server; safe to use from many threads. */
public final class AtelierClient implements AutoCloseable {
  final ManagedChannel channel;
  final Duration reconnectTimeout;
  private final Metadata headers;
  private final Duration timeout;

  AtelierClient(ManagedChannel channel, Duration reconnectTimeout, Metadata headers, Duration timeout) {
    this.channel = channel;
    this.reconnectTimeout = reconnectTimeout;
    this.headers = headers;
    this.timeout = timeout;
  }

  /** How to reach the server at http://HOST:PORT, or https://HOST:PORT for TLS. */
  public static Connection builder(String address) {
    return new Connection(address);
  }

  /** The same connection, whose calls end after this time with DEADLINE_EXCEEDED. */
  public AtelierClient withTimeout(Duration timeout) {
    return new AtelierClient(channel, reconnectTimeout, headers, timeout);
  }

  /**
   * All calls of the contract, as generated: for what this layer has no method for. {@link AtelierException#from} reads
   * their errors.
   */
  public GenerationServiceBlockingStub stub() {
    return limit(GenerationServiceGrpc.newBlockingStub(withHeaders()), newDeadline());
  }

  GenerationServiceBlockingV2Stub callStub(Deadline deadline) {
    return limit(GenerationServiceGrpc.newBlockingV2Stub(withHeaders()), deadline);
  }

  private io.grpc.Channel withHeaders() {
    return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  private static <S extends AbstractStub<S>> S limit(S stub, Deadline deadline) {
    return deadline == null ? stub : stub.withDeadline(deadline);
  }

  Deadline newDeadline() {
    return timeout == null ? null : Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS);
  }

  /**
   * Runs a task to its end and returns the generation, which has succeeded.
   *
   * @throws AtelierException it was rejected, has failed or was cancelled; then its generationId names it
   */
  public Generation generate(GenerateRequest request) {
    Generation last = null;
    try (var events = stream(request)) {
      for (var event : events) {
        last = event.hasGeneration() ? event.getGeneration() : null;
      }
    }
    if (last == null) {
      throw new AtelierException(Status.Code.INTERNAL, "", "the stream ended without an outcome", "");
    }
    return AtelierException.requireSuccess(last);
  }

  /** Starts a task and follows it to its end. Closing the events early, or interrupting their thread, cancels it. */
  public Events stream(GenerateRequest request) {
    var named = request.getRequestId().isEmpty()
        ? request.toBuilder().setRequestId(UUID.randomUUID().toString()).build()
        : request;
    return new Events(
        this,
        StreamProgressRequest.newBuilder().setGenerate(named).setInlineOutputs(named.getInlineOutputs()).build());
  }

  /** Follows a generation from the event after a sequence number on; closing the events early cancels nothing. */
  public Events attach(String generationId, int afterSequence) {
    return new Events(
        this,
        StreamProgressRequest.newBuilder().setGenerationId(generationId).setAfterSequence(afterSequence).build());
  }

  /**
   * Stops a generation; the answer says what was really stopped.
   *
   * @throws AtelierException there is no such generation, or the call has failed
   */
  public CancelGenerationResponse cancel(String generationId) {
    try {
      return stub().cancelGeneration(CancelGenerationRequest.newBuilder().setGenerationId(generationId).build());
    } catch (StatusRuntimeException failure) {
      throw AtelierException.from(failure);
    }
  }

  /**
   * Stores a file and returns its artifact; the server checks its SHA-256. The media type is that of an image or of
   * audio, such as image/png.
   *
   * @throws AtelierException the file was rejected, or the call has failed
   */
  public Artifact upload(byte[] data, String mediaType) {
    return new Transfer(this).upload(data, mediaType);
  }

  /**
   * The bytes of an artifact. After a lost connection it goes on at the last byte.
   *
   * @throws AtelierException there is no such artifact, the call has failed, or the bytes do not have the SHA-256 that
   *     the server tells (DATA_LOSS)
   */
  public byte[] download(String artifactId) {
    return new Transfer(this).download(artifactId);
  }

  /** Ends the connection, and all calls on it. */
  @Override
  public void close() {
    channel.shutdownNow();
  }
}
