package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

type webhookCommand struct {
	Listen webhookListenCommand `cmd:"" help:"Print the webhooks that arrive on a local port, for people who build a receiver."`
}

type webhookListenCommand struct {
	Listen string `env:"-" default:"127.0.0.1:9090" type:"address" help:"Address and port to listen on."`
}

// Run accepts every POST with 204 and prints its body on a line of its own, until
// the process is told to stop.
func (c *webhookListenCommand) Run(ctx context.Context, to streams) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", c.Listen, errors.Unwrap(err))
	}
	fmt.Fprintf(to.err, "Waiting for webhooks at http://%s/\n", listener.Addr())
	server := &http.Server{ReadTimeout: 30 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(to.out, "%s\n", body)
		w.WriteHeader(http.StatusNoContent)
	})}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
