// Command echo is an upstream for demonstrations and tests: it answers 200 on
// every path and says in JSON which pod answered and what arrived there.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// answer is the body of every response.
type answer struct {
	Pod     string      `json:"pod"`
	Method  string      `json:"method"`
	Path    string      `json:"path"`
	Query   string      `json:"query"`
	Proto   string      `json:"proto"`
	Host    string      `json:"host"`
	Remote  string      `json:"remote"`
	Headers http.Header `json:"headers"`
	// BodyBytes is how much of a body arrived; Body is its start.
	BodyBytes int64  `json:"bodyBytes"`
	Body      string `json:"body"`
}

const bodyShown = 4096

func main() {
	address := os.Getenv("LISTEN")
	if address == "" {
		address = ":8080"
	}
	// Kubernetes sets the host name to the pod's name.
	pod, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: address, Handler: echo(pod), ReadHeaderTimeout: 10 * time.Second}

	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		<-stop.Done()
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- server.Shutdown(limit)
	}()
	log.Printf("pod %s listens on %s", pod, address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-done; err != nil {
		log.Fatal(err)
	}
}

func echo(pod string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, err := io.ReadAll(io.LimitReader(r.Body, bodyShown))
		rest := int64(0)
		if err == nil {
			rest, err = io.Copy(io.Discard, r.Body)
		}
		if err != nil {
			http.Error(w, "the body ended early: "+err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Echo-Pod", pod)
		encoder := json.NewEncoder(w)
		if err := encoder.Encode(answer{
			Pod: pod, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Proto: r.Proto,
			Host: r.Host, Remote: r.RemoteAddr, Headers: r.Header,
			BodyBytes: int64(len(start)) + rest, Body: string(start),
		}); err != nil {
			log.Printf("answer not sent: %v", err)
		}
	})
}
