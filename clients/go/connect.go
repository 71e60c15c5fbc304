package atelier

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"time"

	atelierv1 "example.com/atelier/go/atelier/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// The server ends connections that are pinged more often than every 5 s.
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 20 * time.Second
	// 64 outputs of 2 MiB each, all inline.
	maxReceiveBytes = 144 << 20
	// Repeating any of these methods starts nothing twice. Streams are not among them: they continue after their last event.
	serviceConfig = `{"methodConfig": [{
		"name": [
			{"service": "atelier.v1.GenerationService", "method": "GetCapabilities"},
			{"service": "atelier.v1.GenerationService", "method": "Health"},
			{"service": "atelier.v1.GenerationService", "method": "PlanGeneration"},
			{"service": "atelier.v1.GenerationService", "method": "GetGeneration"},
			{"service": "atelier.v1.GenerationService", "method": "ListGenerations"},
			{"service": "atelier.v1.GenerationService", "method": "CancelGeneration"},
			{"service": "atelier.v1.GenerationService", "method": "PauseEngine"},
			{"service": "atelier.v1.GenerationService", "method": "ResumeEngine"}
		],
		"retryPolicy": {
			"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]
		}
	}]}`
)

type settings struct {
	token            string
	tls              *tls.Config
	reconnectTimeout time.Duration
	dial             []grpc.DialOption
}

// Option changes how [Connect] reaches a server.
type Option func(*settings)

// WithToken sends an API key or a token with every call.
func WithToken(token string) Option { return func(to *settings) { to.token = token } }

// WithTLS sets authorities, certificates and names for addresses with https; without it, those of the system count.
func WithTLS(config *tls.Config) Option { return func(to *settings) { to.tls = config } }

// WithReconnectTimeout sets how long a stream or a transfer whose connection is lost is tried again; 30 seconds without
// it. The time counts from the first failure after the last answer of the server.
func WithReconnectTimeout(timeout time.Duration) Option {
	return func(to *settings) { to.reconnectTimeout = timeout }
}

// WithDialOptions passes options on to gRPC, such as interceptors; they win over those of this package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(to *settings) { to.dial = append(to.dial, options...) }
}

// Connect returns a client for the server at address: http://HOST:PORT, or https://HOST:PORT for TLS. The connection is
// made by the first call.
func Connect(address string, options ...Option) (*Client, error) {
	set := settings{reconnectTimeout: 30 * time.Second}
	for _, option := range options {
		option(&set)
	}
	target, err := url.Parse(address)
	if err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return nil, fmt.Errorf("the address %q is not http://HOST:PORT or https://HOST:PORT", address)
	}
	transport := insecure.NewCredentials()
	if target.Scheme == "https" {
		transport = credentials.NewTLS(set.tls)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceiveBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if set.token != "" {
		dial = append(dial, grpc.WithPerRPCCredentials(bearer(set.token)))
	}
	connection, err := grpc.NewClient("dns:///"+target.Host, append(dial, set.dial...)...)
	if err != nil {
		return nil, err
	}
	return &Client{
		Stub:             atelierv1.NewGenerationServiceClient(connection),
		connection:       connection,
		reconnectTimeout: set.reconnectTimeout,
		closed:           make(chan struct{}),
	}, nil
}

type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

// RequireTransportSecurity allows http: inside a cluster, TLS is often the work of a mesh.
func (bearer) RequireTransportSecurity() bool { return false }
