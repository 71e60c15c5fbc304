package atelier.client;

import atelier.v1.Generation;
import atelier.v1.State;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;

/** What a call failed with, read from its status and the google.rpc details. */
public final class AtelierException extends RuntimeException {
  private static final long serialVersionUID = 1;
  // What libraries and proxies make of a lost connection; a deadline of the caller's own is not asked about.
  private static final Set<Status.Code> LOST =
      Set.of(
          Status.Code.UNAVAILABLE,
          Status.Code.INTERNAL,
          Status.Code.UNKNOWN,
          Status.Code.CANCELLED,
          Status.Code.ABORTED,
          Status.Code.DEADLINE_EXCEEDED);

  private final Status.Code code;
  private final String reason;
  private final TreeMap<String, String> fields = new TreeMap<>();
  private final Duration retryAfter;
  private final String generationId;

  private AtelierException(Throwable cause, Status status, com.google.rpc.Status details) {
    super(status.getDescription(), cause);
    var info = find(details, ErrorInfo.class).filter(found -> found.getDomain().equals("atelier"));
    code = status.getCode();
    reason = info.map(ErrorInfo::getReason).orElse("");
    generationId = info.map(found -> found.getMetadataOrDefault("generation_id", "")).orElse("");
    retryAfter = find(details, RetryInfo.class).map(found -> toDuration(found.getRetryDelay())).orElse(null);
    for (var one : find(details, BadRequest.class).map(BadRequest::getFieldViolationsList).orElse(java.util.List.of())) {
      fields.put(one.getField().replaceFirst("^generate\\.", ""), one.getDescription());
    }
  }

  AtelierException(Status.Code code, String reason, String message, String generationId) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.generationId = generationId;
    this.retryAfter = null;
  }

  /** The error for what a call of the stubs threw. */
  public static AtelierException from(Throwable thrown) {
    if (thrown instanceof AtelierException known) {
      return known;
    }
    return new AtelierException(thrown, Status.fromThrowable(thrown), StatusProto.fromThrowable(thrown));
  }

  /** The generation, if it has succeeded. */
  static Generation requireSuccess(Generation generation) {
    if (generation.hasFailure()) {
      var failure = generation.getFailure();
      var code = Status.fromCodeValue(failure.getCode()).getCode();
      throw new AtelierException(code, failure.getReason(), failure.getMessage(), generation.getId());
    }
    if (generation.getState() == State.STATE_CANCELLED) {
      throw new AtelierException(
          Status.Code.CANCELLED, "CANCELLED", "the generation was cancelled", generation.getId());
    }
    return generation;
  }

  private static <T extends Message> Optional<T> find(com.google.rpc.Status details, Class<T> kind) {
    if (details != null) {
      for (Any detail : details.getDetailsList()) {
        if (detail.is(kind)) {
          try {
            return Optional.of(detail.unpack(kind));
          } catch (InvalidProtocolBufferException damaged) {
            return Optional.empty();
          }
        }
      }
    }
    return Optional.empty();
  }

  private static Duration toDuration(com.google.protobuf.Duration duration) {
    return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }

  /** The code of gRPC. */
  public Status.Code code() {
    return code;
  }

  /** The reason of the server, such as INVALID_REQUEST; empty where a library or a proxy has answered. */
  public String reason() {
    return reason;
  }

  /** Descriptions of wrong fields, by their paths in the request, such as image.width. */
  public Map<String, String> fields() {
    return Map.copyOf(fields);
  }

  /** The time after which the same request may succeed; empty if it will not, or nobody knows. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /** The generation that the call had begun or followed; empty if there is none. */
  public String generationId() {
    return generationId;
  }

  /** Whether the connection was lost, or the server said so: whoever has a request id can attach again. */
  boolean isLost() {
    return reason.equals("DRAINING") || (reason.isEmpty() && getCause() != null && LOST.contains(code));
  }
}
