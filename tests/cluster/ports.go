// Ports that nobody else takes, also while nobody listens on them: a server that is stopped comes back on its own port.
package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The range lies below the one from which the kernel gives ports to outgoing connections.
const (
	firstPort = 16384
	lastPort  = 32767
)

// freePort finds a port at an address, and keeps it from other clusters as long as this process lives.
func freePort(address string) (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		// A name in the abstract name space: it goes with the process, and one process only can have it.
		mark, err := net.Listen("unix", fmt.Sprintf("@cluster-test-port-%d", port))
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			mark.Close()
			continue
		}
		reserved = append(reserved, mark)
		return port, listener.Close()
	}
	return 0, errors.New("found no free port")
}

// reserved holds the marks of freePort, which would otherwise be closed when they are collected.
var reserved []net.Listener
