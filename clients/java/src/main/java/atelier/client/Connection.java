package atelier.client;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URI;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** How to reach a server. */
public final class Connection {
  // The server ends connections that are pinged more often than every 5 s.
  private static final long KEEPALIVE_SECONDS = 20;
  // 64 outputs of 2 MiB each, all inline.
  private static final int MAX_RECEIVE_BYTES = 144 << 20;

  private final String address;
  private String token = "";
  private byte[] authorities = {};
  private Duration reconnectTimeout = Duration.ofSeconds(30);

  Connection(String address) {
    this.address = address;
  }

  /** Sends an API key or a token with every call. */
  public Connection token(String token) {
    this.token = token;
    return this;
  }

  /** PEM of the authorities that may have signed the server's certificate; those of Java otherwise. */
  public Connection authorities(byte[] pem) {
    authorities = pem.clone();
    return this;
  }

  /**
   * How long a stream or a transfer whose connection is lost is tried again, from the first failure after the last answer
   * of the server; 30 seconds otherwise.
   */
  public Connection reconnectTimeout(Duration timeout) {
    reconnectTimeout = timeout;
    return this;
  }

  /**
   * A client for this server; its first call connects.
   *
   * @throws IllegalArgumentException the address or a certificate cannot be read
   */
  public AtelierClient connect() {
    var uri = URI.create(address);
    if (uri.getAuthority() == null || !List.of("http", "https").contains(uri.getScheme())) {
      throw new IllegalArgumentException("the address " + address + " is not http://HOST:PORT or https://HOST:PORT");
    }
    var channel =
        Grpc.newChannelBuilder("dns:///" + uri.getAuthority(), credentials(uri.getScheme().equals("https")))
            .keepAliveTime(KEEPALIVE_SECONDS, TimeUnit.SECONDS)
            .keepAliveTimeout(KEEPALIVE_SECONDS, TimeUnit.SECONDS)
            .maxInboundMessageSize(MAX_RECEIVE_BYTES)
            .defaultServiceConfig(serviceConfig())
            .enableRetry()
            .build();
    var headers = new Metadata();
    if (!token.isEmpty()) {
      headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    }
    return new AtelierClient(channel, reconnectTimeout, headers, null);
  }

  private ChannelCredentials credentials(boolean isSecure) {
    if (!isSecure) {
      return InsecureChannelCredentials.create();
    }
    var builder = TlsChannelCredentials.newBuilder();
    if (authorities.length > 0) {
      try {
        builder.trustManager(new ByteArrayInputStream(authorities));
      } catch (IOException damaged) {
        throw new IllegalArgumentException("the authorities cannot be read", damaged);
      }
    }
    return builder.build();
  }

  /** Repeating any of these calls starts nothing twice. Streams are not among them: they continue after their last event. */
  private static Map<String, ?> serviceConfig() {
    var names =
        Stream.of(
                "GetCapabilities",
                "Health",
                "PlanGeneration",
                "GetGeneration",
                "ListGenerations",
                "CancelGeneration",
                "PauseEngine",
                "ResumeEngine")
            .map(method -> Map.of("service", "atelier.v1.GenerationService", "method", method))
            .toList();
    var policy =
        Map.of(
            "maxAttempts", 5.0,
            "initialBackoff", "0.1s",
            "maxBackoff", "2s",
            "backoffMultiplier", 2.0,
            "retryableStatusCodes", List.of("UNAVAILABLE", "CANCELLED"));
    return Map.of("methodConfig", List.of(Map.of("name", names, "retryPolicy", policy)));
  }
}
