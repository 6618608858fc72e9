// `cluster up` starts a whole cluster, says where it is, and ends it when its standard input closes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func init() {
	components["up"] = runUp
}

// ready is what `up` says, in one line of JSON, once the cluster can be used.
type ready struct {
	Server     string `json:"server"`
	CA         string `json:"ca"`
	Token      string `json:"token"` // An administrator's.
	Kubeconfig string `json:"kubeconfig"`
	Control    string `json:"control"` // The URL of the control server, see control.go.
	Audit      string `json:"audit"`
}

func runUp(arguments []string) int {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	home := flags.String("home", "", "a folder for everything the cluster writes; it must not hold another one")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}
	if *home == "" || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: cluster up --home FOLDER")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := up(ctx, *home); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "cluster: %s\n", err)
		return 1
	}
	return 0
}

// up runs a cluster until the context ends or one of its processes does.
func up(ctx context.Context, home string) error {
	p, err := newPlane(home, "127.0.0.1")
	if err != nil {
		return err
	}
	defer p.family.stopAll()
	if err := p.start(ctx); err != nil {
		return err
	}
	if err := p.startFakeNode(ctx); err != nil {
		return err
	}
	if err := p.finish(ctx); err != nil {
		return err
	}
	control, err := startControl(p)
	if err != nil {
		return err
	}
	defer control.close()
	line, err := json.Marshal(ready{
		Server:     p.server(),
		CA:         p.keys.CA,
		Token:      p.tokens["admin"],
		Kubeconfig: p.kubeconfig("admin"),
		Control:    control.url,
		Audit:      p.path("audit.log"),
	})
	if err != nil {
		return err
	}
	fmt.Println(string(line))

	select {
	case <-ctx.Done():
		last, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// The folders are empty, and the API server may be stopped: not worth a failure.
		_ = p.removeVolumes(last)
		return nil
	case <-p.family.died:
		return p.family.death()
	}
}
