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
	PID        int    `json:"pid,omitempty"` // With a real node: a process whose namespaces are the cluster's.
}

// options are what `up` is asked for.
type options struct {
	home   string
	real   bool     // Whether the node is a real one, see node.go.
	images []string // The files of images that a real node is given.
	first  int      // The first process of the cluster's namespaces, once this process is inside, see node_space.go.
}

func runUp(arguments []string) int {
	var asked options
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.StringVar(&asked.home, "home", "", "a folder for everything the cluster writes; it must not hold another one")
	node := flags.String("node", "fake", "what runs the pods: fake or real")
	flags.Func("image", "the file of an image for the real node; can be repeated", func(file string) error {
		asked.images = append(asked.images, file)
		return nil
	})
	flags.IntVar(&asked.first, "first", 0, "only for `up` itself")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}
	asked.real = *node == "real"
	if asked.home == "" || flags.NArg() > 0 || (!asked.real && (*node != "fake" || len(asked.images) > 0)) {
		fmt.Fprintln(os.Stderr, "usage: cluster up --home FOLDER [--node real [--image FILE]...]")
		return 2
	}
	if asked.real && asked.first == 0 {
		code, err := upInside(asked.home, arguments)
		if err != nil {
			fmt.Fprintf(os.Stderr, "cluster: %s\n", err)
		}
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := up(ctx, asked); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "cluster: %s\n", err)
		return 1
	}
	return 0
}

// up runs a cluster until the context ends or one of its processes does.
func up(ctx context.Context, asked options) error {
	address := "127.0.0.1"
	if asked.real {
		address = podGateway
		if err := makeNetwork(); err != nil {
			return err
		}
	}
	p, err := newPlane(asked.home, address)
	if err != nil {
		return err
	}
	defer p.family.stopAll()
	if err := p.startWithNode(ctx, asked); err != nil {
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
		PID:        asked.first,
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

// startWithNode starts the control plane and a node, and is back when pods can be made.
func (p *plane) startWithNode(ctx context.Context, asked options) error {
	if !asked.real {
		if err := p.start(ctx, fakeNodeControllers); err != nil {
			return err
		}
		if err := p.startFakeNode(ctx); err != nil {
			return err
		}
		return p.finish(ctx, hostPathProvisioner)
	}
	// Large images take as long as the control plane does.
	runtime := make(chan error, 1)
	go func() { runtime <- p.startRuntime(ctx, asked.images) }()
	if err := p.start(ctx, "*"); err != nil {
		return err
	}
	if err := <-runtime; err != nil {
		return err
	}
	if err := p.startRealNode(ctx); err != nil {
		return err
	}
	return p.finish(ctx, localProvisioner)
}
