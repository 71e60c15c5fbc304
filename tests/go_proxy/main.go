// A reverse proxy for gRPC, made of the standard library: it resets streams that are silent for too long, and on
// SIGHUP closes its connections with GOAWAY and begins anew.
//
// It prints a line for each stream that it resets.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// idleWriter allows each write only so long after the one before.
type idleWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	idle    time.Duration
}

func (writer *idleWriter) extend() { _ = writer.control.SetWriteDeadline(time.Now().Add(writer.idle)) }

func (writer *idleWriter) WriteHeader(status int) {
	writer.extend()
	writer.ResponseWriter.WriteHeader(status)
}

func (writer *idleWriter) Write(data []byte) (int, error) {
	writer.extend()
	return writer.ResponseWriter.Write(data)
}

func (writer *idleWriter) Unwrap() http.ResponseWriter { return writer.ResponseWriter }

func protocols() *http.Protocols {
	spoken := new(http.Protocols)
	spoken.SetUnencryptedHTTP2(true)
	return spoken
}

func handler(target string, idle time.Duration) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	proxy.Transport = &http.Transport{Protocols: protocols()}
	proxy.FlushInterval = -1 // at once
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		writer := &idleWriter{response, http.NewResponseController(response), idle}
		writer.extend()
		defer func() { // also when the proxy gives up by a panic
			if request.Context().Err() != nil {
				fmt.Println("reset", request.URL.Path)
			}
		}()
		proxy.ServeHTTP(writer, request)
	})
}

func main() {
	listen := flag.String("listen", "", "HOST:PORT to listen on")
	target := flag.String("target", "", "HOST:PORT of the server")
	idle := flag.Duration("idle", time.Minute, "longest silence of a stream")
	flag.Parse()
	renew := make(chan os.Signal, 1)
	signal.Notify(renew, syscall.SIGHUP)
	for {
		listener, err := net.Listen("tcp", *listen)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		server := &http.Server{Handler: handler(*target, *idle), Protocols: protocols()}
		go func() { _ = server.Serve(listener) }()
		fmt.Println("listening")
		<-renew
		soon, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		_ = server.Shutdown(soon) // sends GOAWAY
		cancel()
		_ = server.Close()
	}
}
